"""`factory publish` and `factory pull`. Joined to the others in cli.py, and as thin: hub/ does the work."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from factory.commands.options import RUNS, AsJson, RunName, RunsDir
from factory.run.ending import orderly

if TYPE_CHECKING:
    from factory.hub.before import Seen
    from factory.hub.contents import Draft
    from factory.hub.ledger import Record

commands = typer.Typer()

_STEPS = {
    "look": "looking at what is there",
    "create": "creating the repository, private if it is new",
    "send": "sending what is new, in one commit",
    "read back": "reading everything back, comparing, and trying it",
    "tag": "naming the version",
    "make public": "making it public",
    "collect": "grouping in a collection",
    "fetch": "fetching",
    "compare": "comparing with the manifest",
}


@commands.command()
def publish(
    run: RunName,
    runs_dir: RunsDir = RUNS,
    namespace: Annotated[
        str | None, typer.Option(metavar="NAME", help="User or organisation; else the recipe's.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="What is new stays private.")] = False,
    create_pr: Annotated[
        bool, typer.Option("--create-pr", help="Open pull requests instead of committing.")
    ] = False,
    trusted: Annotated[
        bool, typer.Option("--trusted", help="By a workflow's identity (OIDC), HF_TOKEN where that fails.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent; send nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Publish a finished run's models and datasets on the Hub, each whole or not at all.

    What: `publish` in the recipe. Again: nothing, or one commit with what changed. After a failure: go on.
    """
    from factory.hub import contents
    from factory.hub.publish import options_of, publish_run
    from factory.hub.session import Patience

    done = contents.finished(run, runs_dir)
    options = options_of(done, namespace, private, create_pr, trusted)
    if dry_run:
        _rehearse(contents.drafts(done, options.namespace), as_json)
        return
    quiet(as_json)
    with orderly():
        found = publish_run(done, options, Patience(), lambda repo, step: tell(repo, step, as_json))
    if as_json:
        told = [{**record.model_dump(mode="json"), "changed": changed} for record, changed in found]
        print(json.dumps({"kind": "result", "published": told}))
        return
    for record, changed in found:
        print(f"{line_of(record)}{'' if changed else '; nothing had changed'}")
    for place in sorted({collection_of(record) for record, _ in found if record.collection}):
        print(f"{place}: the collection of them")


def line_of(record: Record) -> str:
    """What a publication is, in one line."""
    if record.pull_request is not None:
        return f"{record.url}/discussions/{record.pull_request}: pull request {record.pull_request}"
    seen = "" if record.public else ", private"
    return f"{record.url}: {record.tag or 'main'}, commit {record.commit[:12]}{seen}"


def collection_of(record: Record) -> str:
    """The address of the collection that groups it with the others of its run."""
    hub = record.url.removesuffix(record.repository).removesuffix("datasets/")
    return f"{hub}collections/{record.collection}"


def quiet(as_json: bool) -> None:
    """huggingface_hub's bars with bytes, where somebody looks at them."""
    from huggingface_hub.utils import disable_progress_bars

    if as_json or not sys.stderr.isatty():
        disable_progress_bars()


def tell(where: str, step: str, as_json: bool) -> None:
    """A step that begins, for a person or a program."""
    if as_json:
        print(json.dumps({"kind": "step", "repository": where, "step": step}), flush=True)
    else:
        print(f"{where}: {_STEPS[step]}", file=sys.stderr, flush=True)


def _rehearse(drafts: list[Draft], as_json: bool) -> None:
    """Prints every repository with its files, and what the Hub has of them."""
    from factory.commands import display
    from factory.errors import FactoryError
    from factory.hub.before import look
    from factory.hub.session import Patience, connect

    patience = Patience(tries=2)
    api, told = connect(patience), []
    for draft in drafts:
        try:
            seen: Seen | None = look(api, draft, patience)
        except FactoryError as error:
            print(f"warning: {error}", file=sys.stderr)
            seen = None
        states = _states(draft, seen)
        sizes = draft.sizes()
        files = [{"path": p, "size": sizes.get(p), "state": state} for p, state in states.items()]
        head = seen.head if seen else None
        told.append({"kind": draft.kind, "repository": draft.id, "head": head, "files": files})
        if not as_json:
            there = (
                "the Hub was not asked" if seen is None else f"is there, at {head[:12]}" if head else "new"
            )
            total = sum(sizes.values())
            print(f"{draft.kind} {draft.id}: {there}; {len(sizes)} files, {_bytes(total)}")
            rows = [[p, s, _bytes(sizes[p]) if p in sizes else ""] for p, s in states.items()]
            display.table(["file", "state", "size"], rows, left=2)
            print()
    if as_json:
        print(json.dumps({"kind": "result", "dry_run": told}))
    else:
        print("nothing was sent")


def _states(draft: Draft, seen: Seen | None) -> dict[str, str]:
    """By path: new, changed, there, goes, or `?` where the Hub could not be asked."""
    if seen is None:
        return dict.fromkeys(draft.files, "?")
    there: Mapping[str, str] = seen.files or {}
    states = {}
    for path, source in draft.files.items():
        if path not in there:
            states[path] = "new"
        else:
            states[path] = "there" if there[path] in _names(source) else "changed"
    gone = (seen.owned or frozenset()) & there.keys() - draft.files.keys()
    return states | dict.fromkeys(sorted(gone), "goes")


def _names(source: Path | bytes) -> tuple[str, str]:
    """What the Hub may call a content: its sha256, or git's name of it."""
    from factory.hub.parcel import sums_of

    sums = sums_of(source)
    return sums.sha256, sums.git


def _bytes(size: int) -> str:
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} B"


@commands.command()
def pull(
    name: Annotated[
        str, typer.Argument(metavar="ID", help="namespace/name of a model or dataset on the Hub.")
    ],
    revision: Annotated[
        str | None, typer.Option(metavar="REV", help="A tag such as v1, a branch or a commit.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The folder to make; by default ID's name, here.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fetch a published model or dataset, compare every file with its manifest, and show its scores."""
    from factory.hub.pull import pull as fetch
    from factory.hub.session import Patience

    quiet(as_json)
    with orderly():
        pulled = fetch(name, revision, out, Patience(), lambda step: tell(name, step, as_json))
    manifest = pulled.manifest
    if as_json:
        told: dict[str, Any] = {"folder": str(pulled.folder), "commit": pulled.commit, "fresh": pulled.fresh}
        told |= {"manifest": manifest.model_dump(mode="json", exclude={"files"})}
        print(
            json.dumps(
                {"kind": "result", **told, "files": len(manifest.files), "report": _report(pulled.folder)}
            )
        )
        return
    base = f"{manifest.base['model']} at {manifest.base['revision']}"
    print(f"{manifest.kind} {manifest.name} of the recipe {manifest.recipe}, base {base}")
    how = "fetched" if pulled.fresh else "was here already"
    total = sum(named.size for named in manifest.files.values())
    print(f"{len(manifest.files)} files, {_bytes(total)}, all as the manifest says; {how}: {pulled.folder}")
    try:
        _show(pulled.folder, manifest.kind)
    except (OSError, LookupError, TypeError, ValueError):  # whatever another version wrote
        print(f"its scores are told as version {manifest.factory} tells them: see {pulled.folder}/README.md")


def _show(folder: Path, kind: str) -> None:
    """Scores of a model, counts of a dataset."""
    if kind == "dataset":
        facts = json.loads((folder / "record.json").read_text(encoding="utf-8"))["facts"]
        print(f"{facts['rows']:,} rows, of which {facts['kept_regenerated']:,} hold the regenerated response")
    elif (folder / "report.json").is_file():
        from factory.commands import display

        print()
        display.score_table(folder / "report.json", width=80)


def _report(folder: Path) -> dict[str, Any] | None:
    path = folder / "report.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
