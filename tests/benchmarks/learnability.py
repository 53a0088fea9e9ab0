"""Is SFT on the original responses an honest baseline? The UNPRUNED base is tuned on them and asked.

    python tests/benchmarks/learnability.py

For each training set: the share of held-out rows the base answers rightly before tuning and after tuning
on the human-style responses with the quickstart's own training settings.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from factory import sandbox
from factory.data.rows import DataSpec
from factory.plan.make import make_plan
from factory.recipe.recipe import load_recipe
from factory.stages import regenerate, train

ROOT = Path(__file__).parents[2]


def _quiet(done: int, total: int, unit: str, note: str = "") -> None:
    """The stages want someone to tell their progress."""


def right(model: Path, data: Path, spec: DataSpec, out: Path) -> float:
    """Share of the test rows whose answer is right, asked without the reference."""
    out.mkdir(parents=True)
    asked = spec.model_copy(update={"split": "test", "rows": None})
    settings = regenerate.Settings(data=asked, sees="question", max_new_tokens=256)
    facts = regenerate.run(settings, {"base": model, "data": data}, out, _quiet)
    print(spec.name, facts["reasons"])
    return facts["kept_regenerated"] / facts["rows"]


def main() -> None:
    """Prints a Markdown table; arguments are names of training sets, by default both."""
    names = sys.argv[1:] or ["math", "instruct"]
    plan = make_plan(load_recipe(ROOT / "recipes" / "quickstart.yaml", []))
    template = plan.step("train/math-sft").settings
    base = sandbox.model_folder()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            work = Path(folder) / name
            sandbox.write_dataset(name, work / "data")
            spec = plan.step(f"regenerate/{name}").settings.data
            tuned = template.model_copy(update={"data": (spec,)})
            (work / "tuned").mkdir()
            train.run(tuned, {"model": base, f"data.{name}": work / "data"}, work / "tuned", _quiet)
            before = right(base, work / "data", spec, work / "before")
            after = right(work / "tuned" / "model", work / "data", spec, work / "after")
            rows.append((name, before, after))
    print("\n| training set | base | base tuned on the original responses |\n|---|---|---|")
    for name, before, after in rows:
        print(f"| sandbox/{name} | {before:.1%} | {after:.1%} |")


if __name__ == "__main__":
    main()
