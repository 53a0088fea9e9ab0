"""The collection that groups what a run published. Under publish.py."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import partial
from typing import Any

from factory.hub.contents import Finished
from factory.hub.ledger import Record
from factory.hub.session import Patience, patiently, refusal

PAPER = "2410.09982"  # self-data distillation
_TITLE = 60  # characters of a collection's title on the Hub


def collect(api: Any, done: Finished, namespace: str, records: Sequence[Record], patience: Patience) -> str:
    """Groups what is public in a collection of the recipe's name, with the paper; returns its slug.

    Raises:
        FactoryError: the Hub refuses or does not answer.
    """
    from huggingface_hub.errors import HfHubHTTPError

    title = done.page.name[:_TITLE]
    words = {"title": title, "namespace": namespace, "private": False, "exists_ok": True}
    what = f"Models and data of the recipe {done.page.name}, made by self-data distillation"[:150]
    try:
        found = patiently(lambda: api.create_collection(**words, description=what), patience)
        there = {(item.item_type, item.item_id) for item in found.items}
        wanted = [(record.kind, record.repository) for record in records]
        for kind, name in wanted:
            if (kind, name) not in there:
                add = partial(api.add_collection_item, found.slug, name, kind, exists_ok=True)
                patiently(add, patience)
        if ("paper", PAPER) not in there:
            add = partial(api.add_collection_item, found.slug, PAPER, "paper", exists_ok=True)
            # A Hub that has no page of the paper has nothing to link.
            with contextlib.suppress(HfHubHTTPError):
                patiently(add, patience)
    except Exception as error:
        raise refusal(error, f"{namespace}/{title}") from error
    return str(found.slug)
