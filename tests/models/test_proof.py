"""What the proof says and refuses. That it sees every wrong field is shown family by family elsewhere."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from families import BEYOND, FAMILIES, random_model
from safetensors.torch import load_file, save_file

from factory.errors import FactoryError
from factory.models import memory, proof, proof_plan, streamed_proof
from factory.models.checkpoint import read_checkpoint
from factory.models.in_memory import remove_in_memory
from factory.models.surgery import drop_blocks


@pytest.fixture
def pruned(tmp_path: Path) -> tuple[Path, Path, tuple[int, ...]]:
    """A base, the same without block 2, and the kept blocks."""
    base = random_model(tmp_path / "base", "mistral")
    return base, tmp_path / "pruned", drop_blocks(base, tmp_path / "pruned", (2,)).kept


def test_it_goes_beyond_the_window_with_a_cache(pruned: Any) -> None:
    found = proof.prove(*pruned)
    assert (found.mode, found.window, found.generated, found.dtype) == ("whole", 5, 8, "bfloat16")
    assert found.tokens == 2 * 16 + (5 + 8) + 8
    assert found.sentence().startswith(
        "proved: over 53 tokens, 8 of them generated, the same logits bit for bit"
    )
    assert found.facts()["max_difference"] == 0.0


def test_a_wide_window_is_made_narrow_in_both_models_only_where_it_is_much_work(
    pruned: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert proof.prove(*pruned).narrowed_from is None
    monkeypatch.setattr(proof_plan, "NARROW", 3)
    assert proof.prove(*pruned).narrowed_from is None  # little work, wide as it is
    monkeypatch.setattr(proof_plan, "WORK", {"cpu": 1.0, "cuda": 1.0})
    found = proof.prove(*pruned)
    assert (found.window, found.narrowed_from, found.tokens) == (3, 5, 2 * 16 + (3 + 8) + 8)
    assert "windows of 5 made 3" in found.sentence()


def test_a_base_that_does_not_run_itself_is_told_from_blocks_that_are_needed(tmp_path: Path) -> None:
    """Youtu takes the width of its rotations from `head_dim`, which is not that of these heads."""
    heads = {
        "kv_lora_rank": 16, "q_lora_rank": 16, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8, "v_head_dim": 8,
        "num_key_value_heads": 4,
    }  # fmt: skip
    base = random_model(tmp_path / "base", "youtu", **heads)
    kept = drop_blocks(base, tmp_path / "pruned", (2,)).kept
    with pytest.raises(FactoryError, match="does not run as it is, with all its blocks") as refused:
        proof.prove(base, tmp_path / "pruned", kept)
    assert refused.value.where == str(base) and "cannot be removed safely" not in str(refused.value)


def test_a_base_that_needs_its_blocks_is_not_called_broken(
    pruned: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(model: Any, kept: Any) -> None:
        remove_in_memory(model, kept)
        model.model.layers[kept[1]] = torch.nn.Linear(1, 1)

    monkeypatch.setattr(proof, "remove_in_memory", spoil)
    with pytest.raises(FactoryError, match="the model does not run without these blocks"):
        proof.prove(*pruned)


def test_a_head_that_is_missing_has_its_own_message(tmp_path: Path) -> None:
    base = random_model(tmp_path / "base", "llama")
    weights = load_file(base / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    kept = drop_blocks(base, tmp_path / "pruned", (2,)).kept
    with pytest.raises(FactoryError, match=r"has no language-model head \(lm_head.weight\)"):
        proof.prove(base, tmp_path / "pruned", kept)


@pytest.mark.parametrize("change", [1e-3, -1e-3])
def test_one_changed_weight_is_seen(pruned: Any, change: float) -> None:
    base, out, kept = pruned
    weights = load_file(out / "model.safetensors")
    weights["model.layers.3.self_attn.v_proj.weight"][3, 3] += 0.5 + change
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(FactoryError, match=r"without these blocks: logits differ by up to [0-9.e-]+"):
        proof.prove(base, out, kept)


def test_a_missing_tensor_is_seen(pruned: Any) -> None:
    base, out, kept = pruned
    weights = load_file(out / "model.safetensors")
    del weights["model.layers.3.self_attn.v_proj.weight"]
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(FactoryError, match=r"no fitting weights for model\.layers\.3\.self_attn\.v_proj"):
        proof.prove(base, out, kept)


def test_a_config_that_transformers_refuses_is_seen(pruned: Any) -> None:
    base, out, kept = pruned
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps({**config, "layer_types": ["full_attention"]}))
    with pytest.raises(FactoryError, match="stock transformers does not load it"):
        proof.prove(base, out, kept)


def test_outputs_that_are_no_numbers_prove_nothing(tmp_path: Path) -> None:
    base = random_model(tmp_path / "base", "llama")
    weights = load_file(base / "model.safetensors")
    weights["model.norm.weight"][0] = torch.nan
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    dropped = drop_blocks(base, tmp_path / "pruned", (2,))
    with pytest.raises(FactoryError, match="nothing is proved"):
        proof.prove(base, tmp_path / "pruned", dropped.kept)


def test_a_model_too_large_for_memory_is_compared_block_by_block(
    pruned: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof, "fits", lambda *_: False)
    told: list[str] = []
    found = proof.prove(*pruned, told.append)
    assert (found.mode, found.tokens, found.generated, found.window) == ("streamed", 5 + 8 + 2, 2, 5)
    assert (found.max_difference, found.dtype, found.why_no_outputs) == (0.0, "bfloat16", None)
    assert found.sentence().startswith("proved block by block: over 15 tokens, 2 of them generated, every")
    assert [note.split(":")[0] for note in told] == [
        "the model is too large for memory", "running the base without the blocks, block by block",
        "running the pruned model, block by block",
    ]  # fmt: skip
    assert sorted(path.name for path in pruned[1].parent.iterdir()) == ["base", "pruned"]


def test_where_not_even_two_blocks_fit_the_files_are_compared(
    pruned: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available", lambda: 1000)
    found = proof.prove(*pruned)
    assert (found.mode, found.tokens, found.max_difference) == ("files", 0, None)
    assert "no outputs were compared, because embeddings and two blocks need" in found.sentence()


def test_experts_that_are_fused_when_loaded_need_room_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = random_model(tmp_path / "base", "mixtral")
    kept = drop_blocks(base, tmp_path / "pruned", (2,)).kept
    monkeypatch.setattr(proof, "fits", lambda *_: False)
    assert proof.prove(base, tmp_path / "pruned", kept).mode == "streamed"
    # In two bytes: of 8 blocks 4 experts with 3 matrices of 32 x 48, and the router, which has another name.
    needed = 2 * 8 * (4 * 3 * 32 * 48 + 4 * 32)
    for free, mode in ((needed, "streamed"), (needed - 1, "files")):
        monkeypatch.setattr(streamed_proof.shutil, "disk_usage", lambda _, n=free: SimpleNamespace(free=n))
        assert proof.prove(base, tmp_path / "pruned", kept).mode == mode


def stored_swap(out: Path) -> None:
    """Two tensors of one shape, exchanged within a block."""
    weights = load_file(out / "model.safetensors")
    one, other = (f"model.layers.3.mlp.{name}_proj.weight" for name in ("gate", "up"))
    weights[one], weights[other] = weights[other], weights[one]
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})


def window_pattern(out: Path) -> None:
    """What makes block 3 another than it was."""
    config = json.loads((out / "config.json").read_text())
    kinds = config["layer_types"]
    kinds[3] = {"full_attention": "sliding_attention", "sliding_attention": "full_attention"}[kinds[3]]
    (out / "config.json").write_text(json.dumps(config))


def rotation(out: Path) -> None:
    """Another base of the rotations, for all blocks: seen at the first."""
    text = (out / "config.json").read_text()
    assert '"rope_theta": 10000.0' in text
    (out / "config.json").write_text(text.replace('"rope_theta": 10000.0', '"rope_theta": 500.0'))


def head(out: Path) -> None:
    weights = load_file(out / "model.safetensors")
    weights["model.norm.weight"] += 1
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("family", "spoil", "says"),
    [
        ("llama", stored_swap, "block 3 gives other outputs than the base's block 4"),
        ("qwen2", window_pattern, "block 3 gives other outputs than the base's block 4"),
        ("llama", rotation, "block 0 gives other outputs than the base's block 0"),
        ("llama", head, "generation differ by up to"),
    ],
)
def test_outputs_block_by_block_name_what_differs(family: str, spoil: Any, says: str, tmp_path: Path) -> None:
    base, out = random_model(tmp_path / "base", family), tmp_path / "pruned"
    kept = drop_blocks(base, out, (2,)).kept
    spoil(out)
    checkpoint = read_checkpoint(base)
    plan = proof_plan.Plan.of(checkpoint, "bfloat16", "cpu")
    with pytest.raises(FactoryError, match=says):
        streamed_proof.compare(checkpoint, out, kept, plan, lambda note: None)


WINDOWED = [name for name, own in (FAMILIES | BEYOND).items() if "sliding_window" in own]


@pytest.mark.parametrize("family", WINDOWED)
def test_a_long_prompt_runs_in_chunks(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof_plan, "CHUNK", 6)
    base = random_model(tmp_path / "base", family)
    dropped = drop_blocks(base, tmp_path / "pruned", (1, 4))
    plan = proof_plan.Plan.of(read_checkpoint(base), "bfloat16", "cpu")
    assert (plan.prompt, plan.chunk) == (13, 6)
    assert proof.prove(base, tmp_path / "pruned", dropped.kept).max_difference == 0.0


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda w: w["model.layers.3.mlp.up_proj.weight"].add_(1), r"up_proj\.weight has other bytes"),
        (lambda w: w.pop("lm_head.weight"), "tensors where"),
        (lambda w: w.update({"model.norm.weight": torch.ones(3)}), "another shape or dtype"),
    ],
)
def test_block_by_block_sees_the_bytes(
    spoil: Any, says: str, pruned: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, out, kept = pruned
    weights = load_file(out / "model.safetensors")
    spoil(weights)
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    monkeypatch.setattr(proof, "fits", lambda *_: False)
    with pytest.raises(FactoryError, match=says):
        proof.prove(base, out, kept)


def test_memory_is_measured_against_the_container_too(tmp_path: Path, monkeypatch: Any) -> None:
    group = tmp_path / "own"
    group.mkdir()
    (group / "memory.max").write_text("5000\n")
    (group / "memory.current").write_text("4000\n")
    (group / "memory.stat").write_text("anon 1000\nfile 2500\n")
    (tmp_path / "memory.max").write_text("max\n")
    real = Path.read_text

    def read(path: Path, *arguments: Any, **more: Any) -> str:
        return "0::/own\n" if str(path) == "/proc/self/cgroup" else real(path, *arguments, **more)

    monkeypatch.setattr(Path, "read_text", read)
    assert memory._container(tmp_path) == [3500]
    assert 0 < memory.available() < resource.RLIM_INFINITY or resource.RLIM_INFINITY == -1


def test_small_models_are_not_worth_a_gpu(pruned: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_cuda_free", lambda: 10**12)
    assert not memory.fits(read_checkpoint(pruned[0]), "cuda")
    assert memory.fits(read_checkpoint(pruned[0]), "cpu")
    monkeypatch.setattr(memory, "SMALL", 1)
    assert memory.fits(read_checkpoint(pruned[0]), "cuda", more=10**9)
    assert not memory.fits(read_checkpoint(pruned[0]), "cuda", more=2 * 10**12)
