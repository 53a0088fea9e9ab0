"""The openai engine against transformers' own server, which serves the sandbox's base."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from servers import running, serve_model

from factory import sandbox
from factory.engines import Engine, Generated, Request, Sampling, Server, load
from factory.errors import FactoryError

pytestmark = pytest.mark.slow
QUESTIONS = ("Tom has 3 apples and buys 4. How many apples has Tom?", "What is 2 + 5?", "Say hello.")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("fastapi")
    with running(serve_model(sandbox.model_folder()), tmp_path_factory.mktemp("serve") / "log") as address:
        yield f"{address}/v1"


def generate(engine: Engine, tokens: int) -> dict[int, Generated]:
    requests = [Request(i, ({"role": "user", "content": text},)) for i, text in enumerate(QUESTIONS)]
    return {result.id: result for result in engine.generate(requests, Sampling(tokens))}


@pytest.mark.parametrize("tokens", [6, 96])
def test_a_served_model_writes_what_it_writes_here(url: str, tokens: int) -> None:
    folder = sandbox.model_folder()
    served = generate(load("openai", folder, 2, Server(url, str(folder))), tokens)
    here = generate(load("transformers", folder, 2), tokens)
    for id, result in here.items():
        same = ("text", "prompt_tokens", "new_tokens")
        assert [getattr(served[id], name) for name in same] == [getattr(result, name) for name in same]
        if result.new_tokens < tokens:  # that server calls a turn that ends on its last token cut off
            assert served[id].finish == result.finish == "stop"
        else:
            assert served[id].finish == "length"


def test_another_model_s_name_is_refused_in_one_line(url: str) -> None:
    with pytest.raises(FactoryError, match=r"does not serve 'wrong' there \(400: Server is pinned"):
        generate(load("openai", sandbox.model_folder(), 2, Server(url, "wrong")), 6)
