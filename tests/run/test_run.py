"""A plan carried out with real child processes: order, resume, kill -9, sharing a store, full disks."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import stand_in

from factory.errors import FactoryError, StageFailed
from factory.plan.plan import Plan
from factory.plan.select import select
from factory.run.events import Event
from factory.run.make import count_parameters
from factory.run.run import Outcome, run


def execute(plan: Plan, runs: Path, heard: list[Event] | None = None, **options: Any) -> Outcome:
    events = heard.append if heard is not None else lambda event: None
    return run(plan, runs, load=stand_in.load, events=events, **options)


def artifacts(runs: Path) -> dict[str, bytes]:
    """Every visible file of every artifact but the records, whose times differ."""
    files = [path for path in (runs / "store").rglob("*") if path.is_file() and path.name != "record.json"]
    names = [path.relative_to(runs).as_posix() for path in files]
    return {n: p.read_bytes() for n, p in zip(names, files, strict=True) if "/." not in n}


def hidden(runs: Path) -> list[str]:
    return [path.name for path in (runs / "store").rglob(".*") if not path.name.endswith(".lock")]


def started(runs: Path, recipe: str, **settings: Any) -> subprocess.Popen[str]:
    """A run of the stand-in plan in a process of its own."""
    command = [sys.executable, stand_in.__file__, str(runs), recipe, json.dumps(settings)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def wait_until(condition: Any, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


def test_makes_every_step_after_what_it_needs_and_records_it(tmp_path: Path) -> None:
    heard: list[Event] = []
    plan = stand_in.plan("r")
    outcome = execute(plan, tmp_path, heard)
    assert set(outcome.made[:2]) == {"regenerate/left", "regenerate/right"}
    assert outcome.made[2:] == ("train/join", "report")
    assert [e.step for e in heard if e.kind == "done"] == list(outcome.made)
    join = plan.steps[2]
    record = json.loads((tmp_path / "store" / "train" / join.key / "record.json").read_text())
    assert record["inputs"] == {"left": plan.steps[0].key, "right": plan.steps[1].key}
    assert record["settings"] == join.settings.model_dump(mode="json")
    assert record["libraries"].keys() == {"pydantic"}
    assert record["facts"] == {"rows": 3, "threads": "1"}
    assert (record["name"], record["stage"], record["key"]) == ("train/join", "train", join.key)
    assert record["resumed"] is False
    assert record["machine"]["cores"] >= 1
    assert hidden(tmp_path) == []


def test_an_input_that_only_saves_work_is_not_recorded(tmp_path: Path) -> None:
    plan = stand_in.plan("r")
    left, right, join, report = plan.steps
    saved = replace(join, saving=frozenset({"left"}))
    execute(replace(plan, steps=(left, right, saved, report)), tmp_path)
    record = json.loads((tmp_path / "store" / "train" / join.key / "record.json").read_text())
    assert record["inputs"] == {"right": right.key}


def test_what_a_step_has_to_tell_stands_in_its_line(tmp_path: Path) -> None:
    process = started(tmp_path, "r", tells_join=["2 rows left out", "1 row cut"])
    _, shown = process.communicate(timeout=120)
    (line,) = [line for line in shown.splitlines() if "train/join" in line]
    assert re.fullmatch(r"\[3/4\] train/join: done in [\d.]+ s; 2 rows left out; 1 row cut", line)
    assert "; " not in next(line for line in shown.splitlines() if "regenerate/left" in line)


def test_what_a_step_lacks_is_told_before_anything_starts_and_only_if_it_is_to_be_made(
    tmp_path: Path,
) -> None:
    lacking = stand_in.plan("r", lacks_join="a library")
    with pytest.raises(FactoryError, match=r"a library is not installed\. Install it\."):
        execute(lacking, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
    execute(lacking, tmp_path / "runs", only=["regenerate/*"])
    execute(stand_in.plan("r"), tmp_path / "runs")
    assert execute(lacking, tmp_path / "runs").made == ()


def test_independent_steps_run_side_by_side(tmp_path: Path) -> None:
    heard: list[Event] = []
    execute(stand_in.plan("r", rows=10, pause=0.1), tmp_path, heard, jobs=2, only=["regenerate/*"])
    kinds = [(e.kind, e.step) for e in heard if e.kind in ("started", "done")]
    assert [kind for kind, _ in kinds] == ["started", "started", "done", "done"]


def test_a_step_that_measures_the_machine_has_it_to_itself(tmp_path: Path) -> None:
    def load(stage: str) -> Any:
        return SimpleNamespace(**vars(stand_in.load(stage)), ALONE=stage == "train")

    heard: list[Event] = []
    # The same four steps, with nothing between them that would keep any two apart.
    plan = stand_in.plan("r", rows=5, pause=0.05)
    free = replace(plan, steps=tuple(replace(step, inputs={}) for step in plan.steps))
    run(free, tmp_path, load=load, events=heard.append, jobs=3)
    told = [(e.kind, e.step) for e in heard if e.kind in ("started", "done")]
    began = told.index(("started", "train/join"))
    assert told[began + 1] == ("done", "train/join")
    assert [kind for kind, _ in told[:began]].count("started") == began / 2 == 3


def test_running_again_does_nothing_and_touches_nothing(tmp_path: Path) -> None:
    execute(stand_in.plan("r"), tmp_path)
    written = lambda: {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("[!.]*") if path.is_file()}  # noqa: E731
    before = written()
    outcome = execute(stand_in.plan("r"), tmp_path)
    assert outcome.made == ()
    assert outcome.steps == 4
    assert written() == before


def test_a_changed_step_is_redone_with_what_depends_on_it_and_nothing_else(tmp_path: Path) -> None:
    execute(stand_in.plan("r"), tmp_path)
    outcome = execute(stand_in.plan("r", rows_right=4), tmp_path)
    assert outcome.made == ("regenerate/right", "train/join", "report")


def test_two_recipes_share_what_they_have_in_common(tmp_path: Path) -> None:
    execute(stand_in.plan("one"), tmp_path)
    assert execute(stand_in.plan("two", rows_join=5), tmp_path).made == ("train/join", "report")


def test_only_makes_the_matching_steps_and_what_they_need(tmp_path: Path) -> None:
    plan = stand_in.plan("r")
    assert [s.name for s in select(plan, ["*/right"])] == ["regenerate/right"]
    assert [s.name for s in select(plan, ["train/*"])] == [
        "regenerate/left",
        "regenerate/right",
        "train/join",
    ]
    assert execute(plan, tmp_path, only=["*/left"]).made == ("regenerate/left",)
    with pytest.raises(FactoryError, match="--only tarin matches no step") as caught:
        select(plan, ["tarin"])
    assert "train/join" in str(caught.value)


def test_the_runs_folder_has_human_names(tmp_path: Path) -> None:
    plan = stand_in.plan("r")
    execute(plan, tmp_path)
    folder = tmp_path / "r"
    assert (folder / "data" / "left" / "rows.txt").read_text().startswith("left 0")
    assert str((folder / "data" / "left").readlink()) == f"../../store/regenerate/{plan.steps[0].key}"
    assert str((folder / "models" / "join").readlink()) == f"../../store/train/{plan.steps[2].key}/model"
    assert "join prints something" in (folder / "logs" / "train" / "join.log").read_text()
    page = json.loads((folder / "run.json").read_text())
    assert [(s["name"], s["key"], s["done"]) for s in page["steps"]] == [
        (s.name, s.key, True) for s in plan.steps
    ]
    assert page["recipe"]["prune"]["drop"] == 2
    assert page["finished"] >= page["started"]


def test_results_of_an_earlier_form_of_the_recipe_do_not_stay_linked(tmp_path: Path) -> None:
    execute(stand_in.plan("r"), tmp_path)
    (tmp_path / "r" / "mine").symlink_to(tmp_path)
    with pytest.raises(StageFailed):
        execute(stand_in.plan("r", rows_join=9, trouble_join="error"), tmp_path)
    assert not (tmp_path / "r" / "models" / "join").is_symlink()
    assert not (tmp_path / "r" / "report.md").is_symlink()
    assert (tmp_path / "r" / "data" / "left").exists()
    assert (tmp_path / "r" / "mine").is_symlink()  # a person's own


def test_a_failed_step_is_one_line_and_the_rest_is_kept(tmp_path: Path) -> None:
    heard: list[Event] = []
    with pytest.raises(StageFailed) as caught:
        execute(stand_in.plan("r", trouble_join="error"), tmp_path, heard)
    assert caught.value.exit_code == 1
    assert str(caught.value) == (
        f"{tmp_path}/r/logs/train/join.log: train/join failed: ValueError: the numbers do not add up. "
        "Its end says why; once that is mended, run the same command again: finished steps are kept."
    )
    assert [e.step for e in heard if e.kind == "failed"] == ["train/join"]
    assert execute(stand_in.plan("r"), tmp_path).made == ("train/join", "report")


def test_what_runs_beside_a_failing_step_is_finished(tmp_path: Path) -> None:
    plan = stand_in.plan("r", trouble_left="error", rows_right=20, pause_right=0.05)
    with pytest.raises(StageFailed, match="regenerate/left failed"):
        execute(plan, tmp_path, jobs=2)
    assert "regenerate/right" not in execute(stand_in.plan("r", rows_right=20), tmp_path).made


def test_a_mistake_of_the_user_found_by_a_stage_keeps_its_words(tmp_path: Path) -> None:
    with pytest.raises(FactoryError) as caught:
        execute(stand_in.plan("r", trouble_left="user"), tmp_path)
    assert str(caught.value) == "rows.jsonl:7: row 7 has no response. Fill it in."
    assert caught.value.exit_code == 2


def test_after_kill_9_only_the_interrupted_step_is_redone(tmp_path: Path) -> None:
    calm, runs, diary = tmp_path / "calm", tmp_path / "runs", tmp_path / "diary"
    execute(stand_in.plan("r", rows=30), calm)
    settings = {"rows": 30, "pause_join": 0.05, "diary": str(diary)}
    process = started(runs, "r", **settings)
    join = stand_in.plan("r", rows=30).steps[2]
    partial = runs / "store" / "train" / f".{join.key}.partial" / "rows.txt"
    wait_until(lambda: partial.exists() and partial.read_text().count("\n") > 5, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (runs / "store" / "train" / join.key).exists()

    again = started(runs, "r", **settings)
    assert again.communicate()[0] is None
    assert again.returncode == 0
    assert artifacts(runs) == artifacts(calm)
    assert hidden(runs) == []
    names = diary.read_text().split()
    assert sorted(names[:2]) == ["left", "right"]
    assert names[2:] == ["join", "join", "report"]
    assert json.loads((runs / "store" / "train" / join.key / "record.json").read_text())["resumed"] is True


@pytest.mark.slow
def test_kill_9_at_any_moment_gives_the_same_artifacts_in_the_end(tmp_path: Path) -> None:
    calm, runs = tmp_path / "calm", tmp_path / "runs"
    execute(stand_in.plan("r", rows=20, megabytes=2), calm)
    moment, kills = 0.3, 0
    while True:
        process = started(runs, "r", rows=20, megabytes=2, pause=0.01)
        try:
            process.communicate(timeout=moment)
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            moment, kills = moment + 0.07, kills + 1
    assert process.returncode == 0
    assert kills > 3
    assert artifacts(runs) == artifacts(calm)
    assert hidden(runs) == []


def test_an_interrupted_run_leaves_nobody_writing_and_can_go_on(tmp_path: Path) -> None:
    process = started(tmp_path, "r", rows=200, pause=0.05)
    partials = lambda: [*(tmp_path / "store").glob("regenerate/.*.partial/rows.txt")]  # noqa: E731
    wait_until(partials, process)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode != 0
    sizes = [path.stat().st_size for path in partials()]
    time.sleep(0.3)
    assert [path.stat().st_size for path in partials()] == sizes
    assert execute(stand_in.plan("r", rows=200), tmp_path).steps == 4


def test_a_second_run_of_the_same_recipe_is_refused(tmp_path: Path) -> None:
    process = started(tmp_path, "r", rows=100, pause=0.05)
    wait_until((tmp_path / "r" / "run.json").exists, process)
    with pytest.raises(FactoryError) as caught:
        execute(stand_in.plan("r"), tmp_path)
    process.kill()
    process.communicate()
    assert str(caught.value) == (
        f"{tmp_path}/r: process {process.pid} is running this recipe already. "
        "Wait for it, or give one of the two another --runs-dir."
    )


def test_a_run_waits_for_an_artifact_that_another_run_is_making(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    process = started(tmp_path, "one", rows=30, pause=0.05, diary=str(diary))
    wait_until(diary.exists, process)
    heard: list[Event] = []
    outcome = execute(stand_in.plan("two", rows=30, pause=0.05, diary=str(diary)), tmp_path, heard)
    errors = process.communicate()[1]
    assert process.returncode == 0, errors
    waits = [e for e in heard if e.kind == "waiting"]
    assert {e.step for e in waits} >= {"regenerate/left"}
    assert waits[0].note == f"process {process.pid} is making it"
    assert sorted(diary.read_text().split()) == ["join", "left", "report", "right"]
    assert "regenerate/left" not in outcome.made


def test_a_recipe_named_like_the_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FactoryError, match='cannot be named "store"'):
        execute(stand_in.plan("store"), tmp_path)


def test_a_runs_folder_that_cannot_be_written_is_refused_before_anything_starts(tmp_path: Path) -> None:
    heard: list[Event] = []
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(FactoryError, match="the folder for runs cannot be written"):
        execute(stand_in.plan("r"), tmp_path / "runs", heard)
    assert heard == []


def test_a_full_disk_is_named_and_the_run_goes_on_when_there_is_room(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * (8 << 20))
    plan = stand_in.plan("r", megabytes=1, megabytes_join=5)
    with pytest.raises(FactoryError) as caught:
        execute(plan, small_disk / "runs")
    assert caught.value.exit_code == 2
    assert f"{small_disk}: this disk is full" in str(caught.value)
    assert "Make room and run the same command again" in str(caught.value)
    assert not (small_disk / "runs" / "store" / "train" / plan.steps[2].key).exists()
    ballast.unlink()
    assert execute(plan, small_disk / "runs").made == ("train/join", "report")


def test_parameters_are_counted_without_loading_them(tiny_model: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    assert count_parameters(tiny_model) == sum(p.numel() for p in model.parameters())
    assert count_parameters(tmp_path) == 0


def test_a_stage_may_finish_its_artifact_with_its_key(tmp_path: Path) -> None:
    def load(stage: str) -> Any:
        return SimpleNamespace(
            **vars(stand_in.load(stage)), finish=lambda out, key: (out / "key.txt").write_text(key)
        )

    plan = stand_in.plan("r")
    run(plan, tmp_path, load=load, events=lambda event: None)
    for step in plan.steps:
        assert (tmp_path / "store" / step.stage / step.key / "key.txt").read_text() == step.key
