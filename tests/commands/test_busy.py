"""The sign of life before a run's display begins: on a terminal only, and gone when the result comes."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

QUICKSTART = Path(__file__).parents[2] / "recipes" / "quickstart.yaml"


def _validated(recipe: Path) -> tuple[subprocess.CompletedProcess[bytes], str]:
    """`factory validate` with a terminal for its errors, and what that terminal was sent."""
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        finished = subprocess.run(
            [sys.executable, "-m", "factory.cli", "validate", str(recipe)],
            stdout=subprocess.PIPE, stderr=theirs, env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
        )  # fmt: skip
        os.close(theirs)
        sent = b""
        try:
            while part := terminal.read(4096):
                sent += part
        except OSError:  # how a terminal says that nobody writes to it any more
            pass
    return finished, sent.decode()


def test_a_terminal_sees_that_a_recipe_is_being_read() -> None:
    finished, sent = _validated(QUICKSTART)
    assert finished.returncode == 0 and finished.stdout.startswith(str(QUICKSTART).encode())
    assert "reading quickstart.yaml" in sent
    assert sent.rindex("\x1b[2K") > sent.rindex("reading")  # the line is wiped, and the cursor shown again
    assert sent.rindex("\x1b[?25h") > sent.rindex("\x1b[?25l")


def test_an_error_stands_on_a_line_of_its_own_after_it(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("name: r\nbase: {model: sandbox/base}\ncolour: red\n")
    finished, sent = _validated(recipe)
    assert finished.returncode == 2 and finished.stdout == b""
    assert f"error: {recipe}:3" in sent[sent.rindex("\x1b[2K") :]
