"""The options that say how to reach a kubelet and who is asking: the same for every command."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from kubeletclient import BearerToken, ClientCertificate, Deadlines, Keepalive

_Function = TypeVar("_Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Connection:
    """The values of the connection options."""

    kubelet: str | None
    client_certificate: str | None
    client_key: str | None
    certificate_authority: str | None
    token_file: str | None
    tls_server_name: str | None
    insecure: bool
    allow_unverified_token: bool
    connect_timeout: float | None
    ping_period: float
    ping_deadline: float
    transport: str
    bearer_subprotocol: bool

    def credentials(self) -> ClientCertificate | BearerToken | None:
        """Who is asking. Raises ``click.UsageError`` for options that do not fit together."""
        if self.client_key and not self.client_certificate:
            raise click.UsageError("--client-key needs --client-certificate")
        if self.client_certificate and self.token_file:
            raise click.UsageError("give --client-certificate or --token-file, and not both")
        if self.client_certificate:
            from kubeletclient import ClientCertificate

            return ClientCertificate(self.client_certificate, self.client_key)
        if self.token_file:
            from kubeletclient import BearerToken

            return BearerToken(file=self.token_file)
        return None

    def deadlines(self) -> Deadlines:
        """The steps up to a session; ``--connect-timeout`` replaces each of their defaults."""
        from kubeletclient import Deadlines

        if self.connect_timeout is None:
            return Deadlines()
        seconds = self.connect_timeout
        return Deadlines(dial=seconds, tls=seconds, upgrade=seconds, stream_reply=seconds)

    def keepalive(self) -> Keepalive | None:
        """PINGs; a period of 0 switches them off."""
        from kubeletclient import Keepalive

        return Keepalive(self.ping_period, self.ping_deadline) if self.ping_period > 0 else None

    def trust(self) -> dict[str, Any]:
        """The keyword arguments that ``Kubelet`` and ``connect_exec`` have in common."""
        if self.insecure and self.certificate_authority:
            raise click.UsageError("--insecure-skip-tls-verify makes --certificate-authority meaningless: give one")
        return {
            "ca": self.certificate_authority,
            "credentials": self.credentials(),
            "server_name": self.tls_server_name,
            "verify": not self.insecure,
            "allow_unverified_token": self.allow_unverified_token,
            "deadlines": self.deadlines(),
            "keepalive": self.keepalive(),
            "transport": self.transport,
            "bearer_subprotocol": self.bearer_subprotocol,
        }


_FILE = click.Path(dir_okay=False)
_OPTIONS = (
    click.option("--kubelet", metavar="URL", help="Go straight to this kubelet, e.g. https://10.0.0.1:10250."),
    click.option("--client-certificate", type=_FILE, metavar="FILE", help="PEM client certificate."),
    click.option("--client-key", type=_FILE, metavar="FILE", help="Its PEM key, when it is in a file of its own."),
    click.option("--certificate-authority", type=_FILE, metavar="FILE", help="PEM CA of the kubelet's certificate."),
    click.option("--token-file", type=_FILE, metavar="FILE", help="File with a bearer token."),
    click.option("--tls-server-name", metavar="NAME", help="Name to expect in the certificate, if not the URL's host."),
    click.option(
        "--insecure-skip-tls-verify", "insecure", is_flag=True, help="Do not verify the kubelet: anyone can pose as it."
    ),
    click.option(
        "--allow-unverified-token", is_flag=True, help="Send the token even to a kubelet that is not verified."
    ),
    click.option(
        "--connect-timeout",
        type=click.FloatRange(min=0, min_open=True),
        metavar="SECONDS",
        help="Bound for each step up to a running session.",
    ),
    click.option(
        "--ping-period",
        type=click.FloatRange(min=0),
        default=5.0,
        show_default=True,
        metavar="SECONDS",
        help="Keepalive; 0 for none.",
    ),
    click.option(
        "--ping-deadline",
        type=click.FloatRange(min=0, min_open=True),
        default=30.0,
        show_default=True,
        metavar="SECONDS",
        help="Silence after which a peer is taken for dead.",
    ),
    click.option(
        "--transport",
        default="auto",
        show_default=True,
        metavar="KIND",
        help="auto: SPDY, and WebSocket where SPDY does not pass; spdy; ws; or one subprotocol, spdy:NAME or ws:NAME; "
        "ws:none: WebSocket without one.",
    ),
    click.option(
        "--token-as-subprotocol",
        "bearer_subprotocol",
        is_flag=True,
        help="Hide the token among the subprotocols of a WebSocket request, for proxies that drop the header.",
    ),
)


def connection_options(function: _Function) -> _Function:
    """Adds the connection options to a command; they arrive as keyword arguments named as the fields above."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def take_connection(values: dict[str, Any]) -> Connection:
    """Moves the connection options out of a command's keyword arguments."""
    return Connection(**{name: values.pop(name) for name in Connection.__dataclass_fields__})
