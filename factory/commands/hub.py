"""`factory hub`: the commands on the local Hub, to rehearse a publication with. Joined in cli.py."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from factory.commands.options import AsJson

commands = typer.Typer(help="A Hub on this machine, to rehearse a publication with.", no_args_is_help=False)

Root = Annotated[Path, typer.Option("--root", metavar="DIR", help="Where the local Hub keeps everything.")]
USER = "rehearsal"


@commands.callback(invoke_without_command=True)
def _root(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@commands.command()
def serve(
    root: Root,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    host: Annotated[str, typer.Option(help="Anything but loopback opens it to others.")] = "127.0.0.1",
    namespace: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="An organisation to publish in. Repeatable.")
    ] = None,
    faults: Annotated[
        bool, typer.Option("--faults", help="Let tests make things go wrong over /faults.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Serve a Hub that huggingface_hub, transformers and datasets talk to, until it is interrupted.

    The token for it is in DIR/token: the printed settings point the clients there.
    """
    from factory.hub.local import server
    from factory.hub.local.settings import exports, settings

    listening = server.listen(host, port)
    endpoint = f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{listening.getsockname()[1]}"
    _make_token(root, namespace or [])
    if as_json:
        print(
            json.dumps({"kind": "result", "endpoint": endpoint, "environment": settings(endpoint, root)}),
            flush=True,
        )
    else:
        print(f"The local Hub is at {endpoint}. In the terminal that talks to it:\n")
        print("\n".join(f"    {line}" for line in exports(endpoint, root)))
        print(f"\nAll is kept in {root}. Ctrl-C ends it.", flush=True)
    server.serve(root, listening, faults=faults)


def _make_token(root: Path, namespaces: list[str]) -> None:
    """Sees to the file with the token of the one who rehearses; it is made at the first start."""
    from factory.hub.local.accounts import Directory
    from factory.hub.local.settings import TOKEN
    from factory.hub.local.storage import Store

    directory = Directory(Store(root))
    directory.add_user(USER, dict.fromkeys(namespaces, "write"))
    path = root / TOKEN
    if not path.exists() or directory.caller(path.read_text().strip()) is None:
        value = directory.add_token(USER, "write")
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(value)


@commands.command()
def load(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DATA", help="Datasets as <namespace>__<name>/<config>/<split>.parquet."),
    ],
    root: Root,
    as_json: AsJson = False,
) -> None:
    """Put datasets into the local Hub under their own names, served or not."""
    from factory.hub.local import loading
    from factory.hub.local.storage import Store

    def told(name: str, files: int) -> None:
        if not as_json:
            print(f"{name}: {files} file{'s' * (files > 1)}", flush=True)

    names = loading.load(Store(root), folder, told)
    if as_json:
        print(json.dumps({"kind": "result", "datasets": names}))
