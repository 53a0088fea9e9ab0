"""Every fault at each request of a publication, each on a Hub of its own; prints one JSON line a case.

A program and not a test: huggingface_hub reads its settings when it is imported, and tests are offline. It is
run by test_transaction_faults.py:

    python fault_table.py WORKERS FOLDER [all]

Each case publishes with one fault, while a reader looks at the Hub all the time; then once more without, and
once again with nothing changed. What is printed is what the invariants want to know.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from local_hub import Served, served

from factory.errors import FactoryError
from factory.hub.local.accounts import Directory
from factory.hub.parcel import Parcel
from factory.hub.session import Patience, connect
from factory.hub.transaction import Intent, publish

PATIENCE = Patience(seconds=1.5, tries=3, pause=0.05, longest=0.2)
NAME = "acme/tiny"
OLD = {"README.md": b"---\nlicense: mit\n---\n# Old\n", "w.safetensors": b"old\0" * 50, "gone.txt": b"gone"}
NEW = {"README.md": b"---\nlicense: mit\n---\n# New\n", "w.safetensors": b"new\0" * 50, "more.json": b"{}"}

# At every request, for every change.
FAULTS: list[dict[str, Any]] = [
    {"does": "status", "status": 403},
    {"does": "status", "status": 503},
    {"does": "status", "status": 500, "after": True},
    {"does": "cut"},
    {"does": "cut", "after": True},
    {"does": "short", "after": True},
    {"does": "revoke"},
]
# With `all`, besides: they take their time.
MORE: list[dict[str, Any]] = [
    *({"does": "status", "status": status} for status in (401, 408, 412, 429, 500)),
    {"does": "status", "status": 429, "retry_after": 1},
    {"does": "status", "status": 500, "times": 99},
    {"does": "short"},
    {"does": "delay", "seconds": 2.5},
]
AT_THE_COMMIT: list[dict[str, Any]] = [
    {"does": "status", "status": 412},
    {"does": "beside"},
    {"does": "delay", "seconds": 2.5},
    {"does": "delay", "seconds": 2.5, "after": True},
]


def parcel(files: dict[str, bytes]) -> Parcel:
    return Parcel("model", NAME, files, "Publish", owned=frozenset(OLD))


@dataclass
class Memory:
    """What the machine that publishes keeps between tries."""

    intent: Intent | None = None

    def recall(self) -> Intent | None:
        return self.intent

    def remember(self, intent: Intent) -> None:
        self.intent = intent


@dataclass
class Reader:
    """Looks at what everybody can see, all the time."""

    hub: Served
    seen: list[dict[str, str] | None] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def look(self) -> None:
        found = self.hub.store.root / "repos" / "models" / NAME / "repo.json"
        store = self.hub.store
        while not self._stop.is_set():
            if found.exists():
                repository = store.load("models", NAME)
                visible = None if repository.private else contents(self.hub)
                if not self.seen or self.seen[-1] != visible:
                    self.seen.append(visible)
            time.sleep(0.01)

    def __enter__(self) -> Reader:
        self._thread = threading.Thread(target=self.look)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def contents(hub: Served) -> dict[str, str]:
    store = hub.store
    files = store.resolve(store.load("models", NAME), "main").files
    ours = {path: entry for path, entry in files.items() if path not in (".gitattributes", "BESIDE.txt")}
    return {path: store.blobs.read(entry.sha256).decode() for path, entry in ours.items()}


def attempt(hub: Served, who: str, files: dict[str, bytes], memory: Memory) -> Any:
    api = connect(PATIENCE, token=hub.tokens[who], endpoint=hub.url)
    try:
        return publish(api, parcel(files), PATIENCE, recall=memory.recall, remember=memory.remember)
    except FactoryError as error:
        return error


def case(folder: Path, flow: str, request: tuple[str, str] | None, fault: dict[str, Any]) -> dict[str, Any]:
    """One case, and what came of it."""
    with served(folder) as hub:
        hub.tokens["again"] = Directory(hub.store).add_token("ann", "write", "again")
        memory = Memory()
        before = Memory()
        while flow == "update" and isinstance(error := attempt(hub, "ann", OLD, before), FactoryError):
            print(f"once more, this machine is busy: {error}", file=sys.stderr)
        httpx2.request("DELETE", f"{hub.url}/faults")
        if request:
            hub.faults({"method": request[0], "path": request[1], **fault})
        with Reader(hub) as reader:
            first = attempt(hub, "ann", NEW, memory)
            asked = httpx2.get(f"{hub.url}/requests").json()
            httpx2.request("DELETE", f"{hub.url}/faults")
            second = attempt(hub, "again", NEW, memory)
            if isinstance(second, FactoryError) and "in the meantime" in str(second):
                second = attempt(hub, "again", NEW, memory)
            third = attempt(hub, "again", NEW, memory)
        repository = hub.store.load("models", NAME)
        history = list(hub.store.history(repository, hub.store.resolve(repository, "main")))
        said = [str(error) for error in (first, second, third) if isinstance(error, FactoryError)]
        return {
            "flow": flow,
            "request": request,
            "fault": fault,
            "asked": asked,
            "failed": [isinstance(one, FactoryError) for one in (first, second, third)],
            "said": said,
            "leaked": any(token in line for token in hub.tokens.values() for line in said),
            "seen": reader.seen,
            "contents": contents(hub),
            "ours": [commit.title for commit in history].count("Publish"),
            "private": repository.private,
            "tags": {ref: at == history[0].id for ref, at in repository.refs.items() if "/tags/" in ref},
            "changed_again": getattr(third, "changed", None),
            "whole": all(not hub.store.missing_blobs(commit.files.values()) for commit in history),
        }


def pattern(path: str) -> str:
    """A request's path without what differs from run to run."""
    import re

    return "^" + re.sub(r"[0-9a-f]{40,64}", "[0-9a-f]+", re.escape(path).replace(r"\-", "-")) + "$"


def main(workers: int, folder: Path, faults: list[dict[str, Any]]) -> None:
    cases: list[tuple[str, tuple[str, str] | None, dict[str, Any]]] = []
    for flow in ("new", "update"):
        clean = case(folder / flow, flow, None, {})
        print(json.dumps(clean), flush=True)
        requests = list(dict.fromkeys((method, pattern(path)) for method, path in clean["asked"]))
        for request in requests:
            more = AT_THE_COMMIT if "/commit/" in request[1] and request[0] == "POST" else []
            cases += [(flow, request, fault) for fault in [*faults, *more]]
    with ThreadPoolExecutor(workers) as pool:
        running = [pool.submit(case, folder / str(i), *one) for i, one in enumerate(cases)]
        for one in running:
            print(json.dumps(one.result()), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), FAULTS + MORE * ("all" in sys.argv[3:]))
