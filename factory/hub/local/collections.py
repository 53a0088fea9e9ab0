"""Routes about collections: groups of repositories and papers, a JSON file each."""

from __future__ import annotations

import re
import uuid
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from factory.hub.local.accounts import Caller, readable
from factory.hub.local.blobs import MissingError
from factory.hub.local.storage import Kept, Kind, Store, now
from factory.hub.local.wire import (
    RefusedError,
    body_of,
    caller_of,
    hub_of,
    page,
    part,
    require_caller,
    require_writer,
)
from factory.run.store import write_atomically


class Item(Kept):
    """Something in a collection."""

    key: str
    type: Literal["model", "dataset", "space", "paper", "collection"]
    id: str
    note: str | None = None


class Collection(Kept):
    """A collection; its slug ends with letters that no other has."""

    slug: str
    title: str
    owner: str
    description: str = ""
    private: bool = False
    changed: str
    items: list[Item] = Field(default_factory=list)


def _path(store: Store, slug: str) -> Path:
    if not re.fullmatch(r"[A-Za-z0-9._-]+/[a-z0-9-]+-[0-9a-f]{24}", slug):
        raise RefusedError(404, "Collection not found")
    return store.root / "collections" / f"{slug}.json"


def _load(store: Store, slug: str) -> Collection:
    """A collection; the part of the slug before its last word may be out of date."""
    path = _path(store, slug)
    found = [path] if path.exists() else list(path.parent.glob(f"*-{slug[-24:]}.json"))
    if not found:
        raise RefusedError(404, "Collection not found")
    return Collection.model_validate_json(found[0].read_bytes())


def visible(request: Request) -> tuple[Collection, Caller | None]:
    """The collection in the path, where the caller may see it, and who asks.

    Raises:
        RefusedError: 404.
    """
    caller = caller_of(request)
    slug = f"{part(request, 'namespace')}/{part(request, 'slug')}"
    collection = _load(hub_of(request).store, slug)
    if collection.private and not (caller and caller.may_read(collection.owner)):
        raise RefusedError(404, "Collection not found")
    return collection, caller


def _save(store: Store, collection: Collection) -> None:
    collection.changed = now()
    path = _path(store, collection.slug)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, collection.model_dump_json(indent=1))


def _told(collection: Collection, store: Store, caller: Caller | None, whole: bool) -> dict[str, Any]:
    shown = [item for item in collection.items if _visible(item, store, caller)]
    items = []
    for position, item in enumerate(shown if whole else shown[:4]):
        one: dict[str, Any] = {"_id": item.key, "id": item.id, "type": item.type, "position": position}
        items.append(one | ({"note": {"html": item.note, "text": item.note}} if item.note else {}))
    told = {
        "slug": collection.slug,
        "title": collection.title,
        "description": collection.description,
        "owner": {"name": collection.owner, "type": "user"},
        "items": items,
        "lastUpdated": collection.changed,
        "private": collection.private,
        "theme": "orange",
        "upvotes": 0,
    }
    return {**told, "position": 0} if whole else told  # in a list, the client counts


def _visible(item: Item, store: Store, caller: Caller | None) -> bool:
    if item.type in ("paper", "collection"):
        return True
    try:
        return readable(store.load(_kind(item.type), item.id), caller)
    except MissingError:
        return False


def _kind(item: str) -> Kind:
    return f"{item}s"  # type: ignore[return-value]


def every(store: Store) -> list[Collection]:
    """All collections, the last changed first."""
    found = [
        Collection.model_validate_json(p.read_bytes()) for p in (store.root / "collections").glob("*/[!.]*")
    ]
    return sorted(found, key=lambda collection: collection.changed, reverse=True)


async def listing(request: Request) -> Response:
    """GET /api/collections?owner&item&q&limit"""
    caller, asked = caller_of(request), request.query_params
    owners, wanted = asked.getlist("owner"), asked.getlist("item")
    store = hub_of(request).store
    found = [
        _told(one, store, caller, whole=False)
        for one in every(store)
        if (not one.private or (caller and caller.may_read(one.owner)))
        and (not owners or one.owner in owners)
        and (not wanted or {f"{item.type}s/{item.id}" for item in one.items} & set(wanted))
        and asked.get("q", "").lower() in one.title.lower()
    ]
    shown, headers = page(request, found, 100)
    return JSONResponse(shown, headers=headers)


async def create(request: Request) -> Response:
    """POST /api/collections"""
    body, caller = await body_of(request), require_caller(request)
    owner, title = str(body.get("namespace") or caller.user), str(body.get("title", "")).strip()
    require_writer(request, owner)
    if not title or len(title) > 60:
        raise RefusedError(400, "a collection's title has 1 to 60 letters")
    store = hub_of(request).store
    with store.locked():
        same = next((one for one in every(store) if (one.owner, one.title) == (owner, title)), None)
        if same:
            raise RefusedError(409, "You have a collection of this title", slug=same.slug)
        words = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "collection"
        collection = Collection(
            slug=f"{owner}/{words}-{uuid.uuid4().hex[:24]}", title=title, owner=owner, changed=now(),
            description=str(body.get("description") or ""), private=bool(body.get("private")),
        )  # fmt: skip
        _save(store, collection)
    return JSONResponse(_told(collection, store, caller, whole=True))


async def one(request: Request) -> Response:
    """GET, PATCH and DELETE /api/collections/{owner}/{slug}"""
    collection, caller = visible(request)
    store = hub_of(request).store
    if request.method in ("PATCH", "DELETE"):
        body = await body_of(request)
        require_writer(request, collection.owner)
        with store.locked():
            collection = _load(store, collection.slug)
            if request.method == "DELETE":
                _path(store, collection.slug).unlink()
                return JSONResponse({})
            for key in ("title", "description", "private"):
                if body.get(key) is not None:
                    setattr(collection, key, body[key])
            _save(store, collection)
        return JSONResponse({"data": _told(collection, store, caller, whole=True)})
    return JSONResponse(_told(collection, store, caller, whole=True))


async def add_item(request: Request) -> Response:
    """POST .../items"""
    body = await body_of(request)
    seen, _ = visible(request)
    caller, store = require_writer(request, seen.owner), hub_of(request).store
    asked = body.get("item") or {}
    try:
        item = Item(key=uuid.uuid4().hex[:24], type=asked["type"], id=asked["id"], note=body.get("note"))
    except (ValueError, KeyError, TypeError):
        raise RefusedError(400, "an item has a type and an id") from None
    if not _visible(item, store, caller):
        raise RefusedError(404, f"there is no {item.type} {item.id}")
    with store.locked():
        collection = _load(store, seen.slug)
        if any((old.type, old.id) == (item.type, item.id) for old in collection.items):
            raise RefusedError(409, "it is in this collection already")
        collection.items.append(item)
        _save(store, collection)
    return JSONResponse(_told(collection, store, caller, whole=True))


async def change_item(request: Request) -> Response:
    """PATCH and DELETE .../items/{item}"""
    body = await body_of(request)
    seen, _ = visible(request)
    require_writer(request, seen.owner)
    store, key = hub_of(request).store, request.path_params["item"]
    with store.locked():
        collection = _load(store, seen.slug)
        item = next((old for old in collection.items if old.key == key), None)
        if item is None:
            raise RefusedError(404, "no such item")
        at = collection.items.index(item)
        collection.items.remove(item)
        if request.method == "PATCH":
            note = body.get("note")
            collection.items.insert(
                int(body.get("position", at)), item.model_copy(update={"note": note} if note else {})
            )
        _save(store, collection)
    return JSONResponse({})


_ONE = "/api/collections/{namespace}/{slug}"
ROUTES = [
    Route("/api/collections", listing),
    Route("/api/collections", create, methods=["POST"]),
    Route(_ONE, one, methods=["GET", "PATCH", "DELETE"]),
    Route(f"{_ONE}/items", add_item, methods=["POST"]),
    Route(f"{_ONE}/items/{{item}}", change_item, methods=["PATCH", "DELETE"]),
]
