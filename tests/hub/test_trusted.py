"""Publishing by a workflow's identity: a token of each repository for an hour, none of everything."""

from __future__ import annotations

import json

import httpx2
import pytest
from local_hub import CLAIMS, Served, identity
from tiny_run import Desk

from factory.hub.local.accounts import Directory

MODEL, DATASET = "acme/tiny-own", "acme/tiny-math"


def exchange(hub: Served, resource: str, said: str) -> httpx2.Response:
    """Asks for a token."""
    words = {"subject_token": said, "resource": resource}
    grant = "urn:ietf:params:oauth:grant-type:token-exchange"
    return httpx2.post(f"{hub.url}/oauth/token", json={"grant_type": grant, **words})


def test_an_identity_gets_a_token_of_the_one_repository_that_trusts_it(hub: Served) -> None:
    for name in ("acme/one", "acme/other"):
        hub.create(name, private=True)
    Directory(hub.store).trust("acme/one", CLAIMS)
    answer = exchange(hub, "acme/one", identity(hub)).json()
    assert answer["expires_in"] == 3600
    hub.tokens["job"] = answer["access_token"]
    assert hub.ask("GET", "/api/models/acme/one", "job").status_code == 200
    assert hub.ask("POST", "/api/models/acme/one/tag/main", "job", json={"tag": "v1"}).status_code == 200
    assert hub.ask("GET", "/api/models/acme/other", "job").status_code == 404
    body = {"name": "new", "organization": "acme", "type": "model"}
    assert hub.ask("POST", "/api/repos/create", "job", json=body).status_code == 403
    assert (
        hub.ask("POST", "/api/collections", "job", json={"title": "x", "namespace": "acme"}).status_code
        == 403
    )


@pytest.mark.parametrize(
    ("resource", "claims"),
    [
        ("acme/other", {}),
        ("datasets/acme/one", {}),
        ("acme/one", {"repository": "eve/recipes"}),
        ("acme/one", {"environment": "gpu"}),
        ("acme/one", {"aud": "https://elsewhere.example"}),
    ],
)
def test_others_get_none(hub: Served, resource: str, claims: dict[str, str]) -> None:
    hub.create("acme/one")
    Directory(hub.store).trust("acme/one", CLAIMS)
    assert exchange(hub, resource, identity(hub, **claims)).status_code == 400
    assert exchange(hub, "acme/one", "no.token").status_code == 400


@pytest.mark.slow
def test_a_job_publishes_by_its_identity_and_by_a_token_where_it_is_not_trusted(desk: Desk) -> None:
    directory, said = Directory(desk.hub.store), identity(desk.hub)

    def publish(who: str | None) -> list[tuple[str, bool]]:
        code, out, err = desk.factory(
            "publish", "tiny", "--trusted", "--json", who=who, HF_OIDC_ID_TOKEN=said
        )
        assert code == 0, err
        return [(r["repository"], r["changed"]) for r in json.loads(out.splitlines()[-1])["published"]]

    directory.trust(f"datasets/{DATASET}", CLAIMS)
    refused = desk.refused("publish", "tiny", "--trusted", who=None, HF_OIDC_ID_TOKEN=said)
    assert f"{MODEL}: this repository does not trust this job (400)" in refused
    desk.hub.create(DATASET, "dataset")
    assert publish("ann") == [(DATASET, True), (MODEL, True)]
    repository = desk.hub.store.load("datasets", DATASET)
    newest = next(iter(desk.hub.store.history(repository, desk.hub.store.resolve(repository, "main"))))
    assert newest.author == "trusted-publisher"
    directory.trust(MODEL, CLAIMS)
    assert publish(None) == [(DATASET, False), (MODEL, False)]


@pytest.mark.slow
def test_a_job_without_an_identity_or_a_token_is_told(desk: Desk) -> None:
    assert "this job has no identity to show" in desk.refused("publish", "tiny", "--trusted", who=None)
