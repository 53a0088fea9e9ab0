"""Artifacts are whole or absent, locked while they are made, and found again by key."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from factory.errors import FactoryError
from factory.run.store import Lock, Store, disk_full, point, writable_folder, write_atomically


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store")
    store.prepare()
    return store


def never(holder: str) -> None:
    raise AssertionError(f"should not have to wait for {holder}")


def test_an_artifact_is_invisible_until_it_is_whole(store: Store) -> None:
    assert store.state("prune", "k") == "missing"
    with store.claim("prune", "k", never, threading.Event()):
        assert store.state("prune", "k") == "running"
        (store.begin("prune", "k") / "weights").write_text("w")
        assert not store.folder("prune", "k").exists()
        store.commit("prune", "k", {"seconds": 1})
    assert store.state("prune", "k") == "done"
    assert store.record("prune", "k") == {"seconds": 1, "files": {"weights": 1}}
    assert sorted(p.name for p in store.folder("prune", "k").iterdir()) == ["record.json", "weights"]
    assert not store.partial("prune", "k").exists()


def test_what_an_interrupted_step_left_is_there_for_the_next(store: Store) -> None:
    with store.claim("train", "k", never, threading.Event()):
        (store.begin("train", "k") / "checkpoint").write_text("c")
    assert store.state("train", "k") == "partial"
    with store.claim("train", "k", never, threading.Event()):
        assert (store.begin("train", "k") / "checkpoint").read_text() == "c"


def test_a_folder_without_a_record_is_no_artifact_and_is_replaced(store: Store) -> None:
    with store.claim("prune", "k", never, threading.Event()):
        store.folder("prune", "k").mkdir()
        (store.folder("prune", "k") / "rest").write_text("damaged by hand")
        assert not store.has("prune", "k")
        store.begin("prune", "k")
        store.commit("prune", "k", {})
    assert [p.name for p in store.folder("prune", "k").iterdir()] == ["record.json"]


def gone(artifact: Path) -> None:
    (artifact / "model" / "weights").unlink()


def cut(artifact: Path) -> None:
    (artifact / "model" / "weights").write_text("we")


def record_cut(artifact: Path) -> None:
    (artifact / "record.json").write_text('{"seconds": 1, "fi')


def record_of_another_kind(artifact: Path) -> None:
    (artifact / "record.json").write_text("[]")


@pytest.mark.parametrize("damage", [gone, cut, record_cut, record_of_another_kind])
def test_a_damaged_artifact_is_seen_and_made_again(store: Store, damage: Callable[[Path], None]) -> None:
    def make() -> None:
        with store.claim("prune", "k", never, threading.Event()):
            model = store.begin("prune", "k") / "model"
            model.mkdir()
            (model / "weights").write_text("weights")
            store.commit("prune", "k", {"seconds": 1})

    make()
    damage(store.folder("prune", "k"))
    assert not store.has("prune", "k")
    assert store.state("prune", "k") == "damaged"
    make()
    assert store.state("prune", "k") == "done"
    assert (store.folder("prune", "k") / "model" / "weights").read_text() == "weights"


def test_the_second_to_claim_waits_and_is_told_for_whom(store: Store) -> None:
    told: list[str] = []
    order: list[str] = []
    first = store.claim("prune", "k", never, threading.Event())
    first.__enter__()

    def second() -> None:
        with store.claim("prune", "k", told.append, threading.Event()):
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    thread.join(0.5)
    order.append("first lets go")
    first.__exit__(None, None, None)
    thread.join()
    assert order == ["first lets go", "second"]
    assert len(told) == 1
    assert told[0].startswith("process ")


def test_waiting_for_a_claim_can_be_stopped(store: Store) -> None:
    stop = threading.Event()
    with (
        store.claim("prune", "k", never, threading.Event()),
        pytest.raises(InterruptedError),
        store.claim("prune", "k", lambda holder: stop.set(), stop),
    ):
        pass


def test_looking_at_a_lock_neither_makes_nor_takes_it(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "lock")
    assert not lock.is_held()
    assert not lock.path.exists()
    assert lock.take()
    assert Lock(lock.path).is_held()
    lock.release()
    assert not lock.is_held()


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(FactoryError) as caught:
        writable_folder(tmp_path / "runs" / "store")
    assert str(caught.value) == (
        f"{tmp_path}/runs/store: the folder for runs cannot be written: Not a directory. "
        "Choose another folder with --runs-dir."
    )


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    error = disk_full(tmp_path / "not" / "there")
    assert error.exit_code == 2
    assert "is full" in error.what


def test_links_are_relative_and_replaced_in_one_step(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / "store" / name).mkdir(parents=True)
    link = tmp_path / "runs" / "models" / "m"
    for name in "ab":
        point(link, tmp_path / "store" / name)
        assert str(link.readlink()) == f"../../store/{name}"
    assert [p.name for p in link.parent.iterdir()] == ["m"]
    shutil.move(tmp_path / "store", tmp_path / "elsewhere")
    assert not link.exists()


def test_a_file_keeps_its_old_text_when_the_new_one_does_not_fit(small_disk: Path) -> None:
    page = small_disk / "run.json"
    write_atomically(page, "old")
    with pytest.raises(OSError, match="No space left"):
        write_atomically(page, "new" * 10_000_000)
    assert page.read_text() == "old"
    assert [p.name for p in small_disk.iterdir()] == ["run.json"]
