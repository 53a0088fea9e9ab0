"""The report says what the artifacts say, and its intervals are of paired documents."""

from __future__ import annotations

import io
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from factory import table
from factory.errors import FactoryError
from factory.stages import report

TASKS = {"arc": 120, "mmlu": 150, "gsm8k": 100}
# Chance of a right answer, by model; the same documents are hard for all.
SKILL = {"base": 0.85, "pruned": 0.35, "math-sft": 0.3, "math-self": 0.7, "text-self": 0.65, "merged": 0.71}
ROWS = (
    report.ModelRow(name="base", kind="base"),
    report.ModelRow(name="pruned", kind="pruned"),
    report.ModelRow(name="math-sft", kind="trained", targets="original", data=("math",)),
    report.ModelRow(name="math-self", kind="trained", targets="self", data=("math",)),
    report.ModelRow(name="text-self", kind="trained", targets="self", data=("text",)),
    report.ModelRow(name="merged", kind="merged", of=("math-self", "text-self"), method="slerp"),
)
SETTINGS = report.Settings(recipe="quickstart", models=ROWS, suite="sandbox_v1", seed=7, bootstrap=400)
MACHINE = {"cpu": "Test CPU", "cores": 2, "memory": 8e9, "gpus": [], "python": "3.11", "platform": "Linux"}
REASONS = {"ok": 90, "answer differs": 9, "no answer found": 1}
EXAMPLES = [
    {"instruction": "2 | 3?\nSay.", "original": "It is *5*.", "regenerated": "<5> #### 5", "reason": "ok"},
    {"instruction": "Why?", "original": "Because.", "regenerated": "y" * 900, "reason": "answer differs"},
]


def record(folder: Path, name: str, facts: dict[str, Any], **settings: Any) -> Path:
    folder.mkdir(parents=True)
    content = {
        "stage": name.split("/")[0],
        "name": name,
        "key": f"{abs(hash(name)):016x}"[:16],
        "version": 1,
        "settings": settings,
        "inputs": {"base": "sandbox:sandbox/base@abc"},
        "libraries": {"torch": "2.13.0"},
        "facts": facts,
        "started": "2026-01-01T00:00:00+00:00",
        "seconds": 72.5,
        "threads": 1,
        "peak_memory": 1_500_000_000,
        "machine": MACHINE,
        "factory": "0.1.0",
    }
    (folder / "record.json").write_text(json.dumps(content))
    return folder


def score_rows(task: str, model: str) -> dict[str, list[Any]]:
    n = TASKS[task]
    hardness = np.random.default_rng(len(task)).random(n)
    own = np.random.default_rng([len(task), len(model), ord(model[0])]).random(n)
    # Two subjects of unequal size: the mean of their means is not the mean of the rows.
    group = ["algebra" if task == "mmlu" and i < 30 else task for i in range(n)]
    right = 0.9 * hardness + 0.1 * own < SKILL[model]
    return {"index": list(range(n)), "score": right.astype(float).tolist(), "group": group}


def task_value(rows: dict[str, list[Any]]) -> float:
    by_group: dict[str, list[float]] = {}
    for group, score in zip(rows["group"], rows["score"], strict=True):
        by_group.setdefault(group, []).append(score)
    return float(np.mean([np.mean(scores) for scores in by_group.values()]))


def evaluated(folder: Path, model: str) -> Path:
    rows = {task: score_rows(task, model) for task in TASKS}
    values = {task: task_value(rows[task]) for task in TASKS}

    def estimate(value: float, n: int, **more: Any) -> dict[str, Any]:
        error = math.sqrt(value * (1 - value) / n)
        spread = {"low": value - 1.96 * error, "high": value + 1.96 * error}
        return {"value": value, "stderr": error, **spread, "n": n, **more}

    scores = {
        "suite": "sandbox_v1",
        "tasks": {task: estimate(values[task], n, metric="acc", shots=3) for task, n in TASKS.items()},
        "average": estimate(
            float(np.mean(list(values.values()))), sum(TASKS.values()), metric="mean", shots=None
        ),
    }
    blocks, parameters = (12, 1_310_000) if model == "base" else (9, 1_010_000)
    record(folder, f"evaluate/{model}", {**scores, "blocks": blocks, "parameters": parameters})
    (folder / "samples").mkdir()
    for task in TASKS:
        texts = {"prediction": ["a"] * TASKS[task], "gold": ["b"] * TASKS[task]}
        pq.write_table(pa.table({**rows[task], **texts}), folder / "samples" / f"{task}.parquet")
    (folder / "scores.json").write_text(json.dumps(scores))
    return folder


def distances(blocks: int = 12) -> list[list[float]]:
    """Growing with the run's length, least in the middle of the model."""
    return [
        [0.03 * n + 0.012 * abs(start + n / 2 - 0.6 * blocks) for start in range(blocks - n + 1)]
        for n in range(1, blocks)
    ]


def artifacts(root: Path) -> dict[str, Path]:
    """Artifact folders of a small run, by role, as the stages would leave them."""
    inputs = {"importance": record(root / "importance", "importance", {"rows": 64, "tokens": 9000})}
    found = {"metric": "angular", "blocks": 12, "distances": distances(), "rows": 64, "tokens": 9000}
    (inputs["importance"] / "importance.json").write_text(json.dumps(found))
    pruned = {
        "blocks": [6, 9], "of": 12, "distance": distances()[2][6], "sentence": "blocks 6..8, 0-based, of 12",
        "parameters": {"base": 1_310_000, "pruned": 1_010_000},
    }  # fmt: skip
    inputs["prune"] = record(root / "prune", "prune", pruned, drop=3)
    kept = {"rows": 100, "kept_regenerated": 90, "reasons": REASONS, "examples": EXAMPLES}
    options = {"sees": "reference", "temperature": 0.0, "data": {"check": "final_number"}, "seed": 0}
    for name in ("math", "text"):
        facts = {**kept, "new_tokens": 4000, "tokens_per_second": 900.0}
        inputs[f"regenerate.{name}"] = record(root / "r" / name, f"regenerate/{name}", facts, **options)
    trained = {
        "rows": 100, "tokens": 8000, "steps": 300, "loss_first": 2.5, "loss_last": 0.25,
        "trainable_parameters": 50_000,
    }  # fmt: skip
    for row in ROWS:
        inputs[f"evaluate.{row.name}"] = evaluated(root / "e" / row.name, row.name)
        if row.kind == "trained":
            folder = root / "t" / row.name
            inputs[f"train.{row.name}"] = record(
                folder, f"train/{row.name}", trained, lora={"r": 8}, sft={}, seed=3
            )
    facts = {"method": "slerp", "spherical_share": 0.125}
    settings = {"of": ["math-self", "text-self"], "parameters": {"t": 0.5}, "seed": 0}
    inputs["merge.merged"] = record(root / "merge", "merge/merged", facts, **settings)
    return inputs


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    """The stage's folder, report.json and report.md."""
    root = tmp_path_factory.mktemp("report")
    out = root / "out"
    out.mkdir()
    report.run(SETTINGS, artifacts(root), out, lambda *a, **k: None)
    return out, json.loads((out / "report.json").read_text()), (out / "report.md").read_text()


def by_name(content: dict[str, Any]) -> dict[str, Any]:
    return {model["name"]: model for model in content["models"]}


def test_scores_are_those_of_the_evaluation(made: tuple[Path, dict, str]) -> None:
    models = by_name(made[1])
    assert list(models) == [row.name for row in ROWS]
    for name, model in models.items():
        for task in TASKS:
            assert model["scores"][task]["value"] == pytest.approx(task_value(score_rows(task, name)))
            assert set(model["scores"][task]) == {"value", "stderr", "low", "high", "n"}
        assert model["average"]["n"] == sum(TASKS.values())
    assert (models["base"]["blocks"], models["merged"]["blocks"]) == (12, 9)


def test_recovery_is_a_fraction_of_the_base(made: tuple[Path, dict, str]) -> None:
    models = by_name(made[1])
    whole = models["base"]["average"]["value"]
    assert models["base"]["recovery"] == {"value": 1.0, "stderr": 0.0, "low": 1.0, "high": 1.0, "n": 370}
    for model in models.values():
        recovery = model["recovery"]
        assert recovery["value"] == pytest.approx(model["average"]["value"] / whole)
        assert recovery["low"] <= recovery["value"] <= recovery["high"]


def test_differences_are_of_the_same_documents(made: tuple[Path, dict, str]) -> None:
    """The paired error is that of the per-document differences, well below that of two independent sets."""
    found = by_name(made[1])["math-self"]["minus_base"]["scores"]["arc"]
    ours, theirs = (np.array(score_rows("arc", name)["score"]) for name in ("math-self", "base"))
    paired = (ours - theirs).std() / math.sqrt(len(ours))
    independent = math.sqrt((ours.var() + theirs.var()) / len(ours))
    assert found["value"] == pytest.approx((ours - theirs).mean())
    assert found["stderr"] == pytest.approx(paired, rel=0.15)
    assert found["stderr"] < 0.8 * independent


def test_self_is_compared_with_its_sft_sibling_and_a_merge_with_its_best_part(
    made: tuple[Path, dict, str],
) -> None:
    content = made[1]
    models = by_name(content)
    pairs = [(row["kind"], row["model"], row["against"]) for row in content["comparisons"]]
    assert pairs == [
        ("self minus SFT", "math-self", "math-sft"),
        ("merged minus best part", "merged", "math-self"),
    ]
    for row in content["comparisons"]:
        expected = models[row["model"]]["recovery"]["value"] - models[row["against"]]["recovery"]["value"]
        assert row["recovery"]["value"] == pytest.approx(expected)


def test_the_page_says_what_happened(made: tuple[Path, dict, str]) -> None:
    out, content, page = made
    for said in (
        "Blocks 6..8, 0-based, of 12, are removed: 1,310,000 parameters become 1,010,000 (22.9 % fewer)",
        "![Recovery by variant](recovery.png)",
        "![Distance of every run of blocks](heatmap.png)",
        "| 1 | 6..8 (chosen) |",
        "| math | answer differs | 9 |",
        "2 &#124; 3?<br>Say.",
        "It is &#42;5&#42;.",
        "| slerp | math-self, text-self | t = 0.5 | 12.5 % of tensors |",
        "1 min 12 s",
        "Test CPU, 2 cores, 8 GB memory",
        "| torch | 2.13.0 |",
        "| train/math-sft | 3 |",
        "Recipe seed 7",
    ):
        assert said in page, said
    assert page.count(" (chosen)") == 1
    recovery = by_name(content)["math-self"]["recovery"]
    assert (
        f"{100 * recovery['value']:.1f} [{100 * recovery['low']:.1f}, {100 * recovery['high']:.1f}]" in page
    )
    for picture in ("heatmap.png", "recovery.png"):
        assert (out / picture).read_bytes().startswith(b"\x89PNG")


def test_tables_have_as_many_cells_in_each_row_as_in_the_head(made: tuple[Path, dict, str]) -> None:
    """Whatever a model wrote cannot break a table."""
    tables = re.findall(r"(?:^\|.*\n)+", made[2], flags=re.MULTILINE)
    assert len(tables) > 10
    for rows in tables:
        assert len({line.count("|") for line in rows.splitlines()}) == 1, rows


def test_a_claim_is_no_wider_than_its_interval() -> None:
    def verdict(low: float, high: float) -> str:
        return report.pages.verdict({"value": (low + high) / 2, "low": low, "high": high})

    assert verdict(0.01, 0.2).startswith("more")
    assert verdict(-0.2, -0.01).startswith("less")
    assert verdict(-0.01, 0.2).startswith("not told apart")
    assert verdict(0.0004, 0.2).startswith("not told apart"), "printed as +0.0"
    assert report.pages.points({"value": -0.0004, "low": -0.0123, "high": 0.05}) == "+0.0 [−1.2, +5.0]"  # noqa: RUF001


def test_a_base_without_a_score_has_no_recovery(tmp_path: Path) -> None:
    """Near chance on generation alone a base may score nothing: the report says so and still is made."""
    inputs = artifacts(tmp_path)
    for row in ROWS:
        folder = inputs[f"evaluate.{row.name}"]
        scores = json.loads((folder / "scores.json").read_text())
        nothing = {"value": 0.0, "stderr": 0.0, "low": 0.0, "high": 0.0}
        scores["tasks"] = {"gsm8k": {**scores["tasks"]["gsm8k"], **nothing}}
        scores["average"].update(nothing)
        (folder / "scores.json").write_text(json.dumps(scores))
        path = folder / "samples" / "gsm8k.parquet"
        rows = pq.read_table(path).to_pydict()
        pq.write_table(pa.table({**rows, "score": [0.0] * len(rows["score"])}), path)
    report.run(SETTINGS, inputs, tmp_path, lambda *a, **k: None)
    content = json.loads((tmp_path / "report.json").read_text())
    assert all(model["recovery"] is None for model in content["models"])
    assert "Recovery is not defined" in (tmp_path / "report.md").read_text()
    assert "not defined" in printed(content)


def test_models_scored_on_different_documents_are_refused(tmp_path: Path) -> None:
    inputs = artifacts(tmp_path)
    path = inputs["evaluate.merged"] / "samples" / "arc.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)
    with pytest.raises(FactoryError, match="base and merged were scored on different documents of arc"):
        report.run(SETTINGS, inputs, tmp_path, lambda *a, **k: None)


def test_scores_that_their_documents_do_not_bear_out_are_refused(tmp_path: Path) -> None:
    inputs = artifacts(tmp_path)
    path = inputs["evaluate.pruned"] / "scores.json"
    scores = json.loads(path.read_text())
    scores["tasks"]["mmlu"]["value"] += 0.01
    path.write_text(json.dumps(scores))
    with pytest.raises(FactoryError, match=r"pruned has .* on mmlu, but its scored documents give"):
        report.run(SETTINGS, inputs, tmp_path, lambda *a, **k: None)


def printed(content: dict[str, Any], width: int = 160) -> str:
    from rich.console import Console

    screen = io.StringIO()
    Console(file=screen, width=width, color_system=None).print(table.render(content, width))
    return screen.getvalue()


def test_the_table_shows_every_model_with_intervals(made: tuple[Path, dict, str]) -> None:
    shown = printed(made[1])
    recovery = by_name(made[1])["merged"]["recovery"]
    line = next(line for line in shown.splitlines() if "merged" in line)
    assert (
        f"{100 * recovery['value']:.1f} [{100 * recovery['low']:.1f}, {100 * recovery['high']:.1f}]" in line
    )
    assert "1.01M" in line
    assert all(name in shown for name in SKILL)
    assert "blocks 6..8, 0-based, of 12" in shown


def test_no_figure_is_cut_on_a_narrow_screen(made: tuple[Path, dict, str]) -> None:
    content = json.loads(json.dumps(made[1]))
    for model in content["models"]:
        names = ("arc", "hellaswag", "mmlu", "truthfulqa", "winogrande", "gsm8k")
        model["scores"] = dict.fromkeys(names, model["scores"]["arc"])
    shown = printed(content, width=80)
    assert "…" not in shown
    for model in content["models"]:
        assert shown.count(f"{100 * model['scores']['arc']['value']:.1f}") >= 6
        assert f"[{100 * model['average']['low']:.1f}, {100 * model['average']['high']:.1f}]" in shown


@pytest.mark.parametrize(
    ("number", "said"), [(987, "987"), (65_500, "65.5k"), (1_310_000, "1.31M"), (8_030_000_000, "8.03B")]
)
def test_counts_have_three_digits(number: int, said: str) -> None:
    assert table.count(number) == said
