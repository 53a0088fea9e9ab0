"""`factory evaluate ORG/NAME`: model and rows come from the Hub that HF_ENDPOINT names (here a small one)."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from benchmark_rows import arc_row, write

from factory.tasks.suites import SUITES

ROOT = Path(__file__).parents[2]
COMMITS = {
    "models/my-org/tiny": "1" * 40,
    "datasets/allenai/ai2_arc": str(SUITES["openllm_v1"]["arc"].revision),  # the commit that is asked for
}

pytestmark = pytest.mark.slow


def listed(file: Path, folder: Path) -> dict[str, Any]:
    path = file.relative_to(folder).as_posix()
    return {"type": "file", "path": path, "size": file.stat().st_size, "oid": "0" * 40}


@pytest.fixture
def hub(tiny_model: Path, tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """Address of a Hub with one model and one dataset, and the paths it was asked for."""
    rows = tmp_path / "ai2_arc" / "ARC-Challenge"
    write([arc_row(i) for i in range(6)], rows / "test-00000-of-00001.parquet")
    write([arc_row(i) for i in range(9, 12)], rows / "train-00000-of-00001.parquet")
    write([arc_row(90)], tmp_path / "ai2_arc" / "ARC-Easy" / "test-00000-of-00001.parquet")
    folders = {"models/my-org/tiny": tiny_model, "datasets/allenai/ai2_arc": tmp_path / "ai2_arc"}
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path).strip("/")
            asked.append(path)
            for repo, folder in folders.items():
                commit, plain = COMMITS[repo], repo.removeprefix("models/")
                if path in (f"api/{repo}", f"api/{repo}/revision/{commit}"):
                    files = sorted(p for p in folder.rglob("*") if p.is_file())
                    names = [{"rfilename": p.relative_to(folder).as_posix()} for p in files]
                    told = {"id": repo.split("/", 1)[1], "sha": commit, "siblings": names, "tags": []}
                    return self.answer(json.dumps(told).encode(), commit)
                if path.startswith(f"api/{repo}/tree/{commit}"):
                    tree = [listed(p, folder) for p in sorted(folder.rglob("*")) if p.is_file()]
                    return self.answer(json.dumps(tree).encode(), commit)
                if path.startswith(f"{plain}/resolve/{commit}/"):
                    file = folder / path.removeprefix(f"{plain}/resolve/{commit}/")
                    if file.is_file():
                        return self.answer(file.read_bytes(), commit)
                    return self.answer(b"", commit, 404, "EntryNotFound")
            return self.answer(b"{}", "", 404, "RepoNotFound")

        def answer(self, body: bytes, commit: str, code: int = 200, error: str = "") -> None:
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Type", "application/json")
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()[:40]}"')
            self.send_header("X-Repo-Commit", commit)
            if error:
                self.send_header("X-Error-Code", error)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


def evaluate(endpoint: str, home: Path, *more: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-m", "factory.cli", "evaluate", "my-org/tiny", "--tasks", "arc"]
    return subprocess.run(
        [*command, "--shots", "arc=2", "--json", *more],
        cwd=ROOT, env=environment, capture_output=True, text=True,
    )  # fmt: skip


def test_a_model_and_rows_of_the_hub_are_scored(hub: tuple[str, list[str]], tmp_path: Path) -> None:
    endpoint, asked = hub
    done = evaluate(endpoint, tmp_path / "home", "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "out" / "record.json").read_text())
    assert record["inputs"] == {
        "model": f"hub:my-org/tiny@{'1' * 40}",
        "data.arc": f"hub:allenai/ai2_arc@{COMMITS['datasets/allenai/ai2_arc']}",
    }
    assert record["facts"]["tasks"]["arc"]["n"] == 6
    (results,) = (tmp_path / "out" / "results" / "my-org" / "tiny").iterdir()
    content = json.loads(results.read_text())
    assert content["config_general"]["model_name"] == "my-org/tiny"
    (config,) = content["config_tasks"].values()
    assert config["hf_revision"] == COMMITS["datasets/allenai/ai2_arc"], "what was read"
    assert not any("ARC-Easy" in path and "resolve" in path for path in asked), "only what is read is fetched"


def test_a_model_the_hub_does_not_have_is_one_line(hub: tuple[str, list[str]], tmp_path: Path) -> None:
    endpoint, _ = hub
    done = evaluate(endpoint, tmp_path / "home", "--revision", "none")
    assert done.returncode == 2
    assert done.stderr.startswith("error: MODEL: ") and done.stderr.count("\n") == 1
