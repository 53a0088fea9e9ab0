"""What a run tells while it goes on: run.py and make.py -> here -> displays, share.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Event:
    """Something that happened in a run, for displays. Times in seconds."""

    kind: Literal["planned", "started", "waiting", "progress", "done", "failed", "finished"]
    step: str = ""
    done: int = 0
    total: int = 0
    unit: str = ""
    note: str = ""
    seconds: float = 0.0


Events = Callable[[Event], None]
