"""Every family of the table is pruned and proved, and the proof sees what would go wrong with each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from families import BEYOND, BLOCKS, FAMILIES, random_model
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from factory.errors import FactoryError
from factory.models import streamed_proof
from factory.models.architectures import TABLE
from factory.models.blocks import runs
from factory.models.checkpoint import parameter_count, read_checkpoint, stored_dtype
from factory.models.fields import FIELDS, Sliced
from factory.models.file_proof import compare
from factory.models.proof import prove
from factory.models.proof_plan import Plan
from factory.models.surgery import drop_blocks

DROPS = {"first": range(0, 2), "last": range(5, 8), "scattered": (1, 3, 6)}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """Models by family and dtype, made once."""

    class Made(dict[tuple[str, str], Path]):
        def __missing__(self, key: tuple[str, str]) -> Path:
            folder = tmp_path_factory.mktemp("base") / "model"
            self[key] = random_model(folder, key[0], key[1])
            return self[key]

    return Made()


def streamed(base: Path, pruned: Path, kept: tuple[int, ...]) -> None:
    """Outputs compared with the blocks on the disk."""
    checkpoint = read_checkpoint(base)
    plan = Plan.of(checkpoint, stored_dtype(base), "cpu")
    streamed_proof.compare(checkpoint, pruned, kept, plan, lambda note: None)


def test_every_family_of_the_table_is_tried() -> None:
    assert set(FAMILIES) == set(TABLE)


@pytest.mark.parametrize("drop", DROPS.values(), ids=DROPS.keys())
@pytest.mark.parametrize("family", FAMILIES)
def test_the_pruned_model_is_the_base_without_the_blocks(
    family: str, drop: Any, saved: dict[tuple[str, str], Path], tmp_path: Path
) -> None:
    base = saved[family, "bfloat16"]
    dropped = drop_blocks(base, tmp_path / "pruned", drop)
    proof = prove(base, tmp_path / "pruned", dropped.kept)
    assert (proof.mode, proof.max_difference, proof.dtype) == ("whole", 0.0, "bfloat16")
    assert proof.window == (5 if "sliding_window" in FAMILIES[family] else None)
    compare(read_checkpoint(base), tmp_path / "pruned", dropped.kept)
    if drop is DROPS["scattered"]:
        streamed(base, tmp_path / "pruned", dropped.kept)
    pruned = AutoModelForCausalLM.from_pretrained(tmp_path / "pruned")
    assert pruned.config.num_hidden_layers == BLOCKS - len(drop)
    assert dropped.pruned_parameters == pruned.num_parameters() == parameter_count(tmp_path / "pruned")


drops = st.sets(st.integers(0, BLOCKS - 1), min_size=1, max_size=BLOCKS - 1)
dtypes = st.sampled_from(["float32", "bfloat16", "float16"])


def proved_or_refused(base: Path, out: Path, drop: set[int]) -> None:
    """Refused only where a hybrid model would lose its last block with full attention."""
    kinds = json.loads((base / "config.json").read_text()).get("layer_types") or []
    full = {block for block, kind in enumerate(kinds) if kind == "full_attention"}
    if full and len(full) < BLOCKS and full <= drop:
        with pytest.raises(FactoryError, match="no block with full attention would be left"):
            drop_blocks(base, out, drop)
        assert not out.exists()
        return
    dropped = drop_blocks(base, out, drop)
    assert prove(base, out, dropped.kept).max_difference == 0.0
    compare(read_checkpoint(base), out, dropped.kept)
    streamed(base, out, dropped.kept)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(family=st.sampled_from(sorted(FAMILIES)), drop=drops, dtype=dtypes)
def test_any_drop_of_any_family_in_any_dtype(
    family: str, drop: set[int], dtype: str, saved: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    proved_or_refused(saved[family, dtype], tmp_path_factory.mktemp("out") / "pruned", drop)


@pytest.mark.slow
@settings(max_examples=120, deadline=None)
@given(family=st.sampled_from(sorted(FAMILIES | BEYOND)), drop=drops, dtype=dtypes)
def test_many_drops_of_families_in_the_table_and_beyond(
    family: str, drop: set[int], dtype: str, saved: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    proved_or_refused(saved[family, dtype], tmp_path_factory.mktemp("out") / "pruned", drop)


# What each field looks like when it is left as it was, or made anew from the number of blocks.
SHUFFLED = {
    "layer_types": lambda value: value[::-1],
    "no_rope_layers": lambda value: value[::-1],
    "mlp_only_layers": lambda value: [5 - block for block in value],
    "first_k_dense_replace": lambda value: value + 1,
}


@pytest.mark.parametrize(
    ("family", "key"), [(f, key) for f in TABLE for key in TABLE[f].per_block if key in SHUFFLED]
)
def test_every_proof_sees_a_field_that_gives_a_block_another_kind(
    family: str, key: str, saved: Any, tmp_path: Path
) -> None:
    base, out = saved[family, "bfloat16"], tmp_path / "pruned"
    dropped = drop_blocks(base, out, (0, 1))
    config = json.loads((out / "config.json").read_text())
    wrong = SHUFFLED[key](config[key])
    assert wrong != config[key]
    (out / "config.json").write_text(json.dumps({**config, key: wrong}))
    with pytest.raises(FactoryError, match=r"is not the base without these blocks|no fitting weights"):
        prove(base, out, dropped.kept)
    with pytest.raises(FactoryError, match="is not the base without these blocks"):
        compare(read_checkpoint(base), out, dropped.kept)
    with pytest.raises(FactoryError, match=r"is not the base without these blocks|no fitting weights"):
        streamed(base, out, dropped.kept)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_proof_sees_swapped_blocks(family: str, saved: Any, tmp_path: Path) -> None:
    base, out = saved[family, "bfloat16"], tmp_path / "pruned"
    dropped = drop_blocks(base, out, (2,))
    row, weights = read_checkpoint(out).row, load_file(out / "model.safetensors")

    def renamed(name: str) -> str:
        block = row.block_of(name)
        return row.renamed(name, {5: 6, 6: 5}[block]) if block in (5, 6) else name

    swapped = {renamed(name): value for name, value in weights.items()}
    save_file(swapped, out / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(FactoryError, match=r"is not the base without these blocks|no fitting weights"):
        prove(base, out, dropped.kept)
    with pytest.raises(FactoryError, match="is not the base without these blocks"):
        compare(read_checkpoint(base), out, dropped.kept)
    with pytest.raises(FactoryError, match=r"is not the base without these blocks|no fitting weights"):
        streamed(base, out, dropped.kept)


def deleted_in_memory(folder: Path, kept: tuple[int, ...]) -> Any:
    """The blocks deleted from the module list and renumbered by hand: another reference than the proof's."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    layers = model.model.layers
    for run in reversed(runs([i for i in range(len(layers)) if i not in kept])):
        del layers[run[0] : run[-1] + 1]
    for place, layer in enumerate(layers):
        layer.self_attn.layer_idx = place
    for key, field in FIELDS.items():
        if isinstance(field, Sliced) and getattr(model.config, key, None):
            setattr(model.config, key, [getattr(model.config, key)[block] for block in kept])
    model.config.num_hidden_layers = len(layers)
    return model


@pytest.mark.parametrize(
    "family", ["llama", "qwen2", "gemma2", "gemma3_text", "smollm3", "gpt_oss", "cohere2"]
)
def test_deleting_the_modules_by_hand_gives_the_same(family: str, saved: Any, tmp_path: Path) -> None:
    base = saved[family, "bfloat16"]
    dropped = drop_blocks(base, tmp_path / "pruned", (0, 2, 5))
    pruned = AutoModelForCausalLM.from_pretrained(tmp_path / "pruned").eval()
    ids = torch.randint(2, 64, (2, 12), generator=torch.Generator().manual_seed(1))
    by_hand = deleted_in_memory(base, dropped.kept)
    with torch.no_grad():
        assert torch.equal(by_hand(ids).logits, pruned(ids).logits)
        words = [m.generate(ids, max_new_tokens=12, do_sample=False) for m in (by_hand, pruned)]
    assert torch.equal(*words)
