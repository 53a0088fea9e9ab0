"""lighteval 0.13's own `Pipeline` and commands, made to work with today's client: all workarounds.

    parameters = PipelineParameters(..., custom_tasks_directory="factory.tasks.openllm_v1")
    with working():
        Pipeline("openllm_v1_arc|25", parameters, ...).evaluate()

    python -m factory.tasks.lighteval_upstream accelerate ...      (lighteval's own commands)

The factory's evaluation does not pass here; it is for those who want the suite in lighteval itself. Each
workaround stands beside its cause and goes when its test in tests/tasks/test_lighteval_upstream.py fails.

lighteval's own vLLM back end cannot stand beside this package, and no workaround here would make it: 0.13
imports vLLM only where 0.10.0 <= its version < 0.10.2 (`utils/imports.is_package_available`; of any other
the names are mocks and `@requires` refuses). That vLLM pins torch 2.7.1 and reads
`tokenizer.all_special_tokens_extended`, which transformers 5 took away. Of a vLLM that takes our torch
(0.29), models/vllm/vllm_model.py asks for what is gone: `vllm.transformers_utils.tokenizer`,
`LLM.generate(prompt_token_ids=)`, the argument `swap_space` and `max_seq_len_to_capture`. lighteval's
unreleased main has moved on (its pull requests 1173 and 1211). Until then its command `vllm` needs an
environment of its own, with transformers < 5 and this package without its dependencies:

    pip install "lighteval[vllm]==0.13.0" "transformers<5" && pip install --no-deps model-factory
    python -m factory.tasks.lighteval_upstream vllm \\
        "model_name=my-org/my-model,override_chat_template=False,max_model_length=8192" \\
        "$(python -m factory.tasks.openllm_v1)" --custom-tasks factory.tasks.openllm_v1

That was read in the sources of lighteval 0.13.0, vLLM 0.10.1.1 and 0.29.0. Run were the task module with
transformers 4.57 (its scores are the same) and the command up to loading vLLM, never a GPU. Without
`max_model_length` prompts are cut at `max_seq_len_to_capture`, 8,192 tokens or fewer; and of a tokenizer
that transformers 5 saved, transformers 4 wants `tokenizer_class` to be `PreTrainedTokenizerFast`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import xxhash
from lighteval.logging import info_loggers
from lighteval.pipeline import Pipeline
from lighteval.tasks.lighteval_task import LightevalTaskConfig
from lighteval.tasks.registry import Registry


@contextmanager
def working() -> Iterator[None]:
    """Inside, lighteval's `Pipeline` can be built and run; only the custom tasks are known to it."""
    replaced = (
        (Registry, "load_all_task_configs", staticmethod(_custom_tasks)),
        (info_loggers, "xxhash", SimpleNamespace(xxh64=_xxh64)),
        (Pipeline, "_run_model", _run_model),
    )
    before = [(owner, name, vars(owner)[name]) for owner, name, _ in replaced]
    try:
        for owner, name, ours in replaced:
            setattr(owner, name, ours)
        yield
    finally:
        for owner, name, theirs in before:
            setattr(owner, name, theirs)


def _custom_tasks(
    custom_tasks: str | Path | ModuleType | None = None, load_multilingual: bool = False
) -> dict[str, LightevalTaskConfig]:
    """The tasks of the custom module alone, without importing lighteval's own.

    Causes: lighteval/tasks/tasks/tiny_benchmarks.py downloads a pickle from GitHub when it is imported,
    so nothing starts offline; metrics/metrics_sample.py (`JudgeLLM`, made when tasks/tasks/mt_bench and
    mix_eval are imported) calls `HfApi.list_models(model_name=...)`, an argument that huggingface_hub 2
    no longer has.
    """
    if custom_tasks is None:
        return {}
    return Registry._extract_configs(Registry.create_custom_tasks_module(custom_tasks))


def _xxh64(text: str | bytes) -> Any:
    """Cause: lighteval/logging/info_loggers.py hashes str, xxhash 4 takes bytes alone."""
    return xxhash.xxh64(text.encode() if isinstance(text, str) else text)


_run = Pipeline._run_model


def _run_model(pipeline: Pipeline) -> Any:
    """Runs the model without the sample cache.

    Cause: lighteval/utils/cache_management.py keys answers by the model's configuration, which is its
    name and settings and not its weights: a model trained further under the same name gets the scores it
    had before. `Pipeline` wants a cache while it is built, and the models take None for "no cache".
    """
    pipeline.model._cache = None
    return _run(pipeline)


def main() -> None:
    """lighteval's command line, with the workarounds."""
    from lighteval.__main__ import app

    sys.argv[0] = "lighteval"
    with working():
        app()


if __name__ == "__main__":
    main()
