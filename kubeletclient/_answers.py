"""Plain requests whose answer is a stream of bytes, as far as both flavours share them."""

from __future__ import annotations

import time
from dataclasses import dataclass

from kubeletclient import errors
from kubeletclient._door import Fetch, Way
from kubeletclient._fetch import fetch_error
from kubeletclient.endpoints import Target

__all__ = ["Call", "cut", "headers_of", "refused"]


@dataclass(frozen=True, slots=True)
class Call:
    """A request without a body. ``what`` names the answer in errors, as in "the log of default/web"."""

    way: Way
    target: Target
    what: str
    method: str = "GET"
    accept: str = "*/*"
    quiet: float | None = None
    """Seconds that the answer may stay silent once it began; None: for ever."""

    @property
    def fetch(self) -> Fetch:
        """The same, for the errors of ``_fetch``."""
        return Fetch(self.way, self.target.path, self.what)

    @property
    def url(self) -> str:
        """Of the request."""
        endpoint = self.target.endpoint
        return f"{endpoint.scheme}://{endpoint.authority}{self.target.path}"


def headers_of(call: Call, timeout: float | None) -> list[tuple[str, str]]:
    """The headers. May read a token file, or run a credential plugin. Raises CredentialsError."""
    settings = call.way.settings
    settings.trust.check(call.target.endpoint)
    identity = settings.trust.headers(call.target.endpoint, time.monotonic())
    if callable(identity):
        identity = identity(timeout)
    return [("User-Agent", settings.agent), ("Accept", call.accept), ("Accept-Encoding", "identity"), *identity]


def cut(call: Call, received: int, fault: Exception) -> errors.ClientError:
    """The answer had begun, and did not end as it should."""
    if isinstance(fault, errors.ClientError):
        return fault
    return errors.ConnectionLost(
        f"{call.what} was cut off after {received} bytes: {str(fault) or type(fault).__name__}",
        hint="what came is whole up to there; ask again for the rest",
        route=call.target.route,
        url=call.target.shown,
        owed=("the rest of the answer",),
    )


def refused(call: Call, status: int, body: bytes) -> errors.ClientError:
    """The answer is another one than 2xx."""
    return fetch_error(call.fetch, status, None, body)
