"""The version, in one place: packaging and checkpoints read it."""

__version__ = "0.1.0"
