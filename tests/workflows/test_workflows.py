"""The workflows' jobs, run here step by step: a pull request with recipes, a build from plan to the Hub."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from expressions import filled
from machines import ROOT, Job, Machine, Site, yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "hub"))

from local_hub import Served, served

RECIPE = """\
name: tiny
base: {model: sandbox/base}
prune: {drop: 3, calibration: {dataset: sandbox/corpus, rows: 4, max_tokens: 32}, proof: false}
datasets:
  math: {id: sandbox/math, prompt: math, check: final_number, rows: 8}
regenerate: {max_new_tokens: 8}
train: {sft: {max_steps: 2}}
variants:
  own: {data: [math], targets: self}
  plain: {data: [math], targets: original}
evaluate: {suite: sandbox_v1, tasks: [arc], limit: 4}
publish: {namespace: acme, push: [own], license: apache-2.0, datasets: false}
"""
PATH = "recipes/tiny/tiny.yaml"


def git(folder: Path, *arguments: str) -> str:
    """A git command in a repository; what it says."""
    words = ["git", "-c", "user.name=ann", "-c", "user.email=ann@example.org", *arguments]
    return subprocess.run(words, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A repository of recipes with our workflows, and a commit that adds one recipe."""
    repository = tmp_path / "repository"
    repository.mkdir()
    git(repository, "init", "-q", "-b", "main")
    (repository / ".github").symlink_to(ROOT / ".github")
    subprocess.run(["cp", "-rL", ROOT / ".github", repository / "copied"], check=True)
    (repository / ".github").unlink()
    (repository / "copied").rename(repository / ".github")
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "first")
    before = git(repository, "rev-parse", "HEAD")
    add(repository, PATH, RECIPE)
    github = {
        "event_name": "push", "ref": "refs/heads/main", "sha": git(repository, "rev-parse", "HEAD"),
        "event": {"before": before}, "server_url": "https://github.com", "repository": "acme/recipes",
    }  # fmt: skip
    return Site(tmp_path, repository, github, {"MAX_COST": "5"})


def add(repository: Path, path: str, text: str) -> None:
    """Commits a file."""
    (repository / path).parent.mkdir(parents=True, exist_ok=True)
    (repository / path).write_text(text)
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", f"add {path}")


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Served]:
    """A local Hub."""
    with served(tmp_path / "hub") as one:
        yield one


def use(site: Site, hub: Served) -> None:
    """Points the jobs at the local Hub, with the tokens of their environments."""
    site.environment |= {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1"}
    tokens = hub.tokens
    site.secrets |= {"HF_TOKEN": tokens["ann"], "STORE_TOKEN": tokens["reader"], "HF_READ_TOKEN": ""}


def said(jobs: list[Job]) -> str:
    """All that the jobs printed, for when something is not as it should be."""
    return "\n".join(f"--- {job.name}: {job.result}\n{job.said}" for job in jobs)


@pytest.mark.slow
def test_a_push_with_a_recipe_ends_as_a_published_model_on_the_leaderboard(site: Site, hub: Served) -> None:
    use(site, hub)
    jobs = site.run("build.yml")
    assert [(job.name, job.result) for job in jobs] == [
        ("recipes", "success"), ("plan and cost", "success"), ("shared steps", "success"),
        ("train.own", "success"), ("train.plain", "success"), ("merges and report", "success"),
        ("publish", "success"),
    ], said(jobs)  # fmt: skip
    assert "| train.own | regenerate/math, train/own, evaluate/own |" in jobs[1].summary
    assert "dollars" in jobs[1].summary
    # Every step is made once, whatever machine needs it.
    made = [line.split("] ")[1].split(":")[0] for line in said(jobs).splitlines() if line.startswith("[")]
    assert len(made) == len(set(made)) == 10
    assert hub.store.load("models", "acme/tiny-own").refs.keys() > {"refs/tags/v1"}
    report = json.loads((site.artifacts / "report-tiny" / "runs" / "tiny" / "report.json").read_text())
    assert [model["name"] for model in report["models"]] == ["base", "pruned", "own", "plain"]
    assert not any(token in said(jobs) for token in hub.tokens.values())

    site.vars |= {"NAMESPACE": "acme"}
    board = site.run("leaderboard.yml")
    done = [(job.name, job.result) for job in board]
    assert done == [("build", "success"), ("page", "success"), ("dataset", "success")], said(board)
    page = site.artifacts / "github-pages"
    assert any(
        "acme/tiny-own" in file.read_text(errors="replace") for file in page.rglob("*") if file.is_file()
    )
    kept = hub.store.resolve(hub.store.load("datasets", "acme/leaderboard"), "main").files
    assert "models/train-00000-of-00001.parquet" in kept
    # The page is GitHub's: nothing else is made on the Hub, and no job but the last has a token of it.
    assert not (hub.root / "spaces").exists()
    assert [job.name for job in board if any(token in job.said for token in hub.tokens.values())] == []


@pytest.mark.slow
def test_a_pull_request_with_a_recipe_is_planned_and_run_in_miniature(site: Site) -> None:
    add(site.repository, "README.md", "no recipe")
    site.github |= {"event_name": "pull_request", "ref": "refs/pull/7/merge"}
    jobs = site.run("recipe.yml")
    assert [(job.name, job.result) for job in jobs] == [("changed recipes", "success")], said(jobs)
    one = RECIPE.replace("  plain: {data: [math], targets: original}\n", "")
    add(site.repository, "recipes/new/one.yaml", one.replace("name: tiny", "name: one"))
    jobs = site.run("recipe.yml")
    assert [(job.name, job.result) for job in jobs] == [
        ("changed recipes", "success"), ("recipes/new/one.yaml", "success"),
    ], said(jobs)  # fmt: skip
    assert jobs[1].summary.startswith("## one\n")
    assert list(site.artifacts.glob("report-0/runs/one-miniature/report.md"))


@pytest.mark.slow
def test_a_part_on_hf_jobs_comes_from_the_store_and_goes_there(site: Site, hub: Served) -> None:
    use(site, hub)
    site.github |= {"server_url": f"file://{site.repository.parent}", "repository": site.repository.name}
    hub.create("acme/store", "dataset", private=True)
    said = {
        "recipe": PATH, "part": "shared", "run": "tiny", "where": "hf-jobs", "flavor": "a10g-small",
        "image": "python:3.12", "store": "hf://datasets/acme/store", "token": hub.tokens["ann"],
    }  # fmt: skip
    contexts = {"github": site.github, "env": {}, "steps": {}}
    steps = [
        {"uses": f"actions/checkout@{'0' * 40}", "with": {"persist-credentials": False}},
        {"uses": "./.github/actions/part", "with": said},
    ]
    for kept in (4, 0):  # a second time there is nothing left to do
        machine = Machine(site, site.folder / f"machine-{kept}")
        assert machine.steps(steps, contexts) == "success", machine.said
        assert f"shared {kept} steps" in machine.said or (not kept and "nothing to do" in machine.said)
    files = hub.store.resolve(repository := hub.store.load("datasets", "acme/store"), "main").files
    assert sorted({name.split("/")[0] for name in files if name.endswith(".tar")}) == [
        "evaluate", "importance", "prune",
    ]  # fmt: skip
    assert repository.private
    assert hub.tokens["ann"] not in machine.said


def test_a_recipe_that_may_cost_too_much_starts_no_gpu(site: Site) -> None:
    site.vars |= {"MAX_COST": "0.01"}
    jobs = site.run("build.yml")
    assert [(job.name, job.result) for job in jobs] == [("recipes", "success"), ("plan and cost", "failure")]
    assert "this may cost" in jobs[1].said and "more than 0.01" in jobs[1].said


def test_a_hostile_pull_request_is_refused_and_runs_nothing(site: Site, tmp_path: Path) -> None:
    site.github |= {"event_name": "pull_request", "ref": "refs/pull/7/merge"}
    trap = tmp_path / "trap"
    (site.repository / "recipes" / "link.yaml").symlink_to("/etc/passwd")
    git(site.repository, "add", "-A")
    git(site.repository, "commit", "-qm", "a link")
    assert "this recipe is a link" in refused(site)
    git(site.repository, "rm", "-q", "recipes/link.yaml")
    add(site.repository, "recipes/away.yaml", RECIPE.replace("id: sandbox/math", "id: /etc"))
    assert "'/etc' lies outside '.'" in refused(site)
    git(site.repository, "rm", "-q", "recipes/away.yaml")
    add(site.repository, f"recipes/$(touch {trap.name}).yaml", RECIPE)
    assert "this does not do as a recipe's file name" in refused(site)
    assert not list(tmp_path.rglob(trap.name))


def refused(site: Site) -> str:
    """What the last of the jobs of a pull request said, which failed."""
    jobs = site.run("recipe.yml")
    assert jobs[-1].result == "failure", said(jobs)
    assert "miniature" not in jobs[-1].said
    return jobs[-1].said


def test_on_main_every_commit_is_tried_and_of_a_pull_request_the_newest() -> None:
    written = yaml(ROOT / ".github" / "workflows" / "ci.yml")["concurrency"]

    def groups(event: str) -> list[dict[str, object]]:
        told = ({"event_name": event, "ref": "refs/one", "sha": sha} for sha in ("first", "second"))
        return [filled(written, {"github": github}) for github in told]

    older, newer = groups("push")
    assert older["group"] != newer["group"] and older["cancel-in-progress"] is False
    older, newer = groups("pull_request")
    assert older == newer and older["cancel-in-progress"] is True


@pytest.mark.parametrize("path", sorted((ROOT / ".github" / "workflows").glob("*.yml")), ids=lambda p: p.name)
def test_workflows_are_hardened(path: Path) -> None:
    text, written = path.read_text(), yaml(path)
    assert written["permissions"] == {}
    assert "pull_request_target" not in text
    for used in re.findall(r"uses: (\S+)(.*)", text):
        assert used[0].startswith("./") or re.fullmatch(
            r"\S+@[0-9a-f]{40} # v\d+\.\d+\.\d+", "".join(used)
        ), used
    for name, job in written["jobs"].items():
        assert "permissions" in job, name
        assert "uses" in job or "timeout-minutes" in job, name
        assert "pull_request" not in written.get("on", {}) or "secrets" not in json.dumps(job)
        for step in job.get("steps", []):
            assert "${{" not in step.get("run", ""), f"{name}: values go to the shell as variables"
            if step.get("uses", "").startswith("actions/checkout"):
                assert step["with"]["persist-credentials"] is False
