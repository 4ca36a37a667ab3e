"""The server of the live page: on this machine alone, for who has the token, and for reading only.

Who may ask: a request must name this host by ``localhost`` or ``127.0.0.1`` (any port, so that ``ssh -L`` works from
any), so that no page of another name that resolves to here can; must not come from a page of another origin; and must
have the token. What is read: files of the results folder, by names that were found there, never by paths.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import os
import re
import socket
import stat
from collections.abc import AsyncIterator, Callable
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.record.printable import printable
from bench.watch.board import Board

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

HOST = re.compile(r"(localhost|127\.0\.0\.1)(:\d{1,5})?")
TRIAL = re.compile(r"[0-9a-f]{12}")
LOG_BYTES = 20_000  # of a log, the last ones
MOST_READERS = 32
END_SECONDS = 2  # that an open page gets to be let go
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
FILES = {  # what the page consists of: the package and file of each, and its kind
    "/": ("bench.watch", "watch.html", "text/html"),
    "/watch.js": ("bench.watch", "watch.js", "text/javascript"),
    "/elements.js": ("bench.report", "elements.js", "text/javascript"),
    "/style.css": ("bench.report", "style.css", "text/css"),
}


class Guard:
    """Refuses what does not come from the page itself, before anything looks at the request."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        from starlette.requests import Request
        from starlette.responses import PlainTextResponse

        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        why = refusal(Request(scope), self._token)
        if why:
            await PlainTextResponse(f"{why}\n", 403, HEADERS)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def refusal(request: Request, token: str) -> str:
    """Says why a request is refused; nothing where it is not."""
    hosts, origins = request.headers.getlist("host"), request.headers.getlist("origin")
    if len(hosts) != 1 or not HOST.fullmatch(hosts[0]):
        return "this page must be asked for as localhost or 127.0.0.1"
    if any(origin != f"http://{hosts[0]}" for origin in origins):
        return "a page of another origin may not ask"
    opened = request.headers.get("sec-fetch-mode") == "navigate" and request.url.path == "/"  # a link that was clicked
    if not opened and request.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return "a page of another site may not ask"
    given = request.query_params.get("token", "")
    if not hmac.compare_digest(given.encode(), token.encode()):
        return "the token is missing or wrong: open the address that `bench watch` printed"
    return ""


def application(board: Board, token: str) -> Starlette:
    """Makes the application that shows ``board`` to who has ``token``."""
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.routing import Route

    readers = [0]

    async def events(request: Request) -> Response:
        from anyio import Event
        from sse_starlette import EventSourceResponse
        from starlette.responses import PlainTextResponse

        if readers[0] >= MOST_READERS:
            return PlainTextResponse(f"{MOST_READERS} pages are open already\n", 503, HEADERS)
        ending = Event()  # set when the server is asked to end
        told = _told(board, request.query_params.get("grid", ""), readers, ending.is_set)
        ends: Any = {"shutdown_event": ending, "shutdown_grace_period": END_SECONDS}
        return EventSourceResponse(told, headers=HEADERS, ping=15, send_timeout=30, **ends)

    async def log(request: Request) -> Response:
        from starlette.responses import PlainTextResponse

        name, trial = (request.query_params.get(one, "") for one in ("grid", "trial"))
        if name not in board.grids or not TRIAL.fullmatch(trial):
            return PlainTextResponse("no such trial\n", 404, HEADERS)
        return PlainTextResponse(read_log(board.grids[name].folder, trial), headers=HEADERS)

    routes = [Route(path, _file(*one)) for path, one in FILES.items()]
    routes += [Route("/events", events), Route("/log", log)]
    return Starlette(routes=routes, middleware=[Middleware(Guard, token=token)])


async def _told(
    board: Board, name: str, readers: list[int], has_ended: Callable[[], bool]
) -> AsyncIterator[dict[str, Any]]:
    """Yields what a page does not know yet, as events."""
    readers[0] += 1
    try:
        async for changed in board.changes(name, has_ended):
            yield {"event": "change", "data": json.dumps(changed, ensure_ascii=False, separators=(",", ":"))}
    finally:
        readers[0] -= 1


def _file(package: str, name: str, kind: str) -> Any:
    text = resources.files(package).joinpath("templates", name).read_text(encoding="utf-8")

    async def answer(request: Request) -> Response:
        from starlette.responses import Response

        token = request.query_params["token"]
        return Response(text.replace("TOKEN", token) if name.endswith(".html") else text, 200, HEADERS, kind)

    return answer


def read_log(folder: Path, trial: str) -> str:
    """Returns the end of a trial's log; only of a plain file that is in the results folder."""
    path = folder / "logs" / f"{trial}.log"
    try:
        if not path.parent.resolve().is_relative_to(folder.parent.resolve()):
            return "the folder of logs leads out of the results folder: it is not read"
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (OSError, RuntimeError):  # the latter: links in a circle
        return "no log"
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return "no log"
        end = os.pread(descriptor, LOG_BYTES, max(0, status.st_size - LOG_BYTES))
        return printable(end.decode("utf-8", "replace"))
    finally:
        os.close(descriptor)


def serve(board: Board, token: str, listening: socket.socket) -> None:
    """Serves until it is interrupted; all processes that this one started then end with it."""
    try:
        asyncio.run(Service(board, token, listening).run())
    finally:
        board.close()


class Service:
    """A server, and the look at the files that goes on beside it: where one of them ends, the other does."""

    def __init__(self, board: Board, token: str, listening: socket.socket) -> None:
        import uvicorn

        self._board, self._listening = board, listening
        config = uvicorn.Config(
            application(board, token),
            log_level="warning",
            access_log=False,  # the token is in each address
            server_header=False,
            proxy_headers=False,
            lifespan="off",
            timeout_graceful_shutdown=END_SECONDS + 1,
        )
        self._server = uvicorn.Server(config)

    def stop(self) -> None:
        self._server.should_exit = True

    async def run(self) -> None:
        """Serves until it is interrupted, or told to stop; raises what the look at the files raises."""
        looking = asyncio.create_task(self._board.keep_up())
        looking.add_done_callback(lambda _: self.stop())
        try:
            await self._server.serve(sockets=[self._listening])
        finally:
            looking.cancel()
            await asyncio.wait([looking])
        if not looking.cancelled():
            looking.result()


def listen(port: int | None) -> socket.socket:
    """Listens on a port of this machine alone: on the usual one, if it is free, where None is given; raises OSError."""
    for one in (port,) if port is not None else (USUAL_PORT, 0):
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(("127.0.0.1", one))
            listening.listen()
            return listening
        except OSError:
            listening.close()
            if port is not None:
                raise
    raise OSError("no port is free")


USUAL_PORT = 8765
