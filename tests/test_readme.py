"""The README's commands are the ones that are run for every change, and what it shows is what there is."""

from __future__ import annotations

import re
from pathlib import Path

from factory.cli import call
from factory.recipe.sweep import load

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_ci_runs_the_readmes_two_commands() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    commands = re.findall(r"```sh\n(.+)\n```", README)
    assert len(commands) == 2
    for command in commands:
        assert command in script


def test_the_readme_shows_the_quickstart_as_it_is() -> None:
    shown = re.search(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert shown and shown.group(1) == (ROOT / "recipes" / "quickstart.yaml").read_text(encoding="utf-8")


def test_the_walk_shows_the_errors_that_a_new_recipe_gives(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(["new", "mine", "--base", "sandbox/base"]) == 0
    right = Path("mine.yaml").read_text(encoding="utf-8")
    shown = re.findall(r"^    (error: mine\.yaml:.+)$", README, re.MULTILINE)
    for broken in (
        re.sub(r"drop: \d+", "drop: 40", right, count=1),
        right.replace("targets: self}", "targets: selfs}", 1),
    ):
        Path("mine.yaml").write_text(broken, encoding="utf-8")
        capsys.readouterr()
        assert call(["validate", "mine.yaml"]) == 2
        assert capsys.readouterr().err.strip() == shown.pop(0)
    assert not shown


def test_every_shipped_recipe_is_valid(capsys) -> None:
    for recipe in sorted((ROOT / "recipes").rglob("*.yaml")):
        # What stands on the Hub is looked at in test_real_hub.py; here there is none.
        if re.search(
            r"\b(id|model|dataset): (?!sandbox/|factory/)[\w.-]+/", recipe.read_text(encoding="utf-8")
        ):
            load(recipe)
        else:
            assert call(["validate", str(recipe)]) == 0, capsys.readouterr().err


def test_every_module_opens_with_what_it_does() -> None:
    for path in sorted((ROOT / "factory").rglob("*.py")):
        assert path.read_text(encoding="utf-8").startswith('"""'), path
