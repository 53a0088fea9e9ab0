"""Talking to the Hub with a deadline and with patience; refusals in one line. Under transaction.py.

huggingface_hub gives its calls no time limit, and retries some of them but not those that change something:
https://github.com/huggingface/huggingface_hub/blob/main/src/huggingface_hub/utils/_http.py
The token comes from its usual places and stands in no message.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, TypeVar

from factory.endpoint import check_endpoint, is_local
from factory.errors import FactoryError

Answer = TypeVar("Answer")

TRANSIENT = frozenset((408, 425, 429, 500, 502, 503, 504))


@dataclass(frozen=True)
class Patience:
    """How long is waited for the Hub.

    Attributes:
        seconds: for the next byte of an answer, or to send one; a large file has as long as it takes.
        tries: of a call that may be repeated.
        pause: seconds before the second try; doubled each time, to `longest` at most.
        longest: see `pause`; a Retry-After of the Hub counts more, up to five minutes.
    """

    seconds: float = 60.0
    tries: int = 6
    pause: float = 1.0
    longest: float = 30.0


def connect(patience: Patience, token: str | None = None, endpoint: str | None = None) -> Any:
    """A HfApi whose calls end: from now on all calls of huggingface_hub in this process do.

    Raises:
        FactoryError: HF_ENDPOINT is no address.
    """
    check_endpoint()
    from huggingface_hub import HfApi

    _set_deadline(patience.seconds)
    return HfApi(endpoint=endpoint, token=token, library_name="factory")


@cache  # setting it closes the connections that are open
def _set_deadline(seconds: float) -> None:
    import httpx2
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils._http import default_client_factory

    def client() -> httpx2.Client:
        made = default_client_factory()
        made.timeout = httpx2.Timeout(seconds, connect=min(10.0, seconds))
        return made

    set_client_factory(client)


def is_transient(error: Exception) -> bool:
    """Whether the same call may well succeed a little later."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in TRANSIENT
    if _has_no_xet(error):
        return False
    if isinstance(error, LocalEntryNotFoundError):  # what a download says of a Hub that does not answer
        return True
    # RuntimeError: an upload thread's; its cause tells.
    cause = error.__cause__
    if isinstance(error, RuntimeError) and isinstance(cause, Exception):
        return is_transient(cause)
    return isinstance(error, httpx2.TransportError | TimeoutError | ConnectionError)


def patiently(call: Callable[[], Answer], patience: Patience) -> Answer:
    """The answer to a call that may be repeated, tried again while the Hub has a bad moment."""
    from tenacity import Retrying, retry_if_exception, stop_after_attempt

    retrying = Retrying(
        retry=retry_if_exception(lambda error: isinstance(error, Exception) and is_transient(error)),
        stop=stop_after_attempt(patience.tries),
        wait=lambda state: pause(state.attempt_number, state.outcome and state.outcome.exception(), patience),
        sleep=time.sleep,
        reraise=True,
    )
    return retrying(call)


def look_up(api: Any, patience: Patience) -> None:
    """Asks the Hub for next to nothing: whoever lists goes on once it answers.

    huggingface_hub's lists try again by themselves, for a minute, and say so each time.

    Raises:
        Exception: what refuses or breaks a single call; `refusal` tells it.
    """
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    headers = build_hf_headers(token=api.token, library_name="factory")

    def ask() -> None:
        hf_raise_for_status(
            get_session().get(f"{api.endpoint}/api/models", params={"limit": 1}, headers=headers)
        )

    patiently(ask, replace(patience, tries=min(patience.tries, 3)))


def pause(attempt: int, error: Any, patience: Patience) -> float:
    """Seconds to wait after a failed attempt, counted from 1."""
    asked = getattr(getattr(error, "response", None), "headers", {}).get("Retry-After", "")
    own = min(patience.pause * 2 ** (attempt - 1), patience.longest)
    return max(own, min(float(asked), 300.0)) if asked.isdigit() else own


def refusal(error: Exception, where: str, *, sending: bool = True) -> FactoryError:
    """What a person is told of an error of the Hub or on the way to it.

    Args:
        error: of huggingface_hub or its HTTP client.
        where: the repository.
        sending: whether something is published; else it is only read.
    """
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    again = "Run the same command again"
    if sending:
        again += ": what was sent is kept"
    if isinstance(error, FactoryError):
        return error
    if isinstance(error, OfflineModeIsEnabled):
        return FactoryError(
            "HF_HUB_OFFLINE is set",
            where=where,
            mend=f"Unset it to {'publish' if sending else 'ask the Hub'}",
        )
    if isinstance(error, LocalTokenNotFoundError):
        return FactoryError("there is no token for the Hub", where=where, mend=_login())
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        said = " ".join((error.server_message or error.response.reason_phrase or "").split())
        mend = _login() if status == 401 else _MENDS.get(status, again)
        return FactoryError(f"the Hub answers {status}: {said}"[:300], where=where, mend=mend)
    if _has_no_xet(error):
        mend = "Set HF_HUB_DISABLE_XET=1, so that files go through Git LFS, and run the same command again"
        return FactoryError("this Hub does not speak Xet", where=where, mend=mend)
    what = f"the Hub{_asked(error)} does not answer ({type(error).__name__})"
    return FactoryError(what, where=where, mend=again)


def _has_no_xet(error: Exception) -> bool:
    """Whether hf_xet asked a Hub for Xet's address that has none, such as the local one."""
    return isinstance(error, ConnectionError) and "/xet-" in str(error) and "501" in str(error)


def _asked(error: Exception) -> str:
    """Which Hub did not answer, where the error knows."""
    try:
        return f" at {error.request.url.host}:{error.request.url.port or 443}"  # type: ignore[attr-defined]
    except (AttributeError, RuntimeError):
        return ""


def _login() -> str:
    """Where a token comes from: `hf auth login` has none for a Hub of this machine."""
    if is_local():
        return "Set HF_TOKEN_PATH to the file that `factory hub serve` prints, which has its token"
    return "Run `hf auth login`, or set HF_TOKEN, with a token that may write"


_MENDS = {
    403: "Use a token that may write there",
    404: "Look at the name, and whether the token may see it",
    429: "Wait a few minutes and run the same command again",
}


def check_token(api: Any, namespace: str, patience: Patience, *, as_guest: bool = False) -> str:
    """Refuses before anything is sent what could not be: without a token, with a reader's, with a stranger's.

    Args:
        api: from `connect`.
        namespace: where something is to be published.
        patience: with the Hub.
        as_guest: a pull request is to be opened there, which a stranger may do too.

    Returns:
        The user's name.

    Raises:
        FactoryError: see above.
    """
    try:
        # Nothing was sent yet: whoever has the wrong address, or no network, hears of it at once.
        me = patiently(api.whoami, replace(patience, tries=min(patience.tries, 3)))
    except Exception as error:
        raise refusal(error, namespace) from error
    role = me.get("auth", {}).get("accessToken", {}).get("role")
    if role == "read":
        raise FactoryError("the token may only read", where=namespace, mend=_login())
    if as_guest:
        return str(me["name"])
    roles = {one["name"]: one.get("roleInOrg") for one in me.get("orgs", [])} | {me["name"]: "admin"}
    if namespace not in roles:
        known = ", ".join(sorted(roles))
        what = f"the token's user '{me['name']}' is not in this namespace"
        raise FactoryError(what, where=namespace, mend=f"Publish in one of {known}, or use another token")
    if roles[namespace] == "read":
        what = f"'{me['name']}' may only read in this namespace"
        raise FactoryError(what, where=namespace, mend="Ask its owners for the right to write")
    return str(me["name"])
