"""Each kind of per-block field, rewritten for the kept blocks; and the fields that allow no rewriting."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.errors import FactoryError
from factory.models.architectures import TABLE, architecture_of
from factory.models.fields import FIELDS
from factory.models.per_block import pruned_config

HERE = Path("here")
KEPT = (1, 2, 4, 5)  # of six


def rewritten(**fields: Any) -> dict[str, Any]:
    row = replace(TABLE["llama"], per_block=tuple(key for key in fields if key in FIELDS))
    return pruned_config({"num_hidden_layers": 6, **fields}, row, HERE, KEPT)


def test_the_count_and_nothing_else_changes_without_such_fields() -> None:
    assert rewritten(hidden_size=8) == {"num_hidden_layers": 4, "hidden_size": 8}


def test_a_list_is_sliced_and_the_pattern_it_replaces_goes() -> None:
    kinds = ["a", "b", "c", "d", "e", "full_attention"]
    config = rewritten(layer_types=kinds, sliding_window_pattern=6, mlp_layer_types=kinds)
    assert config["layer_types"] == config["mlp_layer_types"] == ["b", "c", "e", "full_attention"]
    assert "sliding_window_pattern" not in config


def test_a_list_of_indices_is_renumbered() -> None:
    assert rewritten(mlp_only_layers=[0, 2, 5])["mlp_only_layers"] == [1, 3]


def test_every_nth_becomes_an_explicit_list() -> None:
    """Blocks 1, 3, 5 have experts, but 1 is an exception: of the kept 1, 2, 4, 5 only 5 has them."""
    config = rewritten(decoder_sparse_step=2, mlp_only_layers=[1])
    assert (config["decoder_sparse_step"], config["mlp_only_layers"]) == (1, [0, 1, 2])


def test_a_number_of_leading_blocks_shrinks_with_them() -> None:
    config = rewritten(first_k_dense_replace=3, max_window_layers=28)
    assert (config["first_k_dense_replace"], config["max_window_layers"]) == (2, 4)


def test_a_mapping_from_indices_is_renumbered_whether_they_are_numbers_or_text() -> None:
    config = rewritten(per_layer_config={"1": {"x": 1}, 3: {"x": 3}, "5": {"x": 5}})
    assert config["per_layer_config"] == {"0": {"x": 1}, "3": {"x": 5}}


def test_further_blocks_behind_the_last_are_given_up() -> None:
    assert rewritten(num_nextn_predict_layers=1)["num_nextn_predict_layers"] == 0


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"layer_types": ["a"] * 5}, "layer_types has 5 entries for 6 blocks"),
        ({"layer_types": "all"}, "layer_types is 'all', which says nothing about blocks"),
        ({"first_k_dense_replace": [1]}, "says nothing about blocks"),
        (
            {"layer_types": ["full_attention", "a", "a", "full_attention", "a", "a"]},
            r"no block with full attention would be left \(of this model they are 0, 3\)\. Keep at least one",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_rewritten_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(FactoryError, match=says):
        rewritten(**fields)


@pytest.mark.parametrize(
    ("model_type", "fields", "says"),
    [
        ("gpt2", {"n_layer": 6, "scale_attn_by_inverse_layer_idx": True}, "by its own index"),
        ("llama", {"num_kv_shared_layers": 2}, "read the keys and values of other blocks"),
        ("llama", {"no_rope_layers": [1, 1, 1, 0, 1, 1]}, "'no_rope_layers' with one entry a block"),
        ("smollm3", {"head_counts": [1, 1, 1, 0, 1, 1]}, "'head_counts' with one entry a block"),
        ("llama", {"num_hidden_layers": None}, "no usable num_hidden_layers"),
        ("llama", {"architectures": ["LlamaForSequenceClassification"]}, "not the causal language model"),
        ("no_such", {}, "transformers does not know model_type 'no_such'"),
        ("t5", {}, "the model has an encoder|no causal language model"),
    ],
)  # fmt: skip
def test_configs_under_which_no_block_can_go(model_type: str, fields: dict[str, Any], says: str) -> None:
    with pytest.raises(FactoryError, match=says):
        architecture_of({"model_type": model_type, "num_hidden_layers": 6, **fields}, HERE)


def test_switched_off_it_is_no_obstacle() -> None:
    config = {"model_type": "gpt2", "n_layer": 6, "scale_attn_by_inverse_layer_idx": False}
    assert architecture_of(config, HERE).blocks == "transformer.h."


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.integers(1, 6), st.integers(0, 5), st.sets(st.integers(0, 9), min_size=1))
def test_a_rhythm_is_found_wherever_there_is_one(period: int, offset: int, blocks: set[int]) -> None:
    kept, offset = sorted(blocks), offset % period
    row = replace(TABLE["llama"], per_block=("attn_layer_period",))
    config = {"num_hidden_layers": 10, "attn_layer_period": period, "attn_layer_offset": offset}
    kinds = [block % period == offset for block in kept]
    fitting = [
        (n, first)
        for n in range(1, 12)
        for first in range(n)
        if [place % n == first for place in range(len(kept))] == kinds
    ]
    try:
        pruned = pruned_config(config, row, HERE, kept)
    except FactoryError as error:
        assert not fitting and "by a pattern (attn_layer_period" in str(error)
    else:
        assert (pruned["attn_layer_period"], pruned["attn_layer_offset"]) in fitting


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.integers(1, 4), st.integers(0, 9), st.integers(-1, 9), st.sets(st.integers(0, 9), min_size=1))
def test_an_interval_between_two_blocks_is_found_wherever_there_is_one(
    step: int, start: int, end: int, blocks: set[int]
) -> None:
    kept = sorted(blocks)
    names = ("moe_layer_interval", "moe_layer_start_index", "moe_layer_end_index")
    row = replace(TABLE["llama"], per_block=names[:1])
    config = {"num_hidden_layers": 10, **dict(zip(names, (step, start, end), strict=True))}

    def kinds(of: Iterable[int], step: int, start: int, end: int, count: int) -> list[bool]:
        last = count - 1 if end == -1 else end  # as ERNIE 4.5's config and blocks read it
        return [(block + 1) % step == 0 and start <= block <= last for block in of]

    wanted = kinds(kept, step, start, end, 10)
    places = range(len(kept))
    ways = [(n, a, b) for n in range(1, 12) for a in range(12) for b in range(12)]
    try:
        pruned = pruned_config(config, row, HERE, kept)
    except FactoryError as error:
        assert "by a pattern (moe_layer_interval" in str(error)
        assert not any(kinds(places, *way, len(kept)) == wanted for way in ways)
    else:
        assert kinds(places, *(pruned[name] for name in names), len(kept)) == wanted


def test_short_lists_that_are_repeated_are_written_out() -> None:
    config = rewritten(block_types=["a", "b", "c"], attention_types=[[["g", "l"], 2], [["g"], 2]])
    assert config["block_types"] == ["b", "c", "b", "c"]
    assert config["attention_types"] == [[["l", "g", "g", "g"], 1]]


def test_indices_make_the_interval_that_they_replace_go() -> None:
    config = rewritten(moe_layers=[1, 3, 5], interleave_moe_layer_step=2)
    assert config["moe_layers"] == [0, 3] and "interleave_moe_layer_step" not in config
