"""Work shared between machines: fetched, sent on, taken over after a machine is lost."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from written import project

from factory.errors import FactoryError
from factory.plan.plan import Plan, Step
from factory.plan.sweep import plan_file
from factory.run.events import Event
from factory.run.packed import packed, unpack
from factory.run.parts import parts_of
from factory.run.share import Folder, place_of, sharing
from factory.run.store import Store


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """A plan over folders."""
    return plan_file(project(tmp_path))


def made(store: Store, step: Step, text: str = "here") -> None:
    """An artifact."""
    store.prepare()
    with store.claim(step.stage, step.key, lambda who: None, threading.Event()):
        folder = store.begin(step.stage, step.key)
        (folder / "deep").mkdir(exist_ok=True)
        (folder / "deep" / "data.txt").write_text(text)
        store.commit(step.stage, step.key, {"seconds": 1})


def share(
    plan: Plan, root: Path, place: Folder, *finished: Step, own: list[str] | None = None
) -> list[list[str]]:
    """A run in a store of its own that makes some steps; what was fetched, taken over and kept."""
    store, steps = Store(root / "store"), plan.steps
    names = [step.name for step in steps] if own is None else own
    with sharing(steps, names, store, place, place, lambda event: None) as (shared, told):
        for step in finished:
            made(store, step)
            told(Event("done", step.name))
    return [shared.fetched, shared.resumed, shared.kept]


def test_what_one_machine_finished_another_fetches(plan: Plan, tmp_path: Path) -> None:
    place, (first, second) = Folder(tmp_path / "place"), plan.steps[:2]
    assert share(plan, tmp_path / "a", place, first) == [[], [], [first.name]]
    assert share(plan, tmp_path / "b", place, second) == [[first.name], [], [second.name]]
    assert share(plan, tmp_path / "c", place) == [[first.name, second.name], [], []]
    store = Store(tmp_path / "c" / "store")
    assert all(store.has(step.stage, step.key) for step in (first, second))
    assert (store.folder(first.stage, first.key) / "deep" / "data.txt").read_text() == "here"
    assert not list(store.root.glob("*/.fetched-*")) + list(store.root.glob(".shared-*"))


def test_a_part_sends_its_own_again_and_not_what_it_fetched(plan: Plan, tmp_path: Path) -> None:
    first, second = plan.steps[:2]
    share(plan, tmp_path / "a", Folder(tmp_path / "place"), first, second)
    store = Store(tmp_path / "b" / "store")
    source, target = Folder(tmp_path / "place"), Folder(tmp_path / "empty")
    with sharing(plan.steps, [second.name], store, source, target, lambda event: None) as (shared, _):
        pass
    assert (shared.fetched, shared.kept) == ([first.name, second.name], [second.name])


def test_what_was_found_finished_is_not_sent_again(plan: Plan, tmp_path: Path) -> None:
    """A step may end while the sender begins, and looks what there is."""
    place, step = Folder(tmp_path / "place"), plan.steps[0]
    store = Store(tmp_path / "store")
    made(store, step)
    with sharing(plan.steps, [step.name], store, None, place, lambda event: None) as (shared, told):
        told(Event("done", step.name))
    assert shared.kept == [step.name]


def test_what_a_step_has_so_far_is_taken_over_once_and_gives_way_to_the_artifact(
    plan: Plan, tmp_path: Path
) -> None:
    place, step = Folder(tmp_path / "place"), plan.steps[0]
    lost = Store(tmp_path / "a" / "store")
    with pytest.raises(RuntimeError), sharing(plan.steps, [], lost, place, place, lambda event: None):
        lost.prepare()
        (lost.root / step.stage).mkdir(exist_ok=True)
        (lost.begin(step.stage, step.key) / "rows.jsonl").write_text("1\n2\n")
        raise RuntimeError("the machine is lost")
    assert place.names() == {f"{step.stage}/{step.key}.partial.tar"}
    store = Store(tmp_path / "b" / "store")
    with sharing(plan.steps, [], store, place, place, lambda event: None) as (shared, told):
        assert shared.resumed == [step.name]
        assert (store.partial(step.stage, step.key) / "rows.jsonl").read_text() == "1\n2\n"
        made(store, step)
        told(Event("done", step.name))
    assert place.names() == {f"{step.stage}/{step.key}.tar"}


def test_unfinished_work_goes_out_while_the_step_runs(plan: Plan, tmp_path: Path) -> None:
    place, step, store = Folder(tmp_path / "place"), plan.steps[0], Store(tmp_path / "a" / "store")
    with sharing(plan.steps, [], store, None, place, lambda event: None, every=0.05):
        store.prepare()
        (store.root / step.stage).mkdir()
        (store.begin(step.stage, step.key) / "rows.jsonl").write_text("1\n")
        end = time.monotonic() + 60
        while not place.names() and time.monotonic() < end:
            time.sleep(0.05)
        assert place.names() == {f"{step.stage}/{step.key}.partial.tar"}


@contextlib.contextmanager
def going_on(change: Callable[[int], object]) -> Iterator[None]:
    """Makes one change after another, numbered from 1, as a stage does, for as long as the context."""
    stop = threading.Event()

    def work() -> None:
        for number in itertools.takewhile(lambda _: not stop.is_set(), itertools.count(1)):
            change(number)

    writer = threading.Thread(target=work)
    writer.start()
    try:
        yield
    finally:
        stop.set()
        writer.join()


def test_a_folder_is_packed_as_of_one_moment_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "still").write_bytes(b"x" * 64_000_000)  # to pack it takes longer than a file's time is coarse
    with (
        going_on(lambda number: (folder / "busy").write_text(str(number))),
        packed(folder, tmp_path) as tar,
    ):
        assert tar is None
    with packed(folder, tmp_path) as tar:
        assert tar is not None
        unpack(tar, tmp_path / "back", "it")
    assert (tmp_path / "back" / "busy").read_text() == (folder / "busy").read_text()


def test_a_folder_whose_file_grows_shorter_while_it_is_packed_is_not_packed(tmp_path: Path) -> None:
    folder, length = tmp_path / "folder", 64_000_000
    folder.mkdir()
    (folder / "file").write_bytes(b"x" * length)

    def shorten(number: int) -> None:
        os.truncate(folder / "file", max(length - 4096 * number, 1))
        time.sleep(0.005)

    with going_on(shorten), packed(folder, tmp_path) as tar:
        assert tar is None


@pytest.mark.parametrize("name", ["../out", "link/out"])
def test_a_tar_that_leads_out_of_its_folder_is_refused(name: str, tmp_path: Path) -> None:
    tar = tmp_path / "tar"
    with tarfile.open(tar, "w") as archive:
        if name.startswith("link"):
            link = tarfile.TarInfo("link")
            link.type, link.linkname = tarfile.SYMTYPE, ".."
            archive.addfile(link)
        archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(FactoryError, match="what was shared is damaged"):
        unpack(tar, tmp_path / "folder", "it")
    assert not (tmp_path / "out").exists()


def test_a_damaged_tar_is_told(plan: Plan, tmp_path: Path) -> None:
    place, step = Folder(tmp_path / "place"), plan.steps[0]
    (place.path / step.stage).mkdir(parents=True)
    (place.path / step.stage / f"{step.key}.tar").write_bytes(b"no tar")
    with pytest.raises(FactoryError, match="what was shared is damaged"):
        share(plan, tmp_path / "a", place)


def test_a_place_that_cannot_be_written_is_told_at_the_end(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "place").write_text("a file")
    with pytest.raises(FactoryError, match="could not be sent on"):
        share(plan, tmp_path / "a", Folder(tmp_path / "place"), plan.steps[0])


@pytest.mark.parametrize("address", ["s3://bucket/x", "hf://datasets/x", "hf://datasets/a/b/c", "hf://x/y"])
def test_an_address_of_no_place_is_told(address: str) -> None:
    with pytest.raises(FactoryError, match=r"no place to share|no name of a repository"):
        place_of(address)


def test_parts_hold_every_step_once_and_only_need_what_comes_before(tmp_path: Path) -> None:
    path = project(tmp_path)
    for settings in ((), ("sweep={prune.drop: [1, 2], train.lora.r: [2, 4]}",)):
        plan = plan_file(path, settings)
        parts = parts_of(plan)
        names = [name for part in parts for name in part.steps]
        assert sorted(names) == sorted(step.name for step in plan.steps)
        at = {name: part.name for part in parts for name in part.steps}
        for step in plan.steps:
            for needed in (place.step for place in step.inputs.values() if hasattr(place, "step")):
                before = {"shared", at[step.name]}
                assert at[step.name] == "last" or at[needed] in before, (step.name, needed)
        assert len({part.name for part in parts}) == len(parts)
        trained = [step for step in plan.steps if step.stage == "train"]
        assert len(parts) == len(trained) + 2
        assert len(parts_of(plan, most=2)) == 4


def test_what_only_one_variant_needs_is_made_beside_it(tmp_path: Path) -> None:
    parts = {part.name: part.steps for part in parts_of(plan_file(project(tmp_path)))}
    assert parts["shared"] == ("importance", "prune", "evaluate/base", "evaluate/pruned")
    assert parts["train.own"] == ("regenerate/math", "train/own", "evaluate/own")
    assert parts["last"] == ("merge/both", "evaluate/both", "report")


@pytest.mark.slow
def test_a_machine_that_is_told_to_end_sends_what_it_has(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "name: lost\nbase: {model: sandbox/base}\n"
        "prune: {drop: [4], calibration: {dataset: sandbox/corpus, rows: 2, max_tokens: 16}, proof: false}\n"
        "datasets: {math: {id: sandbox/math, prompt: math, check: final_number, rows: 2000}}\n"
        "regenerate: {max_new_tokens: 24, batch_size: 2}\ntrain: {sft: {max_steps: 1}}\n"
        "variants: {own: {data: [math], targets: self}}\n"
        "evaluate: {suite: sandbox_v1, tasks: [arc], limit: 2}\n"
    )
    command = [sys.executable, "-m", "factory.cli", "run", str(recipe), "--only", "regenerate/*", "--json"]
    place = tmp_path / "place"
    words = ["--fetch", str(place), "--share", str(place), "--runs-dir", str(tmp_path / "a")]
    environment = {**os.environ, "PYTHONPATH": ":".join(path for path in sys.path if path)}
    process = subprocess.Popen([*command, *words], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    for line in process.stdout:
        if '"progress"' in line and '"done": 0' not in line and "regenerate/math" in line:
            break
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    tar = next(place.glob("regenerate/*.partial.tar"))
    with tarfile.open(tar) as archive:
        assert sum(entry.size for entry in archive.getmembers()) > 0
