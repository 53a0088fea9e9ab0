"""The part `regenerate` of a recipe: how the base rewrites responses, and which of them are kept."""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from factory.data.selection import Policy
from factory.engines import Name as EngineName
from factory.recipe.parts import LARGEST, Written
from factory.refused import refuse


class Server(Written):
    """An OpenAI-compatible server that serves the base; the API key is in the environment, not here."""

    url: str
    model: str = Field(min_length=1)
    api_key_env: str | None = None
    timeout: float = Field(default=600.0, gt=0, le=86_400)

    @field_validator("url")
    @classmethod
    def _plain_url(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            refuse("regenerate.server.url is no address", mend="Write it as http://localhost:8000/v1")
        if parts.username or parts.password or parts.query:
            mend = "Put the key into an environment variable and name that in `api_key_env`"
            refuse("regenerate.server.url holds more than an address", mend=mend)
        return url.rstrip("/")

    @field_validator("api_key_env")
    @classmethod
    def _variable(cls, name: str | None) -> str | None:
        if name is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", name):  # it may be a key: not repeated
            mend = "Name the variable that holds the key, such as OPENAI_API_KEY"
            refuse("regenerate.server.api_key_env is not the name of an environment variable", mend=mend)
        return name


class Regenerate(Written):
    """How the base rewrites responses, and which of them are kept; at temperature 0 it decodes greedily."""

    engine: EngineName = "transformers"
    server: Server | None = None
    sees: Literal["reference", "question"] = "reference"
    select: Policy = "verify"
    samples: int = Field(default=1, ge=1, le=64)
    temperature: float = Field(default=0.0, ge=0, le=2)
    max_new_tokens: int = Field(default=512, ge=1, le=LARGEST)
    batch_size: int | None = Field(default=None, ge=1, le=LARGEST)

    @model_validator(mode="after")
    def _fits(self) -> Regenerate:
        if (self.engine == "openai") != (self.server is not None):
            what = "regenerate.server goes with `engine: openai`"
            mend = "Add both or neither; a server is {url: http://localhost:8000/v1, model: <its name there>}"
            refuse(what, mend=mend, at="engine" if self.server is None else "server")
        several = self.select in ("best_of", "likeliest")
        if self.samples > 1 and not several:
            mend = "Choose `select: best_of` or `likeliest`, or leave samples out"
            refuse("regenerate.samples above 1 leaves `select` nothing to do", mend=mend, at="samples")
        if self.select == "best_of" and self.samples == 1:
            refuse("`select: best_of` needs several samples", mend="Add `samples: 4`", at="select")
        if self.samples > 1 and self.temperature == 0:
            what = "at temperature 0 all samples are the same"
            refuse(what, mend="Set `temperature: 0.7`, say", at="samples")
        if self.select == "likeliest" and self.engine == "openai":
            what = "a server does not tell how likely the original response is"
            refuse(what, mend="Use the engine transformers or vllm for `likeliest`", at="select")
        return self
