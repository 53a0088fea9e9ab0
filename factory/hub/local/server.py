"""The local Hub as one Starlette app, and the process that serves it: `factory hub serve`."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from time import monotonic, sleep

from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from factory.errors import FactoryError
from factory.hub.local import collections, discussions, files, identities, pages, repositories, uploads
from factory.hub.local.accounts import Directory
from factory.hub.local.blobs import MissingError
from factory.hub.local.faults import Faults
from factory.hub.local.storage import ConflictError, Store
from factory.hub.local.wire import Hub, RefusedError, refused


class _AsSent:
    """Routes by the path as it was sent: `refs%2Fpr%2F1` is one part of it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http":
            scope = {**scope, "path": scope["raw_path"].decode("ascii")}
        await self._app(scope, receive, send)


def make_app(root: Path, *, faults: bool = False) -> ASGIApp:
    """The Hub that keeps its state below `root`; with `faults`, tests may set some (faults.py)."""
    store = Store(root)
    hub = Hub(store, Directory(store))
    app = Starlette(
        routes=[
            *repositories.FIRST,
            *identities.ROUTES,
            *collections.ROUTES,
            *uploads.ROUTES,
            *discussions.ROUTES,
            *files.ROUTES,
            *repositories.ROUTES,
            *pages.ROUTES,
        ],
        exception_handlers={RefusedError: refused, ConflictError: refused, MissingError: refused},
    )
    app.state.hub = hub
    sent = _AsSent(app)
    return Faults(sent, hub) if faults else sent


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens, so that a taken port is told before anything starts; 0 takes a free one.

    Raises:
        FactoryError: the address cannot be had.
    """
    try:
        return socket.create_server((host, port), backlog=128)
    except OSError as error:
        what = f"cannot listen there: {error.strerror or error}"
        raise FactoryError(what, where=f"{host}:{port}", mend="Choose another --port") from None


def serve(root: Path, listening: socket.socket, *, faults: bool = False) -> None:
    """Serves until it is interrupted, which is how it ends well."""
    with suppress(KeyboardInterrupt):  # uvicorn stops first, and raises it then
        _server(root, faults).run([listening])


def _server(root: Path, faults: bool):  # type: ignore[no-untyped-def]
    import uvicorn

    # h11: faults.py needs its transport, and it is as fast as the disk here.
    config = uvicorn.Config(make_app(root, faults=faults), http="h11", log_level="warning", lifespan="off")
    return uvicorn.Server(config)


@contextmanager
def running(root: Path, *, faults: bool = False) -> Iterator[str]:
    """Serves in a thread on a free port of loopback; yields the address for HF_ENDPOINT."""
    listening = listen("127.0.0.1", 0)
    server = _server(root, faults)
    thread = Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    until = monotonic() + 30
    while not server.started:
        if not thread.is_alive() or monotonic() > until:
            raise RuntimeError("the local Hub did not start")
        sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
