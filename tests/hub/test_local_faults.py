"""Faults on the local Hub do what they say, where they say it."""

from __future__ import annotations

import time
from typing import Any

import httpx2
import pytest
from local_hub import Served, file

COMMIT = {"method": "POST", "path": "/commit/"}


def test_a_status_so_many_times_and_then_no_more(hub: Served) -> None:
    head = hub.create()
    hub.faults({**COMMIT, "does": "status", "status": 429, "retry_after": 2, "times": 2})
    answers = [hub.commit(file("a.txt", str(i))) for i in range(3)]
    assert [answer.status_code for answer in answers] == [429, 429, 200]
    assert answers[0].headers["Retry-After"] == "2"
    assert hub.store.resolve(hub.store.load("models", "acme/tiny"), "main").parents == [head]


def test_skip_lets_the_first_pass(hub: Served) -> None:
    hub.create()
    hub.faults({**COMMIT, "does": "status", "status": 503, "skip": 1})
    assert [hub.commit(file("a.txt", str(i))).status_code for i in range(3)] == [200, 503, 200]


@pytest.mark.parametrize("does", ["cut", "short"])
@pytest.mark.parametrize("after", [False, True])
def test_a_connection_that_ends_before_or_after_the_commit(hub: Served, does: str, after: bool) -> None:
    head = hub.create()
    hub.faults({**COMMIT, "does": does, "after": after})
    with pytest.raises(httpx2.TransportError):
        hub.commit(file("a.txt", "a"))
    assert (hub.head() != head) == after


def test_somebody_else_commits_in_between(hub: Served) -> None:
    head = hub.create()
    hub.faults({**COMMIT, "does": "beside"})
    assert hub.commit(file("a.txt", "a"), parent=head).status_code == 412
    assert hub.commit(file("a.txt", "a"), parent=hub.head()).status_code == 200


def test_a_token_loses_its_worth_on_the_way(hub: Served) -> None:
    hub.create()
    hub.faults({**COMMIT, "does": "revoke"})
    assert hub.commit(file("a.txt", "a")).status_code == 401
    assert hub.ask("GET", "/api/whoami-v2").status_code == 401


def test_a_delay_delays(hub: Served) -> None:
    hub.create()
    hub.faults({**COMMIT, "does": "delay", "seconds": 0.3})
    before = time.monotonic()
    assert hub.commit(file("a.txt", "a")).status_code == 200 and time.monotonic() - before >= 0.3


def test_requests_are_listed_in_order(hub: Served) -> None:
    hub.create()
    httpx2.request("DELETE", f"{hub.url}/faults")
    hub.ask("GET", "/api/models/acme/tiny/revision/refs%2Fpr%2F1")
    listed: Any = httpx2.get(f"{hub.url}/requests").json()
    assert listed == [["GET", "/api/models/acme/tiny/revision/refs%2Fpr%2F1"]]


def test_a_fault_that_is_misspelt_is_refused(hub: Served) -> None:
    with pytest.raises(httpx2.HTTPError):
        httpx2.put(f"{hub.url}/faults", json=[{**COMMIT, "does": "explode"}]).raise_for_status()
