"""The local Hub's pages for a browser: what a contributor looks at before publishing in earnest.

Cards are rendered from Markdown without the HTML in them, so what a stranger wrote runs nowhere. A private
repository is seen after a visit to /?token=..., which leaves a cookie that may only look.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, partial
from typing import Any
from urllib.parse import quote, urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from factory import front_matter
from factory.hub.local import cards, collections
from factory.hub.local.accounts import readable
from factory.hub.local.blobs import MissingError
from factory.hub.local.settings import exports
from factory.hub.local.storage import KINDS, Commit, Kind, Repository
from factory.hub.local.wire import (
    COOKIE,
    RefusedError,
    caller_of,
    commit_of,
    hub_of,
    origin,
    part,
    repository_of,
)

_SECURITY = "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data: http://localhost:* http://127.0.0.1:*"

_ELSEWHERE = re.compile(r"https://huggingface\.co/(datasets/)?([\w.-]+/[\w.-]+)(?=/|$)")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("factory.hub.local", "templates"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["bytes"] = _bytes
    environment.filters["moment"] = lambda date: f"{date[:10]} {date[11:16]}"
    environment.filters["path"] = lambda value: quote(value, safe="/")
    return environment


def _bytes(size: int) -> str:
    value, units = float(size), ["B", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.0f} {units[0]}" if units[0] == "B" else f"{value:.3g} {units[0]}"


def _page(template: str, **words: Any) -> Response:
    content = _environment().get_template(template).render(**words)
    return HTMLResponse(content, headers={"Content-Security-Policy": _SECURITY, "Cache-Control": "no-store"})


def rendered(markdown: str, files: str, is_here: Callable[[Kind, str], bool]) -> str:
    """A card as HTML.

    Args:
        markdown: the card without its metadata.
        files: where its relative pictures and links lead.
        is_here: whether a repository is on this Hub: links that name it on the real one lead here instead.
    """
    from markdown_it import MarkdownIt

    reader = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    tokens = reader.parse(markdown)
    for token in tokens:
        for child in token.children or []:
            for attribute in ("src", "href"):
                address = str(child.attrs.get(attribute, ""))
                parts = urlsplit(address)
                if attribute == "href" and (found := _ELSEWHERE.match(address)):
                    kind: Kind = "datasets" if found[1] else "models"
                    if is_here(kind, found[2]):
                        child.attrs[attribute] = address.removeprefix("https://huggingface.co")
                elif address and not parts.scheme and not parts.netloc and not address.startswith(("#", "/")):
                    child.attrs[attribute] = files + address
    return str(reader.renderer.render(tokens, reader.options, {}))


def _base(repository: Repository) -> str:
    return f"/{'' if repository.kind == 'models' else f'{repository.kind}/'}{repository.id}"


def _revision(request: Request) -> str:
    return part(request, "revision") if "revision" in request.path_params else "main"


async def index(request: Request) -> Response:
    """GET /: every repository and collection that may be seen"""
    if given := request.query_params.get("token"):
        answer = RedirectResponse("/", 303)
        answer.set_cookie(COOKIE, given, httponly=True, samesite="strict")
        return answer
    caller, store = caller_of(request), hub_of(request).store
    found = {kind: [one for one in store.all(kind) if readable(one, caller)] for kind in KINDS}
    groups = [one for one in collections.every(store) if not one.private]
    words = {"endpoint": origin(request), "exports": exports(origin(request), store.root), "base": _base}
    return _page("index.html.jinja", found=found, collections=groups, **words)


def _frame(request: Request, tab: str) -> tuple[Repository, Commit, dict[str, Any]]:
    """What every page of a repository shows."""
    repository, _ = repository_of(request)
    revision = _revision(request)
    commit = commit_of(request, repository, revision)
    card = cards.metadata(hub_of(request).store, commit)
    words = {
        "repository": repository,
        "commit": commit,
        "revision": revision,
        "base": _base(repository),
        "tab": tab,
        "tags": cards.tags(card),
        "license": card.get("license"),
        "size": sum(entry.size for entry in commit.files.values()),
        "endpoint": origin(request),
        "refs": sorted(ref for ref in repository.refs if not ref.startswith("refs/pr/")),
    }
    return repository, commit, words


async def card(request: Request) -> Response:
    """GET /[datasets/]{id}: the card"""
    repository, commit, words = _frame(request, "card")
    entry = commit.files.get("README.md")
    content = None
    if entry:
        text = hub_of(request).store.blobs.read(entry.sha256).decode("utf-8", "replace")
        yaml, text = front_matter.split(text)
        files = f"{_base(repository)}/resolve/{quote(words['revision'], safe='')}/"
        content = Markup(rendered(text, files, partial(_may_see, request)))
        words["errors"], words["warnings"] = cards.validate(f"---\n{yaml or ''}\n---\n", repository.kind[:-1])
    return _page("card.html.jinja", content=content, **words)


def _may_see(request: Request, kind: Kind, name: str) -> bool:
    try:
        return readable(hub_of(request).store.load(kind, name), caller_of(request))
    except MissingError:
        return False


async def tree(request: Request) -> Response:
    """GET .../tree/{revision}: all files"""
    _, commit, words = _frame(request, "files")
    return _page("files.html.jinja", files=sorted(commit.files.items()), **words)


async def commits(request: Request) -> Response:
    """GET .../commits/{revision}"""
    repository, commit, words = _frame(request, "commits")
    history = list(hub_of(request).store.history(repository, commit))
    return _page("commits.html.jinja", history=history, **words)


async def changes(request: Request) -> Response:
    """GET .../commit/{revision}: what one commit changed"""
    repository, commit, words = _frame(request, "commits")
    store = hub_of(request).store
    before = store.commit(repository.kind, repository.id, commit.parents[0]).files if commit.parents else {}
    changed = [
        (path, before.get(path), commit.files.get(path))
        for path in sorted(before.keys() | commit.files.keys())
        if before.get(path) != commit.files.get(path)
    ]
    return _page("commit.html.jinja", changed=changed, **words)


async def discussion_list(request: Request) -> Response:
    """GET .../discussions"""
    _, _, words = _frame(request, "community")
    return _page("discussions.html.jinja", one=None, **words)


async def discussion(request: Request) -> Response:
    """GET .../discussions/{number}"""
    repository, _, words = _frame(request, "community")
    wanted = request.path_params["number"]
    one = next((one for one in repository.discussions if str(one.num) == wanted), None)
    if one is None:
        raise RefusedError(404, f"no discussion {wanted}")
    return _page("discussions.html.jinja", one=one, **words)


async def collection(request: Request) -> Response:
    """GET /collections/{owner}/{slug}"""
    found, _ = collections.visible(request)
    return _page("collection.html.jinja", collection=found, endpoint=origin(request))


def _of_repository(path: str, page: Any) -> list[Route]:
    return [
        Route(f"/{{kind:kind}}/{{namespace}}/{{name}}{path}", page),
        Route(f"/{{namespace}}/{{name}}{path}", page),
    ]


ROUTES = [
    Route("/", index),
    Route("/collections/{namespace}/{slug}", collection),
    *_of_repository("/tree/{revision}", tree),
    *_of_repository("/commits/{revision}", commits),
    *_of_repository("/commit/{revision}", changes),
    *_of_repository("/discussions", discussion_list),
    *_of_repository("/discussions/{number}", discussion),
    *_of_repository("", card),
]
