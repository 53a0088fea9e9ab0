"""Who may do what on the local Hub: users, organisations, and tokens with a role.

Kept in accounts.json beside the repositories. A token is kept as its hash: the file gives nobody access.
"""

from __future__ import annotations

import datetime
import hashlib
import secrets
from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from factory.hub.local.blobs import MissingError
from factory.hub.local.storage import ConflictError, Kept, Repository, Store
from factory.run.store import write_atomically

Role = Literal["read", "write"]
PUBLISHER = "trusted-publisher"  # whose tokens those of trusted publishers are
LIFETIME = datetime.timedelta(hours=1)  # of those


class Token(Kept):
    """An access token of a user; `expires` is an ISO date and time in UTC.

    A trusted publisher's is good for the one repository that `only` names, as `resource_of` does.
    """

    name: str
    user: str
    role: Role
    expires: str | None = None
    only: str | None = None


class Accounts(Kept):
    """All accounts. `users` maps a user to the organisations they are in, with their role there."""

    users: dict[str, dict[str, Role]] = Field(default_factory=dict)
    tokens: dict[str, Token] = Field(default_factory=dict)  # by the token's sha256
    publishers: dict[str, list[dict[str, str]]] = Field(default_factory=dict)  # claims trusted, by repository


class Caller(Kept):
    """Who sent a request, and with which token."""

    user: str
    organisations: dict[str, Role]
    token: Token

    def may_read(self, namespace: str) -> bool:
        """Whether private repositories of the namespace are theirs to see."""
        return namespace == self.user or namespace in self.organisations

    def may_write(self, namespace: str) -> bool:
        """Whether the token lets them change what belongs to the namespace."""
        own = namespace == self.user or self.organisations.get(namespace) == "write"
        return own and self.token.role == "write" and self.token.only is None

    def publishes(self, repository: Repository) -> bool:
        """Whether the token is that of a trusted publisher of the repository."""
        return self.token.only == resource_of(repository)


class ExpiredError(Exception):
    """The token was good once."""


class Directory:
    """The accounts of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._path = store.root / "accounts.json"

    def load(self) -> Accounts:
        """All accounts as they are now."""
        if not self._path.exists():
            return Accounts()
        return Accounts.model_validate_json(self._path.read_bytes())

    def _save(self, accounts: Accounts) -> None:
        write_atomically(self._path, accounts.model_dump_json(indent=1))

    def namespaces(self) -> set[str]:
        """Every user and organisation."""
        users = self.load().users
        return set(users) | {name for organisations in users.values() for name in organisations}

    def add_user(self, user: str, organisations: dict[str, Role] | None = None) -> None:
        """Adds a user, or puts a known one into more organisations."""
        with self._store.locked():
            accounts = self.load()
            accounts.users[user] = {**accounts.users.get(user, {}), **(organisations or {})}
            self._save(accounts)

    def add_token(
        self,
        user: str,
        role: Role,
        name: str = "rehearsal",
        *,
        value: str | None = None,
        lifetime: datetime.timedelta | None = None,
        only: str | None = None,
    ) -> str:
        """Gives a user a token.

        Args:
            user: whose it is.
            role: `read` or `write`.
            name: what the user calls it.
            value: the token; None makes one.
            lifetime: how long it is good for; None for ever.
            only: see `Token`.

        Raises:
            MissingError: no such user.
            ConflictError: somebody has this very token.
        """  # fmt: skip
        value = value or f"hf_{secrets.token_hex(17)}"
        expires = None if lifetime is None else (datetime.datetime.now(datetime.UTC) + lifetime).isoformat()
        with self._store.locked():
            accounts = self.load()
            if user not in accounts.users:
                raise MissingError(f"no user {user}")
            if _digest(value) in accounts.tokens:
                raise ConflictError("somebody has this token")
            token = Token(name=name, user=user, role=role, expires=expires, only=only)
            accounts.tokens[_digest(value)] = token
            self._save(accounts)
        return value

    def trust(self, resource: str, claims: dict[str, str]) -> None:
        """Makes whoever can prove these claims a trusted publisher of a repository."""
        self.add_user(PUBLISHER)
        with self._store.locked():
            accounts = self.load()
            accounts.publishers.setdefault(resource, []).append(claims)
            self._save(accounts)

    def exchange(self, resource: str, claims: Mapping[str, object]) -> str | None:
        """A token of a repository for one who has proved these claims; None if it trusts none of them."""
        trusted = self.load().publishers.get(resource, [])
        if not any(all(claims.get(key) == value for key, value in one.items()) for one in trusted):
            return None
        return self.add_token(PUBLISHER, "write", resource, lifetime=LIFETIME, only=resource)

    def revoke(self, value: str) -> None:
        """Makes a token worthless."""
        with self._store.locked():
            accounts = self.load()
            accounts.tokens.pop(_digest(value), None)
            self._save(accounts)

    def caller(self, value: str) -> Caller | None:
        """Who has this token; None for nobody.

        Raises:
            ExpiredError: it is too old.
        """
        accounts = self.load()
        token = accounts.tokens.get(_digest(value))
        if token is None:
            return None
        if token.expires and datetime.datetime.fromisoformat(token.expires) < datetime.datetime.now(
            datetime.UTC
        ):
            raise ExpiredError(token.name)
        return Caller(user=token.user, organisations=accounts.users[token.user], token=token)


def resource_of(repository: Repository) -> str:
    """A repository as trusted publishing names it: `datasets/acme/rows`, models without a kind."""
    return repository.id if repository.kind == "models" else f"{repository.kind}/{repository.id}"


def readable(repository: Repository, caller: Caller | None) -> bool:
    """Whether a repository may be seen."""
    if not repository.private or caller is None:
        return not repository.private
    return caller.may_read(repository.namespace) or caller.publishes(repository)


def _digest(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()
