"""The Hub that HF_ENDPOINT names, looked at before anybody asks it. Under hub_files.py and hub/session.py."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from factory.errors import FactoryError

VARIABLE = "HF_ENDPOINT"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def check_endpoint() -> None:
    """Refuses an HF_ENDPOINT without http:// or https://, from which huggingface_hub makes nonsense.

    Raises:
        FactoryError: it is no address.
    """
    written = os.environ.get(VARIABLE)
    if written is None:
        return
    try:
        parts = urlsplit(written)
        if parts.scheme in ("http", "https") and parts.hostname:
            return
    except ValueError:  # brackets that are no IPv6
        pass
    where = written if "://" not in written else ""
    scheme = "http" if is_local(f"http://{where}") else "https"
    mend = f"Write {scheme}://{where}, if that is meant, or unset it" if where else "Write http://HOST:PORT"
    raise FactoryError(f"'{written}' is no address of a Hub", where=VARIABLE, mend=mend)


def is_local(endpoint: str | None = None) -> bool:
    """Whether a Hub, by default that of HF_ENDPOINT, is on this machine, as `factory hub serve` has it."""
    try:
        host = urlsplit(os.environ.get(VARIABLE, "") if endpoint is None else endpoint).hostname
    except ValueError:
        return False
    return host in _LOOPBACK
