"""Models that cannot be pruned whatever their family: quantised, with code of their own, not decoders alone.

Stands under architectures.py and checkpoint.py. Everything is read from config.json and the tensors' names,
before a byte is copied.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from factory.errors import FactoryError
from factory.models.headers import BITS, StoredTensor

# Endings of tensors that only quantised checkpoints have, where config.json does not say it.
_QUANTISED = {
    "GPTQ or AWQ": (".qweight", ".qzeros", ".g_idx"),
    "bitsandbytes": (".absmax", ".quant_map", ".SCB", ".quant_state.bitsandbytes__nf4"),
    "FP8": (".weight_scale_inv", ".weight_scale", ".input_scale"),
    "MXFP4": ("_proj_blocks", "_proj_scales"),
}
_SMALL_FLOATS = {dtype for dtype, bits in BITS.items() if dtype.startswith("F") and bits <= 8}
_UNQUANTISED = "Use the unquantised checkpoint; quantise after the run"
# A config inside the config: the decoder is one part of several.
_PARTS = ("vision_config", "audio_config", "text_config", "llm_config", "speech_config")


def refuse_code(config: Mapping[str, Any], where: Path) -> None:
    """Refuses a model that only runs with code of its own.

    Raises:
        FactoryError: config.json names such code, and transformers has none of its own for the family.
    """
    if config.get("auto_map") and not _stock(config):
        raise FactoryError(
            "the model wants code of its own to be run (auto_map in config.json): transformers has no "
            f"causal language model of model_type {config.get('model_type')!r}",
            where=str(where),
            mend="Use a model that transformers loads by itself, without trust_remote_code",
        )


def refuse_foreign(config: Mapping[str, Any], where: Path) -> None:
    """Refuses what a config.json already shows.

    Raises:
        FactoryError: code of its own, quantised weights, an encoder, or parts besides the decoder.
    """
    refuse_code(config, where)
    if config.get("transformers_weights"):
        raise FactoryError(
            f"config.json names a weights file of its own ({config['transformers_weights']})",
            where=str(where),
            mend="Save the model again (save_pretrained)",
        )
    quantised = config.get("quantization_config") or config.get("compression_config")
    if quantised:
        named = quantised.get("quant_method") if isinstance(quantised, Mapping) else None
        how = f" ({named})" if named else ""
        raise FactoryError(f"the weights are quantised{how}", where=str(where), mend=_UNQUANTISED)
    if config.get("is_encoder_decoder") or config.get("add_cross_attention"):
        raise FactoryError(
            "the model has an encoder: only decoders can be pruned here",
            where=str(where),
            mend="Use a decoder-only language model",
        )
    for part in _PARTS:
        if isinstance(config.get(part), Mapping):
            raise FactoryError(
                f"the model is more than a language model ({part} in config.json)",
                where=str(where),
                mend="Save its language model, head and all, as a causal language model (such as "
                "Gemma3ForCausalLM) and use that",
            )


def _stock(config: Mapping[str, Any]) -> bool:
    """Whether stock transformers loads a config that has `auto_map` without running the code it names.

    It does where it knows the model_type: `from_pretrained` then leaves `auto_map` aside unless it is told
    trust_remote_code=True (resolve_trust_remote_code in its dynamic_module_utils.py). Else it asks.
    """
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    model_type = config.get("model_type")
    return model_type in CONFIG_MAPPING_NAMES and model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES


def refuse_quantised(tensors: Iterable[StoredTensor], where: Path) -> None:
    """Refuses weights that are quantised though config.json does not say so.

    Raises:
        FactoryError: there is a tensor of floats in eight bits or fewer, or one of a quantisation's own.
    """
    for tensor in tensors:
        if tensor.dtype in _SMALL_FLOATS:
            what = f"the weights are quantised ({tensor.name} is stored as {tensor.dtype})"
            raise FactoryError(what, where=str(where), mend=_UNQUANTISED)
        for method, endings in _QUANTISED.items():
            if tensor.name.endswith(endings):
                what = f"the weights are quantised ({method}: there is a tensor {tensor.name})"
                raise FactoryError(what, where=str(where), mend=_UNQUANTISED)
