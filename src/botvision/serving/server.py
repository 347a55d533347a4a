"""The server behind the page, on aiohttp: everything stays in memory, and everything is limited."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from botvision.configuration import FieldError
from botvision.errors import UserError, printable
from botvision.serving.answers import Answers
from botvision.serving.limits import ServeLimits
from botvision.tasks.predictor import Predictor

logger = logging.getLogger("botvision")

MEGABYTE = 2**20
FOLDER = Path(__file__).parent / "page"
FILES = {"/": "index.html", "/style.css": "style.css", "/page.js": "page.js", "/drawing.js": "drawing.js"}
"""What the page is made of."""
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The browser itself lets the page ask no other host for anything."""
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
CLOSING_SECONDS = 2.0
"""Answers that are under way when the server is ended have so long."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """Answers the page; one image after the other goes through the model."""

    def __init__(self, answers: Answers, limits: ServeLimits) -> None:
        self.answers, self.limits = answers, limits
        self.room = asyncio.Semaphore(limits.max_uploads)
        self.waiting = 0
        self.model = ThreadPoolExecutor(1, thread_name_prefix="model")

    def app(self) -> web.Application:
        """The routes."""
        largest = max(1, round(self.limits.max_megabytes * MEGABYTE))  # aiohttp takes 0 for no limit
        app = web.Application(middlewares=[self.guard], client_max_size=largest)
        app.add_routes([web.get(path, partial(send_file, FOLDER / name)) for path, name in FILES.items()])
        app.add_routes([web.get("/about", self.about), web.post("/predict", self.predict)])
        app.add_routes([web.post("/attend", self.attend)])
        return app

    async def about(self, request: web.Request) -> web.Response:
        """The model, and the limit that the page checks itself."""
        return web.json_response({**self.answers.about(), "max_megabytes": self.limits.max_megabytes})

    async def predict(self, request: web.Request) -> web.Response:
        """What is in an image, the body of the request."""
        return await self.of_image(request, self.answers.predict)

    async def attend(self, request: web.Request) -> web.Response:
        """Where the heads look from ``x``, ``y`` of an image, the body of the request."""
        try:
            x, y = (int(request.query.get(name, "")) for name in ("x", "y"))
        except ValueError as error:
            raise UserError("x and y should be whole numbers, a point of the image") from error
        block = request.query.get("block", "")
        return await self.of_image(request, partial(self.answers.attend, x=x, y=y, block=block))

    async def of_image(self, request: web.Request, answer: Callable[..., dict[str, Any]]) -> web.Response:
        """Receive an image, and answer it in the thread of the model."""
        if (request.content_length or 0) > self.limits.max_megabytes * MEGABYTE:  # others are refused as they arrive
            raise web.HTTPRequestEntityTooLarge(self.limits.max_megabytes, request.content_length or 0)
        if self.waiting >= self.limits.max_waiting:
            raise web.HTTPServiceUnavailable(text="too many images are waiting; try again in a minute")
        self.waiting += 1
        try:
            async with asyncio.timeout(self.limits.max_seconds), self.room:
                encoded = await request.read()
                name = printable(PurePath(request.query.get("name", "the image")).name[:100])
                loop = asyncio.get_running_loop()
                return web.json_response(await loop.run_in_executor(self.model, partial(answer, encoded, name)))
        except TimeoutError as error:
            text = f"no answer within {self.limits.max_seconds:g} seconds; take a smaller image, or try again later"
            raise web.HTTPServiceUnavailable(text=text) from error
        finally:
            self.waiting -= 1

    @web.middleware
    async def guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer errors in one line, and send the headers that keep the page to itself."""
        response: web.StreamResponse
        try:
            if request.method == "POST" and not is_from_own_page(request):
                raise web.HTTPForbidden(text="only the page itself may ask")
            response = await handler(request)
        except UserError as error:
            response = web.Response(status=400, text=str(error))
        except web.HTTPRequestEntityTooLarge:
            text = f"the file is larger than {self.limits.max_megabytes:g} MB, the most that is taken"
            response = web.Response(status=413, text=text)
        except web.HTTPException as error:
            response = web.Response(status=error.status, text=error.text)
        except Exception:
            logger.exception("%s %s", request.method, request.path)
            response = web.Response(status=500, text="the server failed on this image; its own output says why")
        response.headers.update(HEADERS)
        return response


def is_from_own_page(request: web.Request) -> bool:
    """Whether the server's own page asks, or a program: pages of other hosts do not use the model.

    Browsers say it in ``Sec-Fetch-Site``, and where the connection is not trusted, in ``Origin`` alone.
    """
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site is not None:
        return site in ("same-origin", "none")
    return origin is None or urlsplit(origin).netloc == request.host


async def send_file(file: Path, request: web.Request) -> web.Response:
    """A file of the page."""
    return web.Response(text=file.read_text(encoding="utf-8"), content_type=KINDS[file.suffix])


async def serve_page(
    predictor: Predictor, host: str, port: int, limits: ServeLimits, on_ready: Callable[[str], None]
) -> None:
    """Serve the page until the task is cancelled.

    Args:
        predictor: the model.
        host: address to listen on.
        port: 0 takes a free one.
        limits: on what one user can take.
        on_ready: told the URL of the page.

    Raises:
        FieldError: the port is taken, or the host is none of this machine's.
    """
    app = Server(Answers(predictor), limits).app()
    runner = web.AppRunner(
        app,
        access_log=None,
        handler_cancellation=True,  # images of those who left are not worked on
        lingering_time=limits.max_seconds,  # those who send too much are heard out, or would not hear why it is refused
        shutdown_timeout=CLOSING_SECONDS,
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        address = runner.addresses[0]
        on_ready(f"http://{f'[{address[0]}]' if ':' in address[0] else address[0]}:{address[1]}/")
        await asyncio.Event().wait()
    except OSError as error:
        problem = f"{host}:{port} cannot be listened on ({error.strerror or error}); choose another port or host"
        raise FieldError(("port",), problem) from error
    finally:
        await runner.cleanup()
