"""Routes about discussions and pull requests. A pull request's changes stand under refs/pr/<number>."""

from __future__ import annotations

import uuid
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from factory.hub.local.repositories import url_of
from factory.hub.local.storage import Comment, Commit, Discussion, Entry, Repository, Store, now
from factory.hub.local.wire import (
    RefusedError,
    body_of,
    hub_of,
    repository_of,
    require_caller,
    require_writer,
)


def _event(kind: Any, author: str, **data: str) -> Comment:
    return Comment(id=uuid.uuid4().hex[:24], kind=kind, author=author, date=now(), data=data)


def open_pull_request(
    repository: Repository, base: str, title: str, message: str, author: str, made: Commit
) -> int:
    """Adds a pull request with its first commit; the caller saves the repository.

    Returns:
        Its number.
    """
    number = len(repository.discussions) + 1
    repository.refs[f"refs/pr/{number}"] = made.id
    events = [_event("comment", author, raw=message), _event("commit", author, subject=title, oid=made.id)]
    repository.discussions.append(
        Discussion(
            num=number,
            title=title,
            author=author,
            date=now(),
            status="open",
            pull_request=True,
            base=base,
            events=events,
        )
    )
    return number


def _told(repository: Repository, discussion: Discussion) -> dict[str, Any]:
    return {
        "num": discussion.num,
        "title": discussion.title,
        "author": {"name": discussion.author},
        "createdAt": discussion.date,
        "status": discussion.status,
        "isPullRequest": discussion.pull_request,
        "repo": {"name": repository.id, "type": repository.kind.removesuffix("s")},
    }


def _whole(store: Store, repository: Repository, discussion: Discussion) -> dict[str, Any]:
    told = _told(repository, discussion)
    told["events"] = [
        {
            "id": event.id,
            "type": event.kind,
            "createdAt": event.date,
            "author": {"name": event.author},
            "data": _data(event),
        }
        for event in discussion.events
    ]
    if discussion.pull_request:
        told["changes"] = {"base": discussion.base, "mergeCommitId": discussion.merged_as}
        open_ = discussion.status in ("open", "draft")
        told["filesWithConflicts"] = merged(store, repository, discussion)[1] if open_ else []
        told["diff"] = ""
    return told


def _data(event: Comment) -> dict[str, Any]:
    if event.kind != "comment":
        return event.data
    return {"edited": False, "hidden": False, "latest": {"raw": event.data["raw"]}}


def merged(
    store: Store, repository: Repository, discussion: Discussion
) -> tuple[dict[str, Entry], list[str]]:
    """The tree that merging gives, and the paths that both sides changed since they parted."""
    target = store.resolve(repository, discussion.base)
    head = store.resolve(repository, f"refs/pr/{discussion.num}")
    ours = {commit.id for commit in store.history(repository, target)}
    parted = next(commit for commit in store.history(repository, head) if commit.id in ours)
    paths = parted.files.keys() | head.files.keys()
    theirs = {path for path in paths if parted.files.get(path) != head.files.get(path)}
    conflicts = [
        path
        for path in sorted(theirs)
        if target.files.get(path) not in (parted.files.get(path), head.files.get(path))
    ]
    files = {path: entry for path, entry in target.files.items() if path not in theirs}
    files |= {path: head.files[path] for path in theirs if path in head.files}
    return files, conflicts


def _find(request: Request, repository: Repository) -> Discussion:
    wanted = request.path_params["number"]
    found = next((one for one in repository.discussions if str(one.num) == wanted), None)
    if found is None:
        raise RefusedError(404, f"no discussion {wanted}")
    return found


async def listing(request: Request) -> Response:
    """GET .../discussions?type&status&author&p"""
    repository, _ = repository_of(request)
    asked = request.query_params
    found = [
        one
        for one in reversed(repository.discussions)
        if asked.get("type") in (None, "all", "pull_request" if one.pull_request else "discussion")
        and asked.get("author") in (None, one.author)
        and asked.get("status", "all") in ("all", "open" if one.status in ("open", "draft") else "closed")
    ]
    size, at = 10, int(asked.get("p", "0"))
    shown = [_told(repository, one) for one in found[at * size : (at + 1) * size]]
    return JSONResponse({"count": len(found), "start": at * size, "discussions": shown})


async def create(request: Request) -> Response:
    """POST .../discussions"""
    body = await body_of(request)
    seen, _ = repository_of(request)
    caller, store = require_caller(request), hub_of(request).store
    title = str(body.get("title", ""))
    if len(title) < 3:
        raise RefusedError(400, "a title has at least three letters")
    with store.locked():
        repository = store.load(seen.kind, seen.id)
        number = len(repository.discussions) + 1
        pull_request = bool(body.get("pullRequest"))
        if pull_request:
            repository.refs[f"refs/pr/{number}"] = store.resolve(repository, "main").id
        repository.discussions.append(
            Discussion(
                num=number,
                title=title,
                author=caller.user,
                date=now(),
                pull_request=pull_request,
                status="draft" if pull_request else "open",
                events=[_event("comment", caller.user, raw=str(body.get("description", "")))],
            )
        )
        store.save(repository)
    return JSONResponse({"num": number, "url": f"{url_of(request, seen.kind, seen.id)}/discussions/{number}"})


async def details(request: Request) -> Response:
    """GET .../discussions/{number}"""
    repository, _ = repository_of(request)
    store = hub_of(request).store
    return JSONResponse(_whole(store, repository, _find(request, repository)))


async def act(request: Request) -> Response:
    """POST .../discussions/{number}/{comment|status|title|merge}"""
    body = await body_of(request)
    seen, _ = repository_of(request)
    caller, store = require_caller(request), hub_of(request).store
    action = request.path_params["action"]
    with store.locked():
        repository = store.load(seen.kind, seen.id)
        discussion = _find(request, repository)
        if (action != "comment" and discussion.author != caller.user) or action == "merge":
            require_writer(request, repository.namespace)
        if action == "comment":
            event = _event("comment", caller.user, raw=str(body.get("comment", "")))
        elif action == "title":
            old, discussion.title = discussion.title, str(body.get("title", ""))
            event = _event("title-change", caller.user, **{"from": old, "to": discussion.title})
        elif action == "status" and body.get("status") in ("open", "closed"):
            discussion.status = body["status"]
            event = _event("status-change", caller.user, status=discussion.status)
        elif action == "merge":
            _merge(store, repository, discussion, caller.user)
            event = _event("status-change", caller.user, status="merged")
        else:
            raise RefusedError(400, f"cannot {action} this")
        discussion.events.append(event)
        store.save(repository)
    told = _whole(store, repository, discussion)
    last = told["events"][-1]
    return JSONResponse({**told, "newMessage": last, "newStatus": last, "newTitle": last})


def _merge(store: Store, repository: Repository, discussion: Discussion, author: str) -> None:
    if not discussion.pull_request or discussion.status not in ("open", "draft"):
        raise RefusedError(409, "this is no open pull request")
    files, conflicts = merged(store, repository, discussion)
    if conflicts:
        raise RefusedError(409, f"both sides changed {', '.join(conflicts)}")
    parents = [repository.refs[discussion.base], repository.refs[f"refs/pr/{discussion.num}"]]
    title = f"{discussion.title} (#{discussion.num})"
    made = store.record(repository.kind, repository.id, parents, title, "", author, files)
    repository.refs[discussion.base] = made.id
    discussion.status, discussion.merged_as = "merged", made.id


_DISCUSSIONS = "/api/{kind}/{namespace}/{name}/discussions"
ROUTES = [
    Route(_DISCUSSIONS, listing),
    Route(_DISCUSSIONS, create, methods=["POST"]),
    Route(f"{_DISCUSSIONS}/{{number}}", details),
    Route(f"{_DISCUSSIONS}/{{number}}/{{action}}", act, methods=["POST"]),
]
