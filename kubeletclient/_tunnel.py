"""Dialling: straight to the server, or through a proxy that connects us to it.

Part of the flows (see ``_flows`` for their contract). An HTTP proxy, spoken to over plain TCP or over TLS, gets a
CONNECT (RFC 9110, 9.3.6), for servers without TLS too, as client-go's SPDY dialer does it; a SOCKS5 proxy (RFC 1928,
RFC 1929) gets the name of the server and resolves it itself, as Go's does. What is said to a proxy names the server,
and no credential but the proxy's own.

Behind the proxy's answer the connection is the server's: TLS to it begins there, inside the TLS to the proxy if there
is one.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Generator
from typing import Any, Final

import h11

from kubeletclient import _faults, errors
from kubeletclient._commands import Address, Command, Connect, Load, Receive, Resolve, Send, StartTLS
from kubeletclient._proxies import Proxy
from kubeletclient._proxyfaults import answered, not_taken, refused, there, unreachable
from kubeletclient._trust import Trust
from kubeletclient.credentials import basic_header
from kubeletclient.endpoints import Endpoint, Target, is_address, local_address
from spdyproto.limits import Deadlines

__all__ = ["dial"]

_HEAD: Final = 16 * 1024
"""Bytes of the head of a proxy's answer."""

_BODY: Final = 64 * 1024
"""Bytes read of the page with which a proxy explains a refusal; none of it is shown."""

Dialling = Generator[Command, Any, None]


def dial(target: Target, trust: Trust, deadlines: Deadlines, user_agent: str, *, allow_local: bool = True) -> Dialling:
    """Leaves the driver with a connection on which the server is next to speak, or to be spoken to.

    Without ``allow_local`` addresses of this machine and of its links are refused; behind a proxy those that are
    written as addresses, for names are the proxy's to resolve.
    """
    endpoint = target.endpoint
    proxy = trust.proxy(endpoint)
    if proxy is None:
        yield from _connect(target, deadlines.dial, allow_local)
        return
    why = None if allow_local else local_address(endpoint.host)
    if why is not None:
        raise _faults.dial_fault(target, [(endpoint.host, OSError(f"refused: {why}"))])
    yield from _to_proxy(proxy, target, trust, deadlines)
    try:
        if proxy.scheme == "socks5":
            yield from _socks5(proxy, target, deadlines.dial)
        else:
            yield from _http(proxy, target, deadlines.dial, user_agent)
    except errors.ClientError:
        raise
    except TimeoutError as error:
        raise refused(
            proxy,
            target,
            f"did not connect us to {endpoint.authority} in time",
            "check that the server can be reached from the proxy",
        ) from error
    except OSError as error:
        raise refused(
            proxy, target, f"broke the connection ({error.strerror or error})", "check the proxy and its log"
        ) from error


def _connect(target: Target, timeout: float | None, allow_local: bool = True) -> Dialling:
    """Try the addresses in the resolver's order; the first that connects is used."""
    endpoint = target.endpoint
    try:
        addresses: list[Address] = yield Resolve(endpoint.host, endpoint.port, timeout)
    except (OSError, UnicodeError) as error:  # UnicodeError: a label that IDNA cannot encode
        fault = error if isinstance(error, OSError) else OSError(str(error))
        raise _faults.resolve_fault(target, fault) from error
    tried: list[tuple[str, OSError]] = []
    for address in addresses:
        why = None if allow_local else local_address(str(address[4][0]))
        if why is not None:
            tried.append((str(address[4][0]), OSError(f"refused: {why}")))
            continue
        try:
            yield Connect(address, timeout)
        except OSError as error:
            tried.append((str(address[4][0]), error))
        else:
            return
    if not tried:
        raise _faults.resolve_fault(target, OSError("the resolver answered with an empty list"))
    raise _faults.dial_fault(target, tried) from tried[-1][1]


def _to_proxy(proxy: Proxy, target: Target, trust: Trust, deadlines: Deadlines) -> Dialling:
    here = there(proxy, target)
    try:
        yield from _connect(here, deadlines.dial)
        if proxy.scheme == "https":
            context = yield Load(lambda _: trust.proxy_context())
            try:
                yield StartTLS(context, proxy.host, deadlines.tls)
            except OSError as error:
                raise _faults.tls_fault(here, error, proxy.host) from error
    except errors.ConnectError as error:
        raise unreachable(proxy, target, error) from error


# -- HTTP CONNECT ------------------------------------------------------------------------------------------------------


def _http(proxy: Proxy, target: Target, timeout: float | None, user_agent: str) -> Dialling:
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD)
    authority = _authority(target.endpoint)
    headers = [("Host", authority), ("User-Agent", user_agent)]
    if proxy.user is not None:
        headers.append(("Proxy-Authorization", basic_header(proxy.user, proxy.password or "")))
    request = http.send(h11.Request(method="CONNECT", target=authority, headers=headers))
    yield Send((request or b"") + (http.send(h11.EndOfMessage()) or b""), timeout)
    ends = None if timeout is None else time.monotonic() + timeout
    while True:
        try:
            event = http.next_event()
        except h11.RemoteProtocolError as error:
            raise refused(
                proxy, target, "does not answer CONNECT in HTTP", "check the scheme of the proxy's URL, and its port"
            ) from error
        if event is h11.NEED_DATA:
            data: bytes = yield Receive(_left(ends))
            http.receive_data(data)
            if not data and http.their_state is h11.SEND_RESPONSE:
                raise refused(
                    proxy, target, "closed the connection instead of an answer to CONNECT", "check the proxy's log"
                )
        elif isinstance(event, h11.Response):
            break
    if not 200 <= event.status_code < 300:
        raise answered(proxy, target, event.status_code, event.reason.decode("latin-1"))
    if http.trailing_data[0]:
        raise refused(proxy, target, "sent data of its own behind its answer to CONNECT", "check what it is")


# -- SOCKS5 -----------------------------------------------------------------------------------------------------------

_REPLIES: Final = {
    1: "a general failure",
    2: "its rules do not allow this connection",
    3: "the network cannot be reached",
    4: "the host cannot be reached",
    5: "the connection was refused",
    6: "the TTL expired",
    7: "it does not know CONNECT",
    8: "it does not know this kind of address",
}


def _socks5(proxy: Proxy, target: Target, timeout: float | None) -> Dialling:
    try:
        from socksio import socks5
        from socksio.exceptions import ProtocolError
    except ImportError as error:
        raise refused(
            proxy, target, "speaks SOCKS5, for which the package socksio is missing", "pip install 'kubewire[proxy]'"
        ) from error
    connection = socks5.SOCKS5Connection()
    ends = None if timeout is None else time.monotonic() + timeout
    known = proxy.user is not None
    methods = [socks5.SOCKS5AuthMethod.NO_AUTH_REQUIRED]
    if known:
        methods.append(socks5.SOCKS5AuthMethod.USERNAME_PASSWORD)

    def exchange(request: Any) -> Generator[Command, Any, Any]:  # noqa: ANN401 - socksio's own union, one type per step
        connection.send(request)
        yield Send(connection.data_to_send(), _left(ends))
        address = isinstance(request, socks5.SOCKS5CommandRequest)
        message = yield from _message(proxy, target, ends, address=address)
        return connection.receive_data(message)

    try:
        method = (yield from exchange(socks5.SOCKS5AuthMethodsRequest(methods))).method
        if method == socks5.SOCKS5AuthMethod.USERNAME_PASSWORD and known:
            user, password = ((text or "").encode() for text in (proxy.user, proxy.password))
            if not 0 < len(user) < 256 or len(password) > 255:
                raise refused(
                    proxy, target, "gets a user name or password of at most 255 bytes", "shorten that in its URL"
                )
            answer = yield from exchange(socks5.SOCKS5UsernamePasswordRequest(user, password))
            if not answer.success:
                raise not_taken(proxy, target)
        elif method != socks5.SOCKS5AuthMethod.NO_AUTH_REQUIRED:
            raise not_taken(proxy, target)
        reply = yield from exchange(_command(socks5, target.endpoint))
    except (ProtocolError, UnicodeError) as error:
        raise refused(proxy, target, "does not answer in SOCKS5", "check the scheme of the proxy's URL") from error
    code = reply.reply_code.value[0]
    if code:
        why = _REPLIES.get(code, f"code {code}")
        raise refused(
            proxy,
            target,
            f"did not connect us to {target.endpoint.authority}: {why}",
            "check the address as the proxy sees it, and the proxy's rules",
        )


def _command(socks5: Any, endpoint: Endpoint) -> Any:  # noqa: ANN401 - a module that may be missing, and its type
    if is_address(endpoint.host):
        address = ipaddress.ip_address(endpoint.host.partition("%")[0])
        kind = socks5.SOCKS5AType.IPV4_ADDRESS if address.version == 4 else socks5.SOCKS5AType.IPV6_ADDRESS
        packed = address.packed
    else:
        kind, packed = socks5.SOCKS5AType.DOMAIN_NAME, endpoint.host.encode("idna")
    return socks5.SOCKS5CommandRequest(socks5.SOCKS5Command.CONNECT, kind, packed, endpoint.port)


def _message(proxy: Proxy, target: Target, ends: float | None, *, address: bool) -> Generator[Command, Any, bytes]:
    """One whole message of the proxy, however it was cut; nothing may follow it before we speak again."""
    message = b""
    while True:
        wanted = 2
        if address:
            lengths = {1: 10, 4: 22, 3: 7 + message[4] if len(message) > 4 else 5}
            wanted = lengths.get(message[3], len(message)) if len(message) > 3 else 5
        if len(message) > wanted:
            raise refused(proxy, target, "sent data of its own behind its answer", "check what it is")
        if len(message) == wanted:
            return message
        data: bytes = yield Receive(_left(ends))
        if not data:
            raise refused(proxy, target, "closed the connection instead of an answer", "check the proxy's log")
        message += data


# -- both -------------------------------------------------------------------------------------------------------------


def _authority(endpoint: Endpoint) -> str:
    """``HOST:PORT``, with the port even where it is the scheme's own."""
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    return f"{host}:{endpoint.port}"


def _left(ends: float | None) -> float | None:
    return None if ends is None else max(0.0, ends - time.monotonic())
