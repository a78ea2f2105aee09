"""What a proxy can have against us, as errors."""

from __future__ import annotations

from kubeletclient import errors
from kubeletclient._proxies import Proxy
from kubeletclient.endpoints import Endpoint, Target
from spdyproto.text import printable

__all__ = ["answered", "not_taken", "refused", "there", "unreachable"]


def refused(
    proxy: Proxy,
    target: Target,
    what: str,
    hint: str,
    kind: type[errors.ProxyError] = errors.ProxyError,
    status: int | None = None,
) -> errors.ProxyError:
    """The proxy did something else than to connect us."""
    return kind(f"the proxy {proxy} {what}", hint=hint, route=target.route, url=target.shown, http_status=status)


def answered(proxy: Proxy, target: Target, status: int, reason: str) -> errors.ProxyError:
    """It answered CONNECT with this status."""
    text = f"answered HTTP {status} {printable(reason, limit=80)}".rstrip()
    if status in (401, 407):  # 401 is tinyproxy's word for a wrong password
        given = "it does not take those in its URL" if proxy.user is not None else "put them into its URL"
        hint = f"it wants a user name and a password: {given}"
        return refused(proxy, target, text, hint, errors.ProxyAuthenticationError, status)
    if status in (403, 405):
        hint = f"it does not connect to port {target.endpoint.port} or to this server: have it allowed, or use NO_PROXY"
    else:
        hint = "the proxy may not reach the server: check the address as the proxy sees it"
    return refused(proxy, target, text, hint, status=status)


def not_taken(proxy: Proxy, target: Target) -> errors.ProxyError:
    """A SOCKS5 proxy, and its user name and password."""
    known = proxy.user is not None
    how = "does not take the user name and password in its URL" if known else "wants a user name and a password"
    return refused(proxy, target, how, "put them into its URL", errors.ProxyAuthenticationError)


def unreachable(proxy: Proxy, target: Target, error: errors.ClientError) -> errors.ProxyError:
    """There is no connection, or no TLS, to the proxy itself; ``error`` tells why as if it were the server."""
    hint = error.hint
    if isinstance(error, errors.UnknownAuthorityError):
        hint = "a proxy's certificate is checked against this system's authorities and the CA of the server"
    return refused(proxy, target, f"cannot be reached: {error.cause}", hint)


def there(proxy: Proxy, target: Target) -> Target:
    """The proxy as if it were the server."""
    return Target(Endpoint(proxy.scheme == "https", proxy.host, proxy.port), "", str(proxy), target.route)
