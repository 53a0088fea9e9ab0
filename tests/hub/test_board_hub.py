"""The leaderboard over a Hub: from an organisation's models, and published as a dataset and a Space."""

from __future__ import annotations

import gzip
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import boards
import httpx2
import pytest
from local_hub import CLAIMS, file, identity, served
from tiny_run import Desk

from factory.hub.documents import FILE
from factory.hub.local.accounts import Directory

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def published(finished_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A desk with a published model, one for all tests here."""
    folder = tmp_path_factory.mktemp("published")
    with served(folder / "hub") as hub:
        desk = Desk.at(folder, hub, finished_recipe)
        desk.publish()
        assert desk.factory("leaderboard", "build", "--from", "acme", "--out", "board")[0] == 0
        yield desk


def test_an_organisations_models_become_rows_like_those_of_the_run(published: Desk) -> None:
    rows = {row["name"]: row for row in boards.data(published.folder / "board")["models"]}
    own = rows["acme/tiny-own"]
    assert len(rows) == 3 and "tiny/pruned" in rows
    assert own["url"] == f"{published.hub.url}/acme/tiny-own" and own["answers"]
    sources = ("--from", "runs", "--from", "acme")
    code, out, err = published.factory("leaderboard", "build", *sources, "--out", "both", "--json")
    assert code == 0, err
    assert json.loads(out.splitlines()[-1])["doubles"] == 3  # the published one stays
    both = {row["name"]: row for row in boards.data(published.folder / "both")["models"]}
    assert both["acme/tiny-own"] == own and len(both) == 3
    boards.build(published.folder / "local", published.folder / "runs")
    local = {row["name"]: row for row in boards.data(published.folder / "local")["models"]}["tiny/own"]
    named = dict.fromkeys(("name", "url", "answers"))
    assert {**own, **named} == {**local, **named}


def test_published_ids_folders_and_runs_compare_alike(published: Desk) -> None:
    published.factory("pull", "acme/tiny-own", "--out", "pulled")
    arc = json.loads(gzip.decompress((published.folder / "pulled" / FILE).read_bytes()))["tasks"]["arc"]
    assert arc.keys() == {"group", "index", "prompt", "models"}  # no text of a benchmark
    assert arc["models"].keys() == {"model", "base", "pruned"}
    assert arc["models"]["base"].keys() <= {"score", "correct"}
    told = []
    for a, b in (
        ("acme/tiny-own", "acme/tiny-own/base"),
        ("tiny/own", "tiny/base"),
        ("pulled", "pulled/base"),
    ):
        code, out, err = published.factory("compare", a, b, "--json")
        assert code == 0, err
        told.append({key: value for key, value in json.loads(out).items() if key != "models"})
    assert told[0] == told[1] == told[2] and "arc" in told[0]["tasks"]
    assert "there is no model 'acme/nobody'" in published.refused("compare", "acme/nobody", "tiny/own")


def test_what_is_damaged_is_left_out_and_models_of_others_too(published: Desk) -> None:
    published.hub.create("acme/foreign")
    published.hub.create("acme/broken")
    published.hub.commit(file("factory.json", "{}"), file("config.json", "{}"), name="acme/broken")
    code, out, err = published.factory("leaderboard", "build", "--from", "acme", "--out", "more", "--json")
    assert code == 0, err
    told = json.loads(out.splitlines()[-1])
    assert [one["where"] for one in told["skipped"]] == ["acme/broken"] and told["models"] == 3


def test_nobodys_models_and_a_silent_hub_are_one_line(published: Desk) -> None:
    line = published.refused("leaderboard", "build", "--from", "nobody", "--out", "none")
    assert "no models there published by the factory" in line
    published.hub.faults(
        {"method": "GET", "path": "api/models", "times": 100, "does": "status", "status": 503}
    )
    line = published.refused("leaderboard", "build", "--from", "acme", "--out", "none")
    published.hub.faults()
    assert "--from acme: there is no folder of that name, and the Hub answers 503" in line
    assert not (published.folder / "none").exists()


def test_a_hub_that_is_not_there_is_told_in_one_line(published: Desk) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        place = f"127.0.0.1:{nobody.getsockname()[1]}"
        code, _, err = published.factory(
            "leaderboard", "build", "--from", "acme", "--out", "none", HF_ENDPOINT=f"http://{place}"
        )
    assert code == 2
    assert err == (
        f"error: --from acme: there is no folder of that name, and the Hub at {place} does not answer "
        "(ConnectError). Run the same command again.\n"
    )


def test_a_hub_that_hangs_up_is_not_asked_again_and_again(published: Desk) -> None:
    calls = 0

    def hang_up(door: socket.socket) -> None:
        nonlocal calls
        with suppress(OSError):  # closed below
            while True:
                door.accept()[0].close()
                calls += 1

    with socket.create_server(("127.0.0.1", 0)) as door:
        threading.Thread(target=hang_up, args=(door,), daemon=True).start()
        place = f"127.0.0.1:{door.getsockname()[1]}"
        code, _, err = published.factory(
            "leaderboard", "build", "--from", "acme", "--out", "none", HF_ENDPOINT=f"http://{place}"
        )
        assert (code, 0 < calls < 5) == (2, True), (calls, err)
    assert f"the Hub at {place} does not answer" in err


def test_it_is_published_whole_and_again_only_what_changed(published: Desk) -> None:
    send = ("leaderboard", "publish", "board", "--namespace", "acme", "--json")
    code, out, err = published.factory(*send)
    assert code == 0, err
    first = json.loads(out.splitlines()[-1])["published"]
    assert [one["kind"] for one in first] == ["dataset", "space"]
    assert all(one["public"] and one["changed"] for one in first)
    page = f"{published.hub.url}/spaces/acme/leaderboard/resolve/main"
    assert "Model factory leaderboard" in httpx2.get(f"{page}/index.html").text
    told = published.hub.client(
        "import datasets\n"
        "told['rows'] = datasets.load_dataset('acme/leaderboard', split='train').num_rows\n"
        "told['card'] = api.dataset_info('acme/leaderboard').card_data['configs'][0]['config_name']",
        published.folder / "other",
    )
    assert told == {"rows": 3, "card": "models"}
    answers = next((published.folder / "board" / "page" / "answers").iterdir())
    answers.unlink()
    again = json.loads(published.factory(*send)[1].splitlines()[-1])["published"]
    assert [one["changed"] for one in again] == [False, True]
    assert httpx2.get(f"{page}/answers/{answers.name}").status_code == 404
    assert published.history("spaces", "acme/leaderboard") == ["Publish the leaderboard"] * 2
    assert published.history("datasets", "acme/leaderboard") == ["Publish the leaderboard"]


def test_the_dataset_goes_alone_by_the_identity_of_a_job(published: Desk) -> None:
    send = ("leaderboard", "publish", "board", "--namespace", "acme", "--name", "weekly", "--trusted")
    published.hub.create("acme/weekly", "dataset")
    Directory(published.hub.store).trust("datasets/acme/weekly", CLAIMS)
    job = {"who": None, "HF_OIDC_ID_TOKEN": identity(published.hub)}
    line = published.refused(*send, **job)
    assert "spaces/acme/weekly: this repository does not trust this job" in line
    code, out, err = published.factory(*send, "--only", "dataset", "--json", **job)
    assert code == 0, err
    told = json.loads(out.splitlines()[-1])["published"]
    assert [(one["kind"], one["changed"]) for one in told] == [("dataset", True)]
    assert published.history("datasets", "acme/weekly")[0] == "Publish the leaderboard"
    assert httpx2.get(f"{published.hub.url}/api/spaces/acme/weekly").status_code == 401


def test_what_is_no_leaderboard_is_not_overwritten(published: Desk) -> None:
    publish = ("leaderboard", "publish", "board", "--namespace", "acme")
    assert "is no leaderboard" in published.refused(*publish, "--name", "tiny-math")
    assert "may only read" in published.refused(*publish, who="bob")
    assert "no leaderboard here" in published.refused("leaderboard", "publish", "runs", "--namespace", "acme")
