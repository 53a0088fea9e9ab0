"""The local Hub for tests: served in a thread, spoken to by real clients in processes of their own."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from factory.hub.local import server
from factory.hub.local.accounts import Directory
from factory.hub.local.storage import Store

BEFORE = """
import json, os, sys
from pathlib import Path
from huggingface_hub import CommitOperationAdd as Add, CommitOperationDelete as Delete, HfApi
from huggingface_hub.errors import *
api, home = HfApi(), Path(os.environ["HF_HOME"])
told = {}
"""
CLAIMS = {"repository": "acme/recipes", "environment": "publish"}


@dataclass(frozen=True)
class Served:
    """A Hub that answers: `ann` may write in acme, `bob` only reads there, `eve` is a stranger."""

    url: str
    root: Path
    tokens: dict[str, str]

    @property
    def store(self) -> Store:
        """Its state, as on disk."""
        return Store(self.root)

    def environment(self, who: str | None, home: Path) -> dict[str, str]:
        """What a client's process is told: the Hub, a token, an empty cache."""
        told = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        told |= {"HF_ENDPOINT": self.url, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(home)}
        return told | ({"HF_TOKEN": self.tokens[who]} if who else {})

    def client(self, code: str, home: Path, who: str | None = "ann") -> dict[str, Any]:
        """Runs code with `api`, a HfApi, in a fresh process; what it put into `told`."""
        script = f"{BEFORE}{code}\nprint('TOLD' + json.dumps(told))"
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", script],
            env=self.environment(who, home), capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.rpartition("TOLD")[2])

    def ask(self, method: str, path: str, who: str | None = "ann", **words: Any) -> httpx2.Response:
        """One request as it is, no redirects followed."""
        headers = {**words.pop("headers", {}), **self._bearer(who)}
        return httpx2.request(method, self.url + path, headers=headers, **words)

    def _bearer(self, who: str | None) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens[who]}"} if who else {}

    def create(self, name: str = "acme/tiny", kind: str = "model", private: bool = False) -> str:
        """A new repository; its first commit."""
        namespace, short = name.split("/")
        visibility = "private" if private else "public"
        body = {"name": short, "organization": namespace, "type": kind, "visibility": visibility}
        assert self.ask("POST", "/api/repos/create", json=body).status_code == 200
        return self.head(name, f"{kind}s")

    def head(self, name: str = "acme/tiny", kind: str = "models") -> str:
        """The commit that main names."""
        return self.store.load(kind, name).refs["refs/heads/main"]

    def commit(
        self,
        *lines: tuple[str, dict[str, Any]],
        name: str = "acme/tiny",
        parent: str | None = None,
        who: str = "ann",
        query: str = "",
    ) -> httpx2.Response:
        """A commit to main of operations as the protocol has them."""  # fmt: skip
        header = {"summary": "a commit", "description": ""} | ({"parentCommit": parent} if parent else {})
        body = "".join(json.dumps({"key": k, "value": v}) + "\n" for k, v in [("header", header), *lines])
        return self.ask("POST", f"/api/models/{name}/commit/main{query}", who, content=body.encode())

    def faults(self, *faults: dict[str, Any]) -> None:
        """Sets what goes wrong from now on."""
        assert httpx2.put(f"{self.url}/faults", json=list(faults)).status_code == 200


def file(path: str, content: str) -> tuple[str, dict[str, Any]]:
    """The operation that adds a small file."""
    encoded = base64.b64encode(content.encode()).decode()
    return "file", {"path": path, "content": encoded, "encoding": "base64"}


def identity(hub: Served, **claims: str) -> str:
    """What the runner of a workflow says of a job; a local Hub does not check the signature."""
    told = base64.urlsafe_b64encode(json.dumps({"aud": hub.url, **CLAIMS, **claims}).encode())
    return f"e30.{told.decode().rstrip('=')}.x"


@contextmanager
def served(root: Path) -> Iterator[Served]:
    """A new Hub below `root`."""
    directory = Directory(Store(root))
    directory.add_user("ann", {"acme": "write"})
    directory.add_user("bob", {"acme": "read"})
    directory.add_user("eve")
    tokens = {user: directory.add_token(user, "write") for user in ("ann", "bob", "eve")}
    tokens["reader"] = directory.add_token("ann", "read", "reader")
    with server.running(root, faults=True) as url:
        yield Served(url, root, tokens)
