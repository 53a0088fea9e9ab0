"""What a plan's steps fetch from the Hub, in bytes: beside the costs, for `factory plan`."""

from __future__ import annotations

from collections.abc import Sequence

from factory import hub_files
from factory.plan.plan import Step
from factory.sources import Source


def downloads(steps: Sequence[Step]) -> dict[str, tuple[int, int] | None]:
    """By Hub repository, bytes of the files that the steps read and those of them not in the cache.

    None where the Hub cannot be asked.

    Raises:
        FactoryError: the Hub refuses.
    """
    files: dict[tuple[str, str, str], set[str]] = {}
    for step in steps:
        for place in step.inputs.values():
            if isinstance(place, Source) and place.kind == "hub":
                files.setdefault((place.repo, place.reference, place.fingerprint), set()).update(place.files)
    return {
        reference: hub_files.bytes_to_fetch(repo, reference, commit, sorted(wanted))  # type: ignore[arg-type]
        for (repo, reference, commit), wanted in files.items()
    }
