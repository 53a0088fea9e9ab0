"""A finished run of the tiny model, made once for all tests that publish; `factory` in fresh processes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_hub import Served
from written import jsonl

from factory.cli import call

RECIPE = """\
name: tiny
base: {{model: {model}}}
prune: {{drop: "2:4", calibration: {{dataset: texts, rows: 2, max_tokens: 16}}, proof: false}}
datasets:
  math: {{id: math, prompt: math, check: final_number}}
regenerate: {{max_new_tokens: 4}}
train: {{sft: {{max_steps: 1}}}}
variants:
  own: {{data: [math], targets: self}}
evaluate: {{suite: sandbox_v1, tasks: [arc], limit: 2}}
publish: {{namespace: acme, push: [own], license: apache-2.0}}
"""


def make(folder: Path, model: Path) -> Path:
    """Runs the recipe in `folder`; the recipe's path."""
    jsonl(folder / "texts" / "train.jsonl", *({"text": f"Text number {i} to be read."} for i in range(4)))
    rows = ({"question": f"What is {i} and 1?", "answer": f"It is #### {i + 1}"} for i in range(4))
    jsonl(folder / "math" / "train.jsonl", *rows)
    path = folder / "tiny.yaml"
    path.write_text(RECIPE.format(model=model))
    assert call(["run", str(path), "--runs-dir", str(folder / "runs")]) == 0
    return path


def again(recipe: Path, runs: Path, *settings: str) -> None:
    """Runs the recipe once more with other values that no step reads."""
    overrides = [part for setting in settings for part in ("--set", setting)]
    assert call(["run", str(recipe), "--runs-dir", str(runs), *overrides]) == 0


@dataclass(frozen=True)
class Desk:
    """Where somebody publishes from: a run of their own, a Hub, a home with an empty cache."""

    hub: Served
    recipe: Path
    folder: Path

    @classmethod
    def at(cls, folder: Path, hub: Served, recipe: Path) -> Desk:
        """With a copy of the finished run."""
        shutil.copytree(recipe.parent / "runs", folder / "runs", symlinks=True)
        return cls(hub, recipe, folder)

    @property
    def run(self) -> Path:
        return self.folder / "runs" / "tiny"

    def start(self, *arguments: str, who: str | None = "ann", **told: str) -> subprocess.Popen[str]:
        """`factory` in a process of its own, told more than `Served.environment`."""
        environment = self.hub.environment(who, self.folder / "home") | told
        environment["PYTHONPATH"] = ":".join(path for path in sys.path if path)
        command = [sys.executable, "-m", "factory.cli", *arguments]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, env=environment, cwd=self.folder, stdout=pipe, stderr=pipe, text=True
        )

    def factory(self, *arguments: str, who: str | None = "ann", **told: str) -> tuple[int, str, str]:
        """Exit code and what was said, in which no token stands."""
        process = self.start(*arguments, who=who, **told)
        out, err = process.communicate()
        assert not any(token in out + err for token in self.hub.tokens.values())
        return process.returncode, out, err

    def publish(self, *options: str, who: str | None = "ann") -> list[dict[str, Any]]:
        """Publishes the run; a record a repository. No library has anything to warn of."""
        code, out, err = self.factory("publish", "tiny", "--json", *options, who=who)
        assert code == 0 and "Warning" not in err, err
        return json.loads(out.splitlines()[-1])["published"]

    def refused(self, *arguments: str, who: str | None = "ann", **told: str) -> str:
        """The one line that a command is refused with."""
        code, _, err = self.factory(*arguments, who=who, **told)
        lines = [line for line in err.splitlines() if line.startswith("error: ")]
        assert (code, len(lines)) == (2, 1), err
        return lines[0]

    def history(self, kind: str, name: str) -> list[str]:
        """The titles of main's commits but for the first, which the Hub makes; the newest first."""
        repository = self.hub.store.load(kind, name)
        commits = self.hub.store.history(repository, self.hub.store.resolve(repository, "main"))
        return [commit.title for commit in commits][:-1]

    def tags(self, kind: str, name: str) -> list[str]:
        """The versions of a repository."""
        refs = self.hub.store.load(kind, name).refs
        return sorted(ref.rpartition("/")[2] for ref in refs if "/tags/" in ref)
