"""The recipes that a change touches: what a workflow tries when somebody opens a pull request.

Names of files come from strangers too, and go on into other commands, so only plain ones are taken.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from factory.errors import FactoryError

FOLDER = "recipes"
MOST = 256  # jobs that a matrix of GitHub's may have
_PLAIN = re.compile(r"recipes/(?:[A-Za-z0-9][A-Za-z0-9._-]*/)*[A-Za-z0-9][A-Za-z0-9._-]*\.ya?ml")


def changed_recipes(since: str, folder: Path) -> list[str]:
    """Recipes that are new or other than they were, by path from the top of the repository.

    Args:
        since: the commit to compare with.
        folder: of the repository.

    Raises:
        FactoryError: it is no repository, has no such commit, or a recipe's file has no plain name or is a
            link.
    """
    command = ["git", "diff", "--name-only", "-z", "--diff-filter=d", "--no-renames", "--end-of-options"]
    try:
        done = subprocess.run(
            [*command, since, "HEAD", "--", FOLDER], cwd=folder, capture_output=True, check=False
        )
    except (OSError, ValueError) as error:  # no git; a NUL in the name
        raise FactoryError(f"git cannot be asked: {error}", mend="Install git") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["git diff failed"]
        raise FactoryError(said[-1], where=f"--since {since}", mend="Name a commit of this repository")
    names = [name.decode(errors="surrogateescape") for name in done.stdout.split(b"\0") if name]
    found = sorted(name for name in names if name.lower().endswith((".yaml", ".yml")))
    for name in found:
        if not _PLAIN.fullmatch(name):
            mend = "Use letters, digits, `-`, `_` and `.`, as in recipes/my-model/my-recipe.yaml"
            raise FactoryError("this does not do as a recipe's file name", where=name, mend=mend)
        if (folder / name).is_symlink():
            raise FactoryError("this recipe is a link", where=name, mend="Make it a file of its own")
    if len(found) > MOST:
        raise FactoryError(f"{len(found)} recipes changed at once", mend=f"Change at most {MOST} in one go")
    return found
