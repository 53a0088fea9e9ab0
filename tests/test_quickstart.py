"""The quickstart in small: a stock folder for every variant, nothing to do again, one edit redone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from small import SMALL

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow


def factory(*arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "factory.cli", *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def run_small(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    runs = tmp_path_factory.mktemp("quickstart") / "runs"
    overrides = [part for setting in (*SMALL, "drift=null") for part in ("--set", setting)]
    command = ["run", "recipes/quickstart.yaml", "--runs-dir", str(runs), *overrides]
    factory(*command)
    return command


def folder(command: list[str]) -> Path:
    return Path(command[3]) / "quickstart"


def test_the_report_has_every_model_with_scores_and_recovery(run_small: list[str]) -> None:
    report = json.loads((folder(run_small) / "report.json").read_text())
    assert [model["name"] for model in report["models"]] == [
        "base", "pruned", "math-sft", "math-self", "instruct-self", "merged",
    ]  # fmt: skip
    for model in report["models"]:
        for figure in (*model["scores"].values(), model["average"]):
            assert figure["low"] <= figure["value"] <= figure["high"] and figure["n"] > 0
    assert report["models"][0]["recovery"]["value"] == 1.0


def test_a_variant_loads_and_speaks_without_this_package(run_small: list[str]) -> None:
    script = (
        "import sys; from transformers import AutoModelForCausalLM as M, AutoTokenizer as T; p = sys.argv[1];"
        "m, t = M.from_pretrained(p), T.from_pretrained(p);"
        "x = t.apply_chat_template([{'role': 'user', 'content': 'What does a florp eat?'}],"
        " add_generation_prompt=True, return_tensors='pt', return_dict=True);"
        "print(t.decode(m.generate(**x, max_new_tokens=8)[0]));"
        "assert 'factory' not in sys.modules and m.generation_config.eos_token_id is not None"
    )
    for name in ("pruned", "math-sft", "merged"):
        model = folder(run_small) / "models" / name
        assert {path.suffix for path in model.iterdir() if "model" in path.name} <= {".safetensors", ".json"}
        done = subprocess.run(
            [sys.executable, "-c", script, str(model.resolve())],
            cwd=model.parents[1], capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("<|user|>")


def test_running_again_does_nothing_and_says_so(run_small: list[str]) -> None:
    assert "everything is up to date: 16 steps, nothing to do" in factory(*run_small).stdout


def test_a_new_learning_rate_redoes_that_variant_its_merge_and_their_scores(run_small: list[str]) -> None:
    edit = "variants.instruct-self.train={sft: {learning_rate: 2.0e-3}}"
    done = factory(*run_small, "--set", edit, "--json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert {event["step"] for event in events if event["kind"] == "done"} == {
        "train/instruct-self", "merge/merged", "evaluate/instruct-self", "evaluate/merged",
        "report",
    }  # fmt: skip
