"""Where a child of child.py begins: it hears its work, and does it alone or as the launcher of several."""

from __future__ import annotations

import json
import os
import sys
from typing import NoReturn

from factory.run.child import Work
from factory.run.inside import Teller, die_with_parent, finish, perform, read_line


def main() -> NoReturn:
    """Entry of the child: arguments are the descriptors of the control and the events pipe."""
    control, events = int(sys.argv[1]), int(sys.argv[2])
    with os.fdopen(os.dup(control), "rb", buffering=0) as channel:
        work = Work(**json.loads(read_line(channel)))
    for descriptor in (control, events, *work.hold):
        os.set_inheritable(descriptor, False)  # what the stage itself starts gets none of them
    die_with_parent(control, events)
    if work.processes > 1:
        from factory.run import ranks  # not needed, so not loaded, for one process

        finish(Teller(events), lambda teller: ranks.launch(work, control, events))
    finish(Teller(events), lambda teller: perform(work, teller))
