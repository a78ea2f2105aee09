"""Plain requests by httpx over connections of our own making.

httpx (by way of httpcore) speaks HTTP; dialling, proxies and TLS are those of the streams (``_tunnel`` and the
drivers). So both go the same way, verify alike, and meet the same errors, which pass through httpx as they are. What
the flavours share of it is here.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import httpcore
import httpx

from kubeletclient import _faults
from kubeletclient._commands import Command
from kubeletclient._trust import Trust
from kubeletclient._tunnel import dial
from kubeletclient.endpoints import Target
from kubeletclient.errors import ClientError
from spdyproto.limits import Deadlines

__all__ = ["Route", "core_request", "transport_faults"]


@dataclass(frozen=True, slots=True)
class Route:
    """The server of plain requests and the way to it."""

    target: Target
    trust: Trust
    deadlines: Deadlines
    user_agent: str
    allow_local: bool = True
    what: str = ""
    """What is asked for, as errors name it."""

    def dial(self) -> Generator[Command, Any, None]:
        """The flow up to a connection, without the server's TLS."""
        return dial(self.target, self.trust, self.deadlines, self.user_agent, allow_local=self.allow_local)

    @property
    def server_name(self) -> str:
        """The name that the server's certificate has to hold."""
        return self.trust.server_name or self.target.endpoint.host

    @contextlib.contextmanager
    def tls_faults(self) -> Iterator[None]:
        """Faults of the handshake with the server become ours."""
        try:
            yield
        except ClientError:
            raise
        except OSError as error:
            raise self._tls_fault(error) from error

    def _tls_fault(self, error: OSError) -> ClientError:
        return _faults.tls_fault(self.target, error, self.server_name, pinned=self.trust.pinned is not None)

    @contextlib.contextmanager
    def stream_faults(self) -> Iterator[None]:
        """Faults of a connection that stands become those that httpcore expects of its streams; those of TLS, such as
        a refusal of our certificate, which with TLS 1.3 comes late, become ours.
        """
        try:
            yield
        except ClientError:
            raise
        except ssl.SSLError as error:
            raise self._tls_fault(error) from error
        except TimeoutError as error:
            raise httpcore.ReadTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.ReadError(str(error)) from error


@contextlib.contextmanager
def transport_faults() -> Iterator[None]:
    """Faults of httpcore become those of httpx, as its own transports do it."""
    try:
        yield
    except httpcore.TimeoutException as error:
        raise httpx.ReadTimeout(str(error)) from error
    except httpcore.NetworkError as error:
        raise httpx.ReadError(str(error)) from error
    except (httpcore.ProtocolError, httpcore.UnsupportedProtocol) as error:
        raise httpx.RemoteProtocolError(str(error)) from error


def core_request(request: httpx.Request) -> httpcore.Request:
    """A request of httpx as httpcore wants it."""
    url = request.url
    return httpcore.Request(
        method=request.method,
        url=httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
        headers=request.headers.raw,
        content=request.stream,
        extensions=request.extensions,
    )
