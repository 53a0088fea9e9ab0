"""Named streams of randomness: one seed in the recipe, one independent number for every use of it.

Everything random in the pipeline takes its seed from here, so adding a variant or a dataset leaves the
random choices of all others as they were.
"""

from __future__ import annotations

import hashlib

BITS = 31  # what every library takes: a non-negative signed 32-bit number


def stream(seed: int, *names: str) -> int:
    """The seed of the stream called `names` under the recipe's `seed`: 0 <= value < 2**31.

    It depends on nothing else: not on the process, the platform or the order of calls.
    """
    # The length before each name keeps ("a", "bc") and ("ab", "c") apart.
    text = "".join(f"{len(part)}:{part}" for part in (str(int(seed)), *names))
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:4], "big") >> (32 - BITS)
