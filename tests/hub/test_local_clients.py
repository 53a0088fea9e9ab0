"""The unmodified clients against the local Hub, each in a fresh process with an empty cache."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from local_hub import Served


def test_a_commit_of_small_and_large_files_comes_back_as_it_went(hub: Served, tmp_path: Path) -> None:
    told = hub.client(
        """
weights = os.urandom(300_000)
(home / "w.safetensors").write_bytes(weights) if home.mkdir(parents=True, exist_ok=True) is None else None
api.create_repo("acme/tiny", private=True)
operations = [Add("w.safetensors", home / "w.safetensors"), Add("deep/er/a.txt", b"hello")]
done = api.create_commit("acme/tiny", operations, commit_message="first")
info = api.model_info("acme/tiny", files_metadata=True)
lfs = {sibling.rfilename: sibling.lfs is not None for sibling in info.siblings}
path = Path(api.snapshot_download("acme/tiny"))
told = {
    "head": info.sha == done.oid,
    "lfs": lfs,
    "same": (path / "w.safetensors").read_bytes() == weights and (path / "deep/er/a.txt").read_text(),
    "commits": [commit.title for commit in api.list_repo_commits("acme/tiny")],
    "tree": sorted(entry.path for entry in api.list_repo_tree("acme/tiny", recursive=True)),
    "top": sorted(entry.path for entry in api.list_repo_tree("acme/tiny")),
    "again": api.upload_file(
        path_or_fileobj=home / "w.safetensors", path_in_repo="w.safetensors", repo_id="acme/tiny"
    ).oid == done.oid,
}
""",
        tmp_path / "home",
    )
    assert told["head"] and told["same"] == "hello" and told["again"]
    assert told["lfs"] == {".gitattributes": False, "deep/er/a.txt": False, "w.safetensors": True}
    assert told["commits"] == ["first", "initial commit"]
    assert told["tree"] == [".gitattributes", "deep", "deep/er", "deep/er/a.txt", "w.safetensors"]
    assert told["top"] == [".gitattributes", "deep", "w.safetensors"]


def test_what_is_not_there_is_the_client_s_own_error(hub: Served, tmp_path: Path) -> None:
    hub.create()
    told = hub.client(
        """
def name_of(what):
    try:
        what()
    except Exception as error:
        return type(error).__name__
told = {
    "repository": name_of(lambda: api.model_info("acme/none")),
    "revision": name_of(lambda: api.hf_hub_download("acme/tiny", "README.md", revision="none")),
    "file": name_of(lambda: api.hf_hub_download("acme/tiny", "none.txt")),
    "folder": name_of(lambda: list(api.list_repo_tree("acme/tiny", "none"))),
    "exists": [api.file_exists("acme/tiny", ".gitattributes"), api.repo_exists("acme/none")],
}
""",
        tmp_path / "home",
    )
    assert told == {
        "repository": "RepositoryNotFoundError",
        "revision": "RevisionNotFoundError",
        "file": "RemoteEntryNotFoundError",
        "folder": "RemoteEntryNotFoundError",
        "exists": [True, False],
    }


def test_tags_branches_and_pull_requests(hub: Served, tmp_path: Path) -> None:
    hub.create()
    told = hub.client(
        """
api.create_tag("acme/tiny", tag="v1")
api.create_branch("acme/tiny", branch="dev/next")
api.create_commit("acme/tiny", [Add("b.txt", b"b")], commit_message="beside", revision="dev/next")
pull = api.create_commit("acme/tiny", [Add("a.txt", b"a")], commit_message="pull me", create_pr=True)
before = api.list_repo_files("acme/tiny")
api.hf_hub_download("acme/tiny", "a.txt", revision="refs/pr/1")
details = api.get_discussion_details("acme/tiny", pull.pr_num)
api.comment_discussion("acme/tiny", 1, "good")
api.merge_pull_request("acme/tiny", 1)
refs = api.list_repo_refs("acme/tiny", include_pull_requests=True)
try:
    api.create_tag("acme/tiny", tag="v1")
except HfHubHTTPError as error:
    told["again"] = error.response.status_code
api.delete_tag("acme/tiny", tag="v1")
told |= {
    "before": before,
    "after": api.list_repo_files("acme/tiny"),
    "status": [details.status, api.get_discussion_details("acme/tiny", 1).status],
    "branches": [ref.name for ref in refs.branches],
    "tags": [ref.name for ref in refs.tags],
    "pulls": [ref.ref for ref in refs.pull_requests],
    "left": api.list_repo_refs("acme/tiny").tags,
}
""",
        tmp_path / "home",
    )
    assert told["before"] == [".gitattributes"] and told["after"] == [".gitattributes", "a.txt"]
    assert told["status"] == ["open", "merged"] and told["again"] == 409 and told["left"] == []
    assert (told["branches"], told["tags"], told["pulls"]) == (["dev/next", "main"], ["v1"], ["refs/pr/1"])


def test_collections_lists_and_card_metadata(hub: Served, tmp_path: Path) -> None:
    hub.create()
    told = hub.client(
        """
card = "---\\nlicense: mit\\ntags: [factory]\\nbase_model: a/b\\n---\\nSee https://arxiv.org/abs/2410.09982\\n"
api.create_commit("acme/tiny", [Add("README.md", card.encode())], commit_message="card")
group = api.create_collection("Tiny ones", namespace="acme")
same = api.create_collection("Tiny ones", namespace="acme", exists_ok=True)
api.add_collection_item(group.slug, "acme/tiny", "model", note="small")
api.add_collection_item(group.slug, "acme/tiny", "model", exists_ok=True)
group = api.add_collection_item(group.slug, "2410.09982", "paper")
try:
    wrong = Add("README.md", b"---\\nlicense: none-such\\n---\\n")
    api.create_commit("acme/tiny", [wrong], commit_message="x")
except ValueError as error:
    told["refused"] = str(error)
told |= {
    "tags": api.model_info("acme/tiny").tags,
    "found": [len(list(api.list_models(**asked))) for asked in (
        {"filter": "factory"}, {"filter": "arxiv:2410.09982"}, {"author": "eve"}, {"search": "TIN"},
    )],
    "same": same.slug == group.slug,
    "items": [[item.item_type, item.item_id, item.note] for item in group.items],
    "owned": [one.title for one in api.list_collections(owner="acme")],
}
""",
        tmp_path / "home",
    )
    assert told["tags"] == ["factory", "base_model:a/b", "license:mit", "arxiv:2410.09982"]
    assert told["found"] == [1, 1, 0, 1] and told["same"] and told["owned"] == ["Tiny ones"]
    assert told["items"] == [["model", "acme/tiny", "small"], ["paper", "2410.09982", None]]
    assert "none-such" in told["refused"]


@pytest.mark.slow
def test_transformers_and_datasets_load_from_it(hub: Served, tmp_path: Path, tiny_model: Path) -> None:
    told = hub.client(
        f"""
api.create_repo("acme/tiny")
api.upload_folder(repo_id="acme/tiny", folder_path={str(tiny_model)!r})
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained("acme/tiny")
tokenizer = AutoTokenizer.from_pretrained("acme/tiny")
written = model.generate(**tokenizer("Hello", return_tensors="pt"), max_new_tokens=3, do_sample=False)
api.create_repo("acme/rows", repo_type="dataset")
rows = "".join(json.dumps({{"a": i}}) + "\\n" for i in range(5))
added = [Add("data/train.jsonl", rows.encode())]
api.create_commit("acme/rows", added, commit_message="rows", repo_type="dataset")
from datasets import load_dataset
told = {{
    "tokens": written.shape[1] - 5,
    "parameters": api.get_safetensors_metadata("acme/tiny").parameter_count,
    "rows": load_dataset("acme/rows", split="train")["a"][:],
    "streamed": next(iter(load_dataset("acme/rows", split="train", streaming=True))),
}}
""",
        tmp_path / "home",
    )
    assert 0 < told["tokens"] <= 3 and list(told["parameters"]) == ["BF16"]
    assert told["rows"] == [0, 1, 2, 3, 4] and told["streamed"] == {"a": 0}


def test_the_command_serves_and_its_settings_are_all_a_client_needs(tmp_path: Path) -> None:
    root = tmp_path / "hub"
    command = [sys.executable, "-m", "factory.cli", "hub", "serve", "--root", str(root), "--port", "0"]
    process = subprocess.Popen([*command, "--namespace", "acme", "--json"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        settings = json.loads(process.stdout.readline())["environment"]
        one = Served(settings["HF_ENDPOINT"], root, {})
        code = 'told = {"me": api.whoami()["name"], "url": str(api.create_repo("acme/tiny"))}'
        environment = one.environment(None, tmp_path / "home") | settings
        done = subprocess.run(
            [sys.executable, "-c", f"from huggingface_hub import HfApi\napi=HfApi()\n{code}\nprint(told)"],
            env=environment, capture_output=True, text=True,
        )  # fmt: skip
        assert "'me': 'rehearsal'" in done.stdout and "acme/tiny" in done.stdout, done.stderr
        assert (root / "token").stat().st_mode & 0o777 == 0o600
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()


def test_it_is_ended_by_an_interruption_without_a_word(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "factory.cli", "hub", "serve", "--root", str(tmp_path), "--port", "0"]
    pipe = subprocess.PIPE
    process = subprocess.Popen([*command, "--json"], stdout=pipe, stderr=pipe, text=True)
    assert process.stdout is not None
    url = json.loads(process.stdout.readline())["endpoint"]
    httpx2.get(f"{url}/", headers={"Connection": "close"})  # it serves by now
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "", "")


def test_a_taken_port_is_one_line(hub: Served, tmp_path: Path) -> None:
    port = hub.url.rpartition(":")[2]
    command = [sys.executable, "-m", "factory.cli", "hub", "serve", "--root", str(tmp_path / "other")]
    done = subprocess.run([*command, "--port", port], capture_output=True, text=True)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "--port" in done.stderr
