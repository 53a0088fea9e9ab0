"""An HF_ENDPOINT that is no address is told before the Hub is asked, by every command that would ask it."""

from __future__ import annotations

from pathlib import Path

import pytest
from written import SANDBOX_RECIPE, write

from factory.cli import call


@pytest.mark.parametrize(
    ("endpoint", "mend"),
    [
        ("127.0.0.1:8000", "Write http://127.0.0.1:8000, if that is meant, or unset it."),
        ("localhost:8000", "Write http://localhost:8000, if that is meant, or unset it."),
        ("hub.example.org", "Write https://hub.example.org, if that is meant, or unset it."),
        ("ftp://hub.example.org", "Write http://HOST:PORT."),
        ("", "Write http://HOST:PORT."),
    ],
)
@pytest.mark.parametrize(
    "command",
    [
        ["validate", "{recipe}"],
        ["compare", "acme/a", "acme/b"],
        ["pull", "acme/a"],
        ["leaderboard", "build", "--from", "acme", "--out", "out"],
    ],
    ids=lambda words: words[0],
)
def test_an_endpoint_without_http_is_one_line(
    endpoint: str,
    mend: str,
    command: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = write(tmp_path, SANDBOX_RECIPE.replace("sandbox/base", "acme/base"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    assert call([word.format(recipe=recipe) for word in command]) == 2
    said = f"error: HF_ENDPOINT: '{endpoint}' is no address of a Hub. {mend}\n"
    assert capsys.readouterr().err == said
