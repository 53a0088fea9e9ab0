"""What never leaves this machine: secrets, pickles, states of training, caches. Looked for before sending."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from factory.errors import FactoryError

# By name, anywhere in the repository; kinds in the words of the message.
NAMES: Mapping[str, tuple[str, ...]] = {
    "a pickle, which runs code when it is loaded": (
        "*.pkl", "*.pickle", "*.pt", "*.pth", "*.ckpt", "*.bin", "*.joblib", "*.dill", "*.npy",
    ),
    "a state of training": ("optimizer*", "scheduler*", "rng_state*", "trainer_state.json", "scaler.*"),
    "a file of secrets": (
        ".env", ".env.*", "*.pem", "*.key", "*.p12", "id_rsa*", "id_ed25519*", ".netrc", "token",
        "credentials*", "*.kdbx", ".npmrc", ".pypirc",
    ),
    "a cache": ("__pycache__", ".cache", "*.pyc", ".git", ".DS_Store", "*.lock", "*.tmp", "*.incomplete"),
}  # fmt: skip

SECRETS = re.compile(
    rb"hf_[A-Za-z0-9]{30,}|-----BEGIN (?:[A-Z]+ )?PRIVATE KEY|\bAKIA[0-9A-Z]{16}\b"
    rb"|\bgh[pousr]_[A-Za-z0-9]{36,}|\bsk-[A-Za-z0-9_-]{32,}|\bxox[baprs]-[A-Za-z0-9-]{20,}"
)
_TEXT_BYTES = 16 << 20  # larger ones are weights or data


def refuse_forbidden(files: Mapping[str, Path | bytes], where: str) -> None:
    """Refuses what must not be published.

    Args:
        files: path in the repository -> a file here, or its content.
        where: the repository, for the message.

    Raises:
        FactoryError: a name or a content is forbidden; the message names the file, not the secret.
    """
    for path, source in files.items():
        for kind, patterns in NAMES.items():
            if any(fnmatchcase(part, pattern) for part in PurePosixPath(path).parts for pattern in patterns):
                raise FactoryError(f"{path} is {kind}", where=where, mend="Leave it out")
        if SECRETS.search(_text(source)):
            what = f"{path} holds what looks like an access token or a private key"
            raise FactoryError(what, where=where, mend="Take it out, and revoke it if it is one")


def _text(source: Path | bytes) -> bytes:
    """A file's content if it may be text; nothing of what is too large, or binary."""
    if isinstance(source, bytes):
        return source
    if source.stat().st_size > _TEXT_BYTES:
        return b""
    content = source.read_bytes()
    return b"" if b"\0" in content[:8192] else content
