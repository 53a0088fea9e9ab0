"""Who may see and do what on the local Hub."""

from __future__ import annotations

import datetime

import pytest
from local_hub import Served, file

from factory.hub.local.accounts import Directory

PUBLIC, PRIVATE = "acme/open", "acme/closed"


@pytest.mark.parametrize(
    ("who", "name", "status"),
    [
        (None, PUBLIC, 200),
        ("eve", PUBLIC, 200),
        (None, PRIVATE, 401),
        ("eve", PRIVATE, 404),
        ("bob", PRIVATE, 200),
        ("reader", PRIVATE, 200),
        (None, "acme/none", 401),
        ("eve", "acme/none", 404),
    ],
)
def test_private_is_as_if_it_were_not_there(hub: Served, who: str | None, name: str, status: int) -> None:
    hub.create(PUBLIC)
    hub.create(PRIVATE, private=True)
    for path in (f"/api/models/{name}", f"/{name}/resolve/main/.gitattributes", f"/{name}"):
        answer = hub.ask("GET", path, who)
        assert answer.status_code == status
        assert status == 200 or answer.headers["X-Error-Code"] == "RepoNotFound"
    listed = [one["id"] for one in hub.ask("GET", "/api/models", who).json()]
    assert (PRIVATE in listed) == (who in ("bob", "reader"))
    assert (PRIVATE in hub.ask("GET", "/", who).text) == (who in ("bob", "reader"))


@pytest.mark.parametrize(("who", "status"), [("ann", 200), ("reader", 403), ("bob", 403), ("eve", 403)])
def test_only_writers_change_what_belongs_to_others(hub: Served, who: str, status: int) -> None:
    head = hub.create()
    assert hub.commit(file("a.txt", "a"), who=who).status_code == status
    assert hub.ask("PUT", "/api/models/acme/tiny/settings", who, json={"gated": "auto"}).status_code == status
    assert hub.ask("POST", "/api/models/acme/tiny/tag/main", who, json={"tag": "v1"}).status_code == status
    body = {"name": "new", "organization": "acme", "type": "model"}
    assert hub.ask("POST", "/api/repos/create", who, json=body).status_code == status
    assert (hub.head() == head) == (status == 403)


@pytest.mark.parametrize(("who", "status"), [("eve", 200), ("bob", 200), ("reader", 403)])
def test_whoever_sees_a_repository_may_open_a_pull_request(hub: Served, who: str, status: int) -> None:
    head = hub.create()
    assert hub.commit(file("a.txt", "a"), who=who, query="?create_pr=1").status_code == status
    assert hub.head() == head
    hub.create("acme/closed", private=True)
    hidden = hub.commit(file("a.txt", "a"), name="acme/closed", who="eve", query="?create_pr=1")
    assert hidden.status_code == 404


def test_without_a_token_or_with_a_bad_one_nothing_is_changed(hub: Served) -> None:
    hub.create()
    path, body = "/api/models/acme/tiny/settings", {"visibility": "private"}
    assert hub.ask("PUT", path, None, json=body).status_code == 401
    bad = hub.ask("PUT", path, None, json=body, headers={"Authorization": "Bearer hf_none"})
    assert bad.status_code == 401 and bad.headers["X-Error-Message"].startswith("Invalid credentials")
    assert not hub.store.load("models", "acme/tiny").private


def test_an_expired_token_is_told_as_such(hub: Served) -> None:
    past = datetime.timedelta(seconds=-1)
    hub.tokens["old"] = Directory(hub.store).add_token("ann", "write", "old", lifetime=past)
    answer = hub.ask("GET", "/api/whoami-v2", "old")
    assert answer.status_code == 401 and "expired" in answer.json()["error"]


def test_a_cookie_may_look_and_change_nothing(hub: Served) -> None:
    hub.create(PRIVATE, private=True)
    left = hub.ask("GET", f"/?token={hub.tokens['ann']}", None)
    cookie = {"Cookie": left.headers["set-cookie"].split(";")[0]}
    assert hub.ask("GET", f"/{PRIVATE}", None, headers=cookie).status_code == 200
    path, body = f"/api/models/{PRIVATE}/settings", {"visibility": "public"}
    assert hub.ask("PUT", path, None, json=body, headers=cookie).status_code == 401


def test_no_token_stands_in_what_the_hub_keeps_but_the_one_for_the_rehearsal(hub: Served) -> None:
    hub.create()
    kept = b"".join(path.read_bytes() for path in hub.root.rglob("*") if path.is_file())
    assert not any(token.encode() in kept for token in hub.tokens.values())


def test_links_to_contents_are_signed(hub: Served) -> None:
    hub.create()
    content = b"x" * 20
    sha256 = "42f0f4d2c4e2ab8b5bcbb1e0ef1ad4f3c6f8ee8bb1d5c2ea7b93a2eeb4b5d0c1"
    for method in ("GET", "PUT"):
        path = f"/contents/{method.lower()}/{sha256}?until=99999999999&signature=0"
        assert hub.ask(method, path, content=content).status_code == 403
