"""What the report says of drift: figures of records, paired differences, forgetting, what goes with what."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import drifted
import numpy as np
import pytest
import reported

from factory.stages import drift_picture, pages, report, report_drift, sweep

TAUGHT = {
    "math-sft": ("gsm8k",),
    "math-self": ("gsm8k",),
    "merged": ("gsm8k",),
    "text-self": tuple(reported.TASKS),
}
Made = tuple[dict[str, Any], str, Path]


def made_of(root: Path) -> Made:
    inputs = {**reported.artifacts(root), **drifted.artifacts(root)}
    out = root / "out"
    out.mkdir()
    settings = reported.SETTINGS.model_copy(update={"taught": TAUGHT})
    report.run(settings, inputs, out, lambda *a, **k: None)
    return json.loads((out / "report.json").read_text()), (out / "report.md").read_text(), out


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return made_of(tmp_path_factory.mktemp("report-drift"))


def section(page: str) -> str:
    found = re.search(r"\n## Drift from the base\n.*?(?=\n## )", page, re.DOTALL)
    assert found
    return found.group(0)


def test_every_model_has_its_figures_from_its_record(made: Made) -> None:
    content, page, _ = made
    for model in content["drift"]["models"]:
        kl, same = model["kl"], model["identical"]
        cells = f"| {model['name']} | {kl['value']:.3f} [{kl['low']:.3f}, {kl['high']:.3f}] |"
        assert cells in section(page)
        assert f"{100 * same['value']:.1f} [{100 * same['low']:.1f}, {100 * same['high']:.1f}]" in section(
            page
        )
    assert "| base | 0 | 100 | 1.105 [1.085, 1.125] | 1 | 100 |" in section(page)


def test_the_page_says_where_prompts_come_from_and_what_was_left_out(made: Made) -> None:
    said = section(made[1])
    assert "on 60 prompts that no training saw: 30 of math (split test), 30 of text (split train, behind the 1,000 rows that training takes); 6 rows left out, which training reads too." in said  # noqa: E501  # fmt: skip
    assert "(1,800 tokens; 2 cut at 96 tokens)" in said
    assert (
        "as vectors of the base's own mean hidden state (two unrelated responses of the base: 0.480" in said
    )
    assert (
        "General text: 40 texts of sandbox/corpus, 1,180 tokens; blocks were chosen over texts of these, "
        "so its perplexity may flatter the pruned model." in said
    )


def test_text_over_which_blocks_were_chosen_is_said_to_be_so(made: Made) -> None:
    drift = made[0]["drift"]
    base = {**drift["base"], "text": {**drift["base"]["text"], "calibrated": True}}
    said = section(pages.markdown({**made[0], "drift": {**drift, "base": base}}))
    assert "1,180 tokens; blocks were chosen over texts of these, so its perplexity may flatter" in said


def test_without_general_text_the_page_says_why(made: Made) -> None:
    none = {"text": None, "text_why": "the recipe names none (drift.text)"}
    drift = made[0]["drift"]
    models = [{**model, **none} for model in drift["models"]]
    without = {**made[0], "drift": {**drift, "base": {**drift["base"], **none}, "models": models}}
    said = section(pages.markdown(without))
    assert "Perplexity of general text was not measured: the recipe names none (drift.text)." in said
    assert "perplexity of general text |" not in said


def test_no_table_is_broken(made: Made) -> None:
    for table in re.findall(r"(?:^\|.*\n)+", section(made[1]), re.MULTILINE):
        lines = table.splitlines()
        assert re.fullmatch(r"\|[-:|]+\|", lines[1]), lines[:2]
        assert len({line.count("|") for line in lines}) == 1
        assert all(line == line.rstrip() for line in lines)


def test_models_are_compared_on_the_same_prompts(made: Made) -> None:
    (row,) = [row for row in made[0]["drift"]["comparisons"] if row["kind"] == "self minus SFT"]
    assert (row["model"], row["against"]) == ("math-self", "math-sft")
    ours, theirs = drifted.measured("math-self"), drifted.measured("math-sft")
    means = [sum(r["kl"] for r in rows) / sum(r["tokens"] for r in rows) for rows in (ours, theirs)]
    assert row["kl"]["value"] == pytest.approx(means[0] - means[1]) and row["kl"]["high"] < 0
    assert f"| {report_drift.signed(row['kl'])} |" in section(made[1])


def test_forgotten_are_documents_outside_of_what_was_trained(made: Made) -> None:
    found = {row["name"]: row for row in made[0]["drift"]["forgetting"]}
    assert found["pruned"]["outside"] == list(reported.TASKS)
    assert found["math-self"]["outside"] == ["arc", "mmlu"] and found["math-self"]["taught"] == ["gsm8k"]
    right = lost = won = 0
    for task in ("arc", "mmlu"):
        base, ours = (np.array(reported.score_rows(task, name)["score"]) for name in ("base", "math-self"))
        right += int(base.sum())
        lost += int(((base == 1) & (ours == 0)).sum())
        won += int(((base == 0) & (ours == 1)).sum())
    row = found["math-self"]
    assert (row["right"], row["lost"], row["won"], row["documents"]) == (right, lost, won, 270)
    assert row["lost_share"]["value"] == pytest.approx(lost / right)
    assert row["won_share"]["value"] == pytest.approx(won / (270 - right))
    assert row["lost_share"]["low"] <= row["lost_share"]["value"] <= row["lost_share"]["high"]
    models = {model["name"]: model for model in made[0]["models"]}
    means = [np.mean([models[name]["scores"][task]["value"] for task in ("arc", "mmlu")]) for name in ("math-self", "base")]  # noqa: E501  # fmt: skip
    assert row["difference"]["value"] == pytest.approx(means[0] - means[1])
    assert "| text-self | none: all tasks train what it was trained for |" in section(made[1])


def test_what_training_forgot_is_told_against_the_pruned_model(made: Made) -> None:
    found = {row["name"]: row for row in made[0]["drift"]["forgetting"]}
    assert found["pruned"]["against_pruned"] is None
    won = lost = before = 0
    means = []
    for task in ("arc", "mmlu"):
        base, pruned, ours = (
            np.array(reported.score_rows(task, name)["score"]) for name in ("base", "pruned", "math-self")
        )
        won += int(((pruned == 0) & (ours == 1)).sum())
        lost += int(((pruned == 1) & (ours == 0)).sum())
        before += int(((base == 1) & (pruned == 0)).sum())
        of = {model["name"]: model["scores"][task]["value"] for model in made[0]["models"]}
        means.append(of["math-self"] - of["pruned"])
    told = found["math-self"]["against_pruned"]
    assert (told["won"], told["lost"], told["before"]) == (won, lost, before)
    apart = told["difference"]
    assert apart["value"] == pytest.approx(np.mean(means)) and apart["low"] < apart["value"] < apart["high"]
    assert f"| {won} / {lost} | {pages.points(apart)} |\n" in section(made[1])
    assert re.search(r"\n\| pruned \| .* \| \N{EN DASH} \| \N{EN DASH} \|\n", section(made[1]))


def test_models_whose_own_responses_were_cut_are_named(made: Made) -> None:
    drift = made[0]["drift"]
    assert "Own responses cut at 96 tokens: pruned 1 of 60, math-sft 1 of 60" in section(made[1])
    models = [{**model, "truncated": 3 * (model["name"] == "merged")} for model in drift["models"]]
    page = section(pages.markdown({**made[0], "drift": {**drift, "models": models}}))
    assert "Own responses cut at 96 tokens: merged 3 of 60." in page
    models = [{**model, "truncated": 0} for model in models]
    assert "Own responses cut" not in section(
        pages.markdown({**made[0], "drift": {**drift, "models": models}})
    )


def test_what_goes_with_what_is_said_with_its_number_and_no_more(made: Made) -> None:
    both = made[0]["drift"]["correlations"]
    assert [(one["over"], one["n"]) for one in both] == [
        ("all models but the base", 5), ("trained and merged models", 4),
    ]  # fmt: skip
    assert "few models, so that little follows from it" in section(made[1])


@pytest.mark.parametrize(
    ("rho", "p", "n", "said"),
    [
        (
            -1.0,
            0.0002,
            12,
            "over all \N{MINUS SIGN}1.00 (n = 12, p = 0.0002): less drift goes with more recovery",
        ),
        (0.75, 0.01, 12, "over all +0.75 (n = 12, p = 0.01): less drift goes with less recovery"),
        (
            -0.8,
            0.33,
            4,
            "(n = 4, p = 0.33): not told from chance; few models, so that little follows from it",
        ),
    ],
)
def test_a_correlation_is_not_said_to_be_more_than_it_is(rho: float, p: float, n: int, said: str) -> None:
    assert report_drift.correlated({"over": "all", "rho": rho, "p": p, "n": n}).endswith(said)


def test_models_that_all_recover_alike_are_said_to_tell_nothing(made: Made) -> None:
    drift = made[0]["drift"]
    same = drift["models"][0]["recovery"]
    models = [{**model, "recovery": same} for model in drift["models"]]
    found = report_drift.correlations(models)
    assert [(one["rho"], one["p"], one["n"]) for one in found] == [(None, None, 5), (None, None, 4)]
    told = {**made[0], "drift": {**drift, "models": models, "correlations": found}}
    said = "over all models but the base (n = 5) it cannot be told: they all recover alike"
    assert f"- {said}." in section(pages.markdown(told))
    models = [{**model, "kl": drift["models"][0]["kl"]} for model in drift["models"]]
    assert report_drift.correlations(models)[0]["alike"] == "drift"
    assert report_drift.correlations(models[:2]) == []


def test_a_run_without_drift_has_no_such_part(tmp_path: Path) -> None:
    content, page = reported.report_on(reported.artifacts(tmp_path), tmp_path / "out")
    assert content["drift"] is None and "Drift" not in page
    assert not (tmp_path / "out" / "similarity.png").exists()


def test_both_pictures_are_drawn_and_name_every_model(made: Made) -> None:
    content, page, out = made
    for name in ("similarity.png", "recovery_drift.png"):
        assert (out / name).stat().st_size > 20_000 and f"]({name})" in page
    models = content["drift"]["models"]
    figure = drift_picture.against_recovery(models, 0.95)
    texts = {text.get_text() for text in figure.axes[0].texts}
    assert {model["name"] for model in models} <= texts
    labels = [axes.get_ylabel() for axes in drift_picture.similarities(content["drift"]).axes]
    assert labels == [model["name"] for model in models]


def test_names_of_models_that_lie_together_lie_on_nothing(made: Made) -> None:
    from matplotlib.text import Text

    one = made[0]["drift"]["models"][1]
    models = [{**one, "name": f"variant-{i}"} for i in range(6)]
    figure = drift_picture.against_recovery(models, 0.95)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    boxes = [Text.get_window_extent(text) for text in axes.texts]
    assert len(boxes) == 7  # and the base's
    point = axes.transData.transform((one["kl"]["value"], one["recovery"]["value"]))
    for i, box in enumerate(boxes):
        assert not box.count_overlaps(boxes[:i]) and not box.contains(*point)
        assert axes.get_window_extent().contains(*box.min) and axes.get_window_extent().contains(*box.max)


@pytest.mark.parametrize("copies", [1, 4])
def test_the_base_is_a_point_without_drift_with_its_name_beside_it(made: Made, copies: int) -> None:
    from matplotlib.text import Text

    models = made[0]["drift"]["models"] * copies  # twenty models have no names, the base has
    figure = drift_picture.against_recovery(models, 0.95)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    assert (0.0, 1.0) in {
        tuple(map(float, line.get_xydata()[0])) for line in axes.lines if line.get_marker() == "*"
    }
    (said,) = [text for text in axes.texts if text.get_text() == "base: 100 %, no drift"]
    box, point = Text.get_window_extent(said), axes.transData.transform((0.0, 1.0))
    near = 0.15 * axes.get_window_extent().width
    assert box.x0 - near < point[0] < box.x1 and abs(box.y0 - point[1]) < near
    assert len(axes.texts) == (1 + len(models) if copies == 1 else 1)


def test_pictures_of_models_without_figures(made: Made) -> None:
    models = [{**model, "recovery": None} for model in made[0]["drift"]["models"]]
    figure = drift_picture.against_recovery(models, 0.95)
    assert "not defined" in figure.axes[0].texts[0].get_text()
    assert report_drift.correlations(models) == []


def test_a_sweep_lays_drift_beside_recovery_over_all_points(made: Made, tmp_path: Path) -> None:
    points = {"drop=1": made[2], "drop=2": tmp_path / "other"}
    content = json.loads((made[2] / "report.json").read_text())
    for model in content["drift"]["models"]:
        if model["kind"] != "pruned":  # which both points share
            model["recovery"]["value"] -= 0.03
            model["blocks"] -= 1
    points["drop=2"].mkdir()
    (points["drop=2"] / "report.json").write_text(json.dumps(content))
    rows = tuple(sweep.Point(name=name, values={"prune.drop": int(name[-1])}) for name in points)
    (tmp_path / "out").mkdir()
    sweep.run(
        sweep.Settings(recipe="swept", keys=("prune.drop",), points=rows), points, tmp_path / "out",
        lambda *a, **k: None,
    )  # fmt: skip
    told = json.loads((tmp_path / "out" / "report.json").read_text())["drift"]
    assert len(told["models"]) == 5 + 4
    assert [one["n"] for one in told["correlations"]] == [9, 8, 8]
    assert told["correlations"][2]["over"].endswith("each among those of as many blocks")
    page = (tmp_path / "out" / "report.md").read_text()
    assert (
        "| drop=2 | math-self | " in page
        and "Spearman's rank correlation of KL and recovery over all" in page
    )
    assert (tmp_path / "out" / "recovery_drift.png").stat().st_size > 20_000


def test_over_seeds_the_pruned_model_counts_once_and_variants_are_told_apart(made: Made) -> None:
    reports = {}
    for seed in range(3):
        content = json.loads((made[2] / "report.json").read_text())
        for model in content["drift"]["models"]:
            if model["kind"] == "pruned":
                model["recovery"]["low"] -= 0.001 * seed  # as a bootstrap with another seed has it
            else:
                # Between variants less drift is more recovery, as it was; inside each it is less.
                model["recovery"]["value"] += 1e-4 * seed
                model["kl"]["value"] += 1e-4 * seed
        reports[f"seed={seed}"] = content
    found = report_drift.swept(reports)
    assert [model["point"] for model in found["models"] if model["name"] == "pruned"] == ["seed=0"]
    inside = found["correlations"][-1]
    assert inside["over"] == "trained and merged models, each among those of one variant"
    assert (inside["n"], inside["rho"]) == (12, pytest.approx(1.0))
    assert found["correlations"][1]["rho"] < 0
