"""The vllm engine: where vLLM is not installed, that is one line; where it is, it writes as others do."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from factory import sandbox
from factory.engines import Answered, Request, Sampling, load
from factory.errors import FactoryError

INSTALLED = importlib.util.find_spec("vllm") is not None
QUESTIONS = ("Tom has 3 apples and buys 4. How many apples has Tom?", "What is 2 + 5?", "Say hello.")


@pytest.mark.skipif(INSTALLED, reason="vLLM is installed")
def test_without_vllm_the_way_out_is_told(tiny_model: Path) -> None:
    with pytest.raises(FactoryError) as caught:
        load("vllm", tiny_model)
    message = str(caught.value)
    assert "the engine 'vllm' cannot be loaded" in message
    assert "model-factory[vllm]" in message and "openai" in message
    assert "\n" not in message


@pytest.mark.slow
@pytest.mark.skipif(not INSTALLED, reason="vLLM is not installed")
def test_vllm_writes_what_transformers_writes() -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("vLLM needs a GPU")
    folder = sandbox.model_folder()
    messages = [({"role": "user", "content": text},) for text in QUESTIONS]
    found = {}
    for name in ("transformers", "vllm"):
        engine = load(name, folder, 2)
        requests = [Request(i, said) for i, said in enumerate(messages)]
        written = {result.id: result for result in engine.generate(requests, Sampling(48))}
        chats = [Answered(i, said, "It is 7. #### 7") for i, said in enumerate(messages)]
        found[name] = written, dict(engine.likelihoods(chats))
    (here, likely), (there, also) = found["transformers"], found["vllm"]
    for id, result in here.items():
        assert (there[id].finish, there[id].new_tokens) == (result.finish, result.new_tokens)
        assert there[id].text == result.text
        assert there[id].mean_logprob == pytest.approx(result.mean_logprob, abs=0.05)
        assert also[id] == pytest.approx(likely[id], abs=0.05)
