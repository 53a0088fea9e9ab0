"""Commits on the local Hub: whole or not at all, whatever is asked and whoever is killed."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from local_hub import Served, file, served

from factory.hub.local.storage import Store

PATHS = st.sampled_from(["a", "b", "d/a", "d/b", "d/e/a", "f.txt"])


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.lists(st.tuples(PATHS, st.none() | st.text(max_size=5)), min_size=1, max_size=3), max_size=5)
)
def test_the_tree_is_what_the_operations_say(changes: list[list[tuple[str, str | None]]]) -> None:
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as hub:
        hub.create()
        expected: dict[str, str] = {}
        for change in changes:
            head, wanted = hub.head(), dict(change)
            possible = all(content is not None or path in expected for path, content in wanted.items())
            lines = [
                file(path, content) if content is not None else ("deletedFile", {"path": path})
                for path, content in wanted.items()
            ]
            answer = hub.commit(*lines, parent=head)
            assert (answer.status_code == 200) == possible
            if possible:
                expected |= {path: content for path, content in wanted.items() if content is not None}
                expected = {path: c for path, c in expected.items() if wanted.get(path, c) is not None}
                assert hub.head() == answer.json()["commitOid"]
            else:
                assert hub.head() == head
        store = hub.store
        files = store.resolve(store.load("models", "acme/tiny"), "main").files
        found = {path: store.blobs.read(entry.sha256).decode() for path, entry in files.items()}
        assert {path: content for path, content in found.items() if path != ".gitattributes"} == expected


@pytest.mark.parametrize(
    "line",
    [
        ("file", {"path": "../out", "content": "", "encoding": "base64"}),
        ("file", {"path": "/etc/x", "content": "", "encoding": "base64"}),
        ("file", {"path": ".git/config", "content": "", "encoding": "base64"}),
        ("file", {"path": "a", "content": "no base64!", "encoding": "base64"}),
        ("file", {"path": "here/below", "content": "", "encoding": "base64"}),
        ("lfsFile", {"path": "a", "algo": "sha256", "oid": "0" * 64, "size": 3}),
        ("lfsFile", {"path": "a", "algo": "sha256", "oid": "../../token", "size": 3}),
        ("deletedFile", {"path": "none"}),
        ("deletedFolder", {"path": "none/"}),
        ("renamed", {"path": "a"}),
        ("file", {"content": ""}),
    ],
)
def test_a_commit_with_one_bad_operation_changes_nothing(hub: Served, line: tuple[str, dict]) -> None:
    hub.create()
    head = hub.commit(file("here", "a file")).json()["commitOid"]
    assert hub.commit(file("good", "x"), line).status_code in (400, 404)
    assert hub.head() == head


def test_of_many_commits_on_one_parent_one_wins(hub: Served) -> None:
    head = hub.create()
    answers: list[int] = []

    def try_it(i: int) -> None:
        answers.append(hub.commit(file(f"{i}.txt", str(i)), parent=head).status_code)

    threads = [threading.Thread(target=try_it, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200] + [412] * 7


def test_a_large_content_that_is_not_what_was_announced_is_not_kept(hub: Served) -> None:
    hub.create()
    wanted = hashlib.sha256(b"wanted").hexdigest()
    body = {"operation": "upload", "objects": [{"oid": wanted, "size": 6}]}
    batch = hub.ask("POST", "/acme/tiny.git/info/lfs/objects/batch", json=body).json()
    link = batch["objects"][0]["actions"]["upload"]["href"]
    assert httpx2.put(link, content=b"other!").status_code == 400
    assert not hub.store.blobs.has(wanted)
    assert httpx2.put(link, content=b"wanted").status_code == 200
    again = hub.ask("POST", "/acme/tiny.git/info/lfs/objects/batch", json=body).json()
    assert "actions" not in again["objects"][0]


def test_ranges_and_redirects_of_a_large_file(hub: Served) -> None:
    hub.create()
    content = bytes(range(256)) * 10
    hub.store.blobs.add(content)
    sha256 = hashlib.sha256(content).hexdigest()
    line = ("lfsFile", {"path": "w.bin", "algo": "sha256", "oid": sha256, "size": len(content)})
    assert hub.commit(line).status_code == 200
    answer = hub.ask("HEAD", "/acme/tiny/resolve/main/w.bin")
    assert answer.status_code == 302 and answer.headers["X-Linked-Etag"] == f'"{sha256}"'
    assert (
        answer.headers["X-Linked-Size"] == str(len(content)) and answer.headers["X-Repo-Commit"] == hub.head()
    )
    link = answer.headers["Location"]
    assert httpx2.URL(link).host != httpx2.URL(hub.url).host
    part = httpx2.get(link, headers={"Range": "bytes=10-19"})
    assert part.status_code == 206 and part.content == content[10:20]
    assert httpx2.get(link, headers={"Range": "bytes=99999-"}).status_code == 416


def test_two_pull_requests_that_change_one_file_conflict(hub: Served) -> None:
    hub.create()
    hub.commit(file("a.txt", "old"))
    for text in ("one", "two"):
        assert (
            hub.commit(file("a.txt", text), file(f"{text}.txt", ""), query="?create_pr=1").status_code == 200
        )
    merge = "/api/models/acme/tiny/discussions/{}/merge"
    assert hub.ask("POST", merge.format(1)).status_code == 200
    details = hub.ask("GET", "/api/models/acme/tiny/discussions/2").json()
    assert details["filesWithConflicts"] == ["a.txt"]
    head = hub.head()
    assert hub.ask("POST", merge.format(2)).status_code == 409 and hub.head() == head


@pytest.mark.slow
def test_a_hub_killed_while_it_commits_is_whole_when_it_comes_back(tmp_path: Path) -> None:
    root = tmp_path / "hub"
    command = [
        sys.executable,
        "-m",
        "factory.cli",
        "hub",
        "serve",
        "--root",
        str(root),
        "--port",
        "0",
        "--json",
    ]
    said: list[str] = []
    for round_ in range(4):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["endpoint"]
        one = Served(url, root, {"ann": (root / "token").read_text()})
        if not round_:
            one.create("rehearsal/tiny")
        timer = threading.Timer(0.3 + 0.2 * round_, process.send_signal, [signal.SIGKILL])
        timer.start()
        try:
            for i in range(10_000):
                lines = [file(f"{part}.txt", f"{round_} {i}") for part in range(20)]
                said.append(one.commit(*lines, name="rehearsal/tiny").json()["commitOid"])
        except httpx2.HTTPError:
            pass
        assert process.wait(20) == -signal.SIGKILL
        process.stdout.close()
        store = Store(root)
        repository = store.load("models", "rehearsal/tiny")
        history = list(store.history(repository, store.resolve(repository, "main")))
        assert set(said) <= {commit.id for commit in history}
        for commit in history:
            assert not store.missing_blobs(commit.files.values())
            texts = {store.blobs.read(e.sha256) for p, e in commit.files.items() if p.endswith(".txt")}
            assert len(texts) <= 1, "a commit holds parts of two"
    assert len(said) > 4
