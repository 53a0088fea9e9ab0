"""Misspelt licences: `publish.license` goes onto a card, and the Hub groups models by those that it knows.

Beside parts.py. The Hub's list grows, so what is like none of these passes.
https://huggingface.co/docs/hub/repositories-licenses
"""

from __future__ import annotations

import re

from pydantic_core import PydanticCustomError

from factory.errors import FactoryError
from factory.nearest import nearest
from factory.refused import refused, written

KNOWN = frozenset((
    "apache-2.0", "mit", "openrail", "bigscience-openrail-m", "creativeml-openrail-m",
    "bigscience-bloom-rail-1.0", "bigcode-openrail-m", "afl-3.0", "artistic-2.0", "bsl-1.0", "bsd",
    "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear", "cc", "cc0-1.0", "cc-by-2.0", "cc-by-2.5",
    "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0",
    "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0",
    "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cdla-sharing-1.0", "cdla-permissive-1.0", "cdla-permissive-2.0",
    "wtfpl", "ecl-2.0", "epl-1.0", "epl-2.0", "etalab-2.0", "eupl-1.1", "eupl-1.2", "agpl-3.0", "gfdl",
    "gpl", "gpl-2.0", "gpl-3.0", "lgpl", "lgpl-2.1", "lgpl-3.0", "isc", "h-research", "intel-research",
    "lppl-1.3c", "ms-pl", "apple-ascl", "apple-amlr", "mpl-2.0", "odc-by", "odbl", "openmdw-1.0",
    "openrail++", "osl-3.0", "postgresql", "ofl-1.1", "ncsa", "unlicense", "zlib", "pddl", "lgpl-lr",
    "deepfloyd-if-license", "fair-noncommercial-research-license", "llama2", "llama3", "llama3.1",
    "llama3.2", "llama3.3", "llama4", "gemma", "unknown", "other",
))  # fmt: skip
FORM = r"^[a-z0-9][a-z0-9.+-]*$"
_WORDS = frozenset(word for known in KNOWN for word in known.split("-"))
_LIKE = 0.88  # a letter more, less or another, of eight: upl-1.0 is not epl-1.0


def spelt(licence: str) -> str:
    """The licence itself.

    Raises:
        PydanticCustomError: no licence of the Hub is written so, or it is most likely another one, misspelt.
    """
    if not re.fullmatch(FORM, licence):
        like = nearest(licence.lower().replace(" ", "-"), KNOWN)
        mend = f"Write '{like}', if that is meant" if like else "Write it as the Hub does: apache-2.0, say"
        raise refused(f"{written(licence)} does not do as a licence", mend=mend)
    # Of known words (cc-by-nd-3.0), or one that goes on from a known one (cc-by-sa-3.0-at): another licence.
    goes_on = any(licence.startswith(f"{known}-") for known in KNOWN if known[-1].isdigit())
    if goes_on or set(licence.split("-")) <= _WORDS:
        return licence
    versions = [known for known in KNOWN if _digits(known) == _digits(licence)]
    if like := nearest(licence, versions, _LIKE):
        raise refused(
            f"'{licence}' is no licence that the Hub knows", mend=f"Write '{like}', if that is meant"
        )
    return licence


def asked(licence: str) -> str:
    """As `spelt`, of `--license`.

    Raises:
        FactoryError: what `spelt` refuses.
    """
    try:
        return spelt(licence)
    except PydanticCustomError as error:
        context = error.context or {}
        raise FactoryError(context["what"], where="--license", mend=context["mend"]) from None


def _digits(text: str) -> str:
    return "".join(c for c in text if c.isdigit())
