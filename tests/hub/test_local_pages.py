"""What a browser gets from the local Hub."""

from __future__ import annotations

from local_hub import Served, file

CARD = """---
license: mit
tags: [factory]
---
# A model

| task | score |
|---|--:|
| arc | 51.0 |

![curve](pictures/curve.png) [rows](https://example.org) <script>alert(1)</script>
"""


def test_a_card_is_rendered_and_its_pictures_come_from_the_repository(hub: Served) -> None:
    hub.create()
    hub.commit(file("README.md", CARD), file("pictures/curve.png", "png"))
    page = hub.ask("GET", "/acme/tiny", None)
    assert "<h1>A model</h1>" in page.text and "<td>arc</td>" in page.text and "license:mit" in page.text
    assert 'src="/acme/tiny/resolve/main/pictures/curve.png"' in page.text
    assert 'href="https://example.org"' in page.text
    picture = hub.ask("GET", "/acme/tiny/resolve/main/pictures/curve.png", None)
    assert picture.headers["content-type"] == "image/png"


def test_the_home_page_has_all_settings_of_a_terminal(hub: Served) -> None:
    page = hub.ask("GET", "/", None).text
    token = hub.root.resolve() / "token"
    for line in (f"HF_ENDPOINT={hub.url}", "HF_HUB_DISABLE_XET=1", f"HF_TOKEN_PATH={token}"):
        assert f"export {line}" in page


def test_links_to_what_is_rehearsed_here_lead_here(hub: Served) -> None:
    hub.create()
    hub.create("acme/rows", "dataset")
    hub.create("acme/own", private=True)
    links = ("datasets/acme/rows", "datasets/acme/none", "acme/own", "acme/tiny/tree/main")
    hub.commit(file("README.md", " ".join(f"[x](https://huggingface.co/{link})" for link in links)))
    page = hub.ask("GET", "/acme/tiny", None).text
    assert 'href="/datasets/acme/rows"' in page and 'href="/acme/tiny/tree/main"' in page
    assert 'href="https://huggingface.co/datasets/acme/none"' in page
    assert 'href="https://huggingface.co/acme/own"' in page  # who may not see it is not told of it


def test_what_a_stranger_wrote_runs_nowhere(hub: Served) -> None:
    hub.create()
    page = "<script>alert(1)</script>"
    hub.commit(file("README.md", CARD + page), file("<b>.html", page))
    for path in ("", "/tree/main", f"/commit/{hub.head()}"):
        answer = hub.ask("GET", f"/acme/tiny{path}", None)
        assert answer.status_code == 200 and "<script>" not in answer.text and "<b>.html" not in answer.text
        assert "script-src" not in answer.headers["Content-Security-Policy"]
    sent = hub.ask("GET", "/acme/tiny/resolve/main/%3Cb%3E.html", None)
    assert sent.headers["content-type"] == "application/octet-stream"
    assert "sandbox" in sent.headers["Content-Security-Policy"]


def test_commits_pull_requests_and_refs_have_pages(hub: Served) -> None:
    hub.create()
    hub.commit(file("a.txt", "a"))
    hub.commit(file("b.txt", "b"), query="?create_pr=1")
    hub.ask("POST", "/api/models/acme/tiny/tag/main", json={"tag": "v1"})
    assert "a commit" in hub.ask("GET", "/acme/tiny/commits/main", None).text
    assert "v1" in hub.ask("GET", "/acme/tiny/tree/main", None).text
    assert "#1 a commit" in hub.ask("GET", "/acme/tiny/discussions", None).text
    assert "refs%2Fpr%2F1" in hub.ask("GET", "/acme/tiny/discussions/1", None).text
    assert "b.txt" in hub.ask("GET", "/acme/tiny/tree/refs%2Fpr%2F1", None).text
    assert hub.ask("GET", "/acme/tiny/discussions/9", None).status_code == 404


def test_bad_metadata_is_told_on_the_page(hub: Served) -> None:
    hub.create()
    hub.commit(file("README.md", "# no metadata\n"))
    assert "empty or missing yaml metadata" in hub.ask("GET", "/acme/tiny", None).text
