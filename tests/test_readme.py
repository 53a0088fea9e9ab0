"""The README's commands are the ones that are run for every change, and what it shows is what there is."""

from __future__ import annotations

import re
from pathlib import Path

from factory.cli import call
from factory.hub.local.settings import settings
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


def test_the_walk_leaves_nothing_to_commit_in_the_clone() -> None:
    walk = README.partition("\n## From an idea")[2].partition("\n## ")[0]
    made = set(re.findall(r"--(?:root|out) (\S+)", walk))
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert made == {"hub", "board"} and {f"/{folder}/" for folder in made} <= set(ignored)


def test_in_the_walk_the_hub_has_a_terminal_of_its_own() -> None:
    blocks = re.findall(r"(?:^    .+\n)+", README, re.MULTILINE)
    serving = [
        block.splitlines() for block in blocks if "factory hub serve --root hub --namespace me\n" in block
    ]
    assert [len(lines) for lines in serving] == [1]
    publishing = next(block for block in blocks if "factory publish mine-miniature" in block)
    assert [line.split()[1].split("=")[0] for line in publishing.splitlines()[:3]] == list(settings("", ROOT))


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
