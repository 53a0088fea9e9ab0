"""A finished run published on a local Hub, and read from there by stock libraries in fresh processes."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import httpx2
import pytest
import tiny_run
from tiny_run import Desk

pytestmark = pytest.mark.slow

MODEL, DATASET = "acme/tiny-own", "acme/tiny-math"
READ = f"""
from transformers import AutoModelForCausalLM, AutoTokenizer
from datasets import load_dataset
model, tokenizer = AutoModelForCausalLM.from_pretrained("{MODEL}"), AutoTokenizer.from_pretrained("{MODEL}")
ids = tokenizer("What is 1 and 1?", return_tensors="pt").input_ids
told["tokens"] = model.generate(ids, max_new_tokens=3, min_new_tokens=3).shape[1] - ids.shape[1]
told["rows"] = len(load_dataset("{DATASET}")["train"])
told["license"] = api.model_info("{MODEL}").card_data.license
told["parameters"] = sum(api.get_safetensors_metadata("{MODEL}").parameter_count.values())
found = api.get_collection(next(iter(api.list_collections(owner="acme"))).slug)
told["collection"] = [found.title, sorted((item.item_type, item.item_id) for item in found.items)]
"""


def test_from_a_run_to_strangers_and_again(desk: Desk, tmp_path: Path) -> None:
    first = desk.publish()
    assert [(one["repository"], one["tag"], one["public"], one["changed"]) for one in first] == [
        (DATASET, "v1", True, True),
        (MODEL, "v1", True, True),
    ]
    assert first[1]["commit"] == desk.hub.head(MODEL)

    read = desk.hub.client(READ, tmp_path / "stranger", who=None)
    assert (read["tokens"], read["rows"], read["license"]) == (3, 4, "apache-2.0")
    assert read["parameters"] > 10_000
    items = [("dataset", DATASET), ("model", MODEL), ("paper", "2410.09982")]
    assert read["collection"] == ["tiny", [list(item) for item in items]]

    second = desk.publish()
    assert [one["changed"] for one in second] == [False, False]
    assert [one["commit"] for one in second] == [one["commit"] for one in first]
    tiny_run.again(desk.recipe, tmp_path / "runs", "publish.license=mit")
    changed = desk.publish()
    assert [(one["changed"], one["tag"]) for one in changed] == [(True, "v2"), (True, "v2")]
    for kind, name in (("models", MODEL), ("datasets", DATASET)):
        assert len(desk.history(kind, name)) == 2
        assert desk.tags(kind, name) == ["v1", "v2"]
    _, said, _ = desk.factory("show", "tiny")
    assert f"published: {desk.hub.url}/{MODEL}: v2, commit {desk.hub.head(MODEL)[:12]}" in said

    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "accounts.json"]
    assert len(files) > 100
    held = [path for path in files if any(t.encode() in path.read_bytes() for t in desk.hub.tokens.values())]
    assert held == []


def test_kill_at_any_step_and_the_next_run_goes_on(desk: Desk) -> None:
    # Each kill comes a step later than the last: what is done is not done again.
    kills = [(DATASET, "create"), (DATASET, "send"), (DATASET, "make public"), (MODEL, "read back")]
    for repository, step in kills:
        process = desk.start("publish", "tiny", "--json")
        assert process.stdout is not None
        for line in process.stdout:
            if json.loads(line) == {"kind": "step", "repository": repository, "step": step}:
                process.send_signal(signal.SIGKILL)
                break
        process.communicate()
        assert process.returncode == -signal.SIGKILL, (repository, step)
    for repository, tag, public in [(one["repository"], one["tag"], one["public"]) for one in desk.publish()]:
        assert (tag, public) == ("v1", True)
        kind = "datasets" if repository == DATASET else "models"
        assert len(desk.history(kind, repository)) == 1
        assert desk.tags(kind, repository) == ["v1"]


def test_without_room_to_read_it_back_nothing_is_sent(desk: Desk, small_disk: Path) -> None:
    (small_disk / "filled").write_bytes(b"x" * ((12 << 20) - (64 << 10)))
    said = desk.refused("publish", "tiny", TMPDIR=str(small_disk))
    assert f"{small_disk}: to read acme/tiny-own back takes" in said and "set TMPDIR" in said
    assert not (desk.hub.root / "repos").exists()


def test_a_hub_without_xet_names_the_setting(desk: Desk) -> None:
    said = desk.refused("publish", "tiny", HF_HUB_DISABLE_XET="0")
    assert "this Hub does not speak Xet. Set HF_HUB_DISABLE_XET=1" in said
    assert desk.history("datasets", DATASET) == []


def test_private_stays_private(desk: Desk) -> None:
    tiny_run.again(desk.recipe, desk.folder / "runs", "publish.datasets=false")
    assert [(one["public"], one["collection"]) for one in desk.publish("--private")] == [(False, None)]
    # Nor does a later publication show what its owners keep to themselves.
    tiny_run.again(desk.recipe, desk.folder / "runs", "publish.datasets=false", "publish.license=mit")
    assert [(one["public"], one["tag"]) for one in desk.publish()] == [(False, "v2")]
    assert desk.hub.store.load("models", MODEL).private
    assert httpx2.get(f"{desk.hub.url}/api/collections?owner=acme").json() == []


def test_a_stranger_opens_a_pull_request(desk: Desk) -> None:
    assert "there is no repository to open" in desk.refused("publish", "tiny", "--create-pr", who="eve")
    desk.hub.create(MODEL)
    head = desk.hub.head(MODEL)
    tiny_run.again(desk.recipe, desk.folder / "runs", "publish.datasets=false")
    opened = desk.publish("--create-pr", who="eve")
    assert [(one["pull_request"], one["tag"], one["changed"]) for one in opened] == [(1, None, True)]
    assert desk.hub.head(MODEL) == head
    assert [(one["pull_request"], one["changed"]) for one in desk.publish("--create-pr", who="eve")] == [
        (1, False)
    ]


@pytest.mark.parametrize(
    ("who", "said"),
    [
        ("reader", "acme: the token may only read"),
        ("bob", "'bob' may only read in this namespace"),
        ("eve", "the token's user 'eve' is not in this namespace"),
        (None, "Set HF_TOKEN_PATH to the file that `factory hub serve` prints"),
    ],
)
def test_who_may_not_write_is_told_before_anything_is_sent(desk: Desk, who: str | None, said: str) -> None:
    assert said in desk.refused("publish", "tiny", who=who)
    asked = httpx2.get(f"{desk.hub.url}/requests").json()
    assert {method for method, _ in asked} <= {"GET"}
    assert not list(desk.run.glob("publish/*/*.json"))


def test_a_dry_run_says_what_would_be_sent_and_sends_nothing(desk: Desk) -> None:
    code, said, _ = desk.factory("publish", "tiny", "--dry-run", who=None)
    assert code == 0 and said.endswith("nothing was sent\n")
    assert f"model {MODEL}: new; " in said
    line = next(line for line in said.splitlines() if line.startswith("model.safetensors"))
    assert line.split()[1] == "new" and line.split()[3] in ("kB", "MB")
    asked = httpx2.get(f"{desk.hub.url}/requests").json()
    assert {method for method, _ in asked} == {"GET"}


def test_what_others_put_there_is_not_overwritten(desk: Desk) -> None:
    desk.hub.create(MODEL)
    assert desk.hub.commit(tiny_file(), name=MODEL).status_code == 200
    said = desk.refused("publish", "tiny")
    assert f"{MODEL}: this repository holds theirs.bin, which factory did not publish" in said
    assert not desk.hub.store.folder("datasets", DATASET).exists()  # the other repository is not begun


def tiny_file() -> tuple[str, dict[str, str]]:
    from local_hub import file

    return file("theirs.bin", "theirs")
