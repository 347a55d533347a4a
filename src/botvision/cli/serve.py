"""`botvision serve`."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from botvision.cli.fields import chosen, flags, with_flags
from botvision.cli.output import say
from botvision.serving.limits import ServeLimits

LOCAL = ("127.0.0.1", "localhost", "::1")
"""Hosts that only this machine reaches."""


def serve(
    model: Path,
    /,
    *,
    host: str = LOCAL[0],
    port: Annotated[int, Field(ge=0, le=65535)] = 8000,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    **given: Any,  # noqa: ANN401 (of ServeLimits)
) -> int:
    """Serve a page to try a model: objects or classes in photographs, and where the attention looks from a point.

    The page asks no other host for anything, and what is given to it stays in memory. Ctrl-C ends it.

    Args:
        model: A checkpoint, a run folder (its best checkpoint), or hf-hub:OWNER/NAME.
        host: Address to listen on; 0.0.0.0 lets every machine of the network use the model, without a password.
        port: Port to listen on; 0 takes a free one.
        device: Where to run; auto takes a GPU where there is one.
    """
    from botvision.serving.server import serve_page
    from botvision.tasks.predictor import Predictor

    limits = chosen(ServeLimits, given, "serve")
    predictor = Predictor(model, device=device)
    if host not in LOCAL:
        say(f"everybody who reaches {host} can use the page")
    with suppress(KeyboardInterrupt):
        asyncio.run(serve_page(predictor, host, port, limits, lambda url: say(f"open {url} in a browser; Ctrl-C ends")))
    return 0


with_flags(serve, flags(ServeLimits, "Limits"))
