"""Real servers on loopback for tests of the engine `openai`.

`python servers.py PORT` runs one that misbehaves, in a way told by the path before `/v1`; `running` starts
any server's process on a free port and ends it.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


@contextmanager
def running(command: Sequence[str], log: Path, path: str = "/health") -> Iterator[str]:
    """Starts `command` with `{port}` filled in and yields `http://127.0.0.1:port` once `path` answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [word.format(port=port) for word in command], stdout=output, stderr=output,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    try:
        until = time.monotonic() + 120
        while True:
            with suppress(OSError), urllib.request.urlopen(url + path, timeout=5):
                break
            assert process.poll() is None and time.monotonic() < until, log.read_text()
            time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=20)


def serve_model(folder: Path) -> list[str]:
    """The command of transformers' own server for a model folder."""
    options = ["--host", "127.0.0.1", "--port", "{port}", "--device", "cpu", "--dtype", "float32"]
    return [str(Path(sys.executable).with_name("transformers")), "serve", str(folder), *options]


def serve_faults() -> list[str]:
    """The command of the server that misbehaves."""
    return [sys.executable, __file__, "{port}"]


def _main(port: int) -> None:
    import asyncio

    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse, PlainTextResponse, Response
    from starlette.routing import Route

    seen: dict[str, int] = {}
    working: dict[str, int] = {}
    most: dict[str, int] = {}

    def completion(content: str, finish: str = "stop", **more: Any) -> dict[str, Any]:
        choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish}
        usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        return {"object": "chat.completion", "choices": [{**choice, **more}], "usage": usage}

    def refused(status: int, message: str, **headers: str) -> Response:
        return JSONResponse({"error": {"message": message}}, status, headers=headers)

    async def chat(request: Request) -> Response:
        how, body = request.path_params["how"], await request.json()
        text = body["messages"][-1]["content"]
        seen[how] = seen.get(how, 0) + 1
        if how == "401":
            return refused(401, f"Incorrect API key provided: {request.headers.get('authorization')}")
        if how == "key" and request.headers.get("authorization") != "Bearer s3cret":
            return refused(401, "no key")
        if how == "429" or (how == "busy-at-first" and seen[how] <= 4):
            return refused(429, "slow down", **({"Retry-After": "0"} if how == "429" else {}))
        if how == "500" or (how == "broken-at-first" and seen[how] <= 4):
            return refused(500, "CUDA error")
        if how == "mixed" and not text.endswith(" 7"):
            return refused(429, "slow down")
        if how in ("404", "mixed"):
            return refused(404, f"The model `{body['model']}` does not exist.")
        if how == "too-long" and len(text) > 20:
            return refused(400, "This model's maximum context length is 20 tokens. Shorten your prompt.")
        if how == "no-logprobs" and "logprobs" in body:
            return refused(422, "Unexpected fields in the request: {'logprobs'}")
        if how == "bad-request":
            return refused(400, "temperature is out of range")
        if how == "no-choices":
            return JSONResponse({**completion(text), "choices": []})
        if how == "page":
            return PlainTextResponse("<html>It works!</html>")
        if how == "slow":
            await asyncio.sleep(3)
        if how == "crowd":
            working[how] = working.get(how, 0) + 1
            most[how] = max(most.get(how, 0), working[how])
            await asyncio.sleep(0.02)
            working[how] -= 1
        if how == "filtered":
            return JSONResponse(completion(text, "content_filter"))
        told = {"content": [{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": -1.5}]}
        said = json.dumps({key: body.get(key) for key in ("seed", "temperature", "max_tokens")})
        return JSONResponse(completion(said if how == "echo" else f"{text}!", logprobs=told))

    async def models(request: Request) -> Response:
        if request.path_params["how"] == "key" and "authorization" not in request.headers:
            return refused(401, "no key")
        return JSONResponse({"object": "list", "data": [{"id": "the-base"}, {"id": "another"}]})

    async def count(request: Request) -> Response:
        how = request.path_params["how"]
        return JSONResponse({"seen": seen.get(how, 0), "most": most.get(how, 0)})

    routes = [
        Route("/health", lambda request: PlainTextResponse("ok")),
        Route("/{how}/count", count),
        Route("/{how}/v1/models", models),
        Route("/{how}/v1/chat/completions", chat, methods=["POST"]),
    ]
    uvicorn.run(Starlette(routes=routes), host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    _main(int(sys.argv[1]))
