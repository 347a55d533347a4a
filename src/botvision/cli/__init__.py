"""The command line: one module for each command, and ``app.py``, which assembles them."""

from botvision.cli.app import main

__all__ = ["main"]
