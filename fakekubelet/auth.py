"""Who calls, and what they may do: a kubelet's authentication and authorization.

A kubelet asks for a client certificate in the handshake, takes any, and judges it when a request comes: a bad or
missing one is HTTP 401, not a TLS alert. Every way of authenticating is tried; a bad credential does no harm beside a
good one, but it is never ignored: with nothing good beside it the answer is 401, even where anonymous requests are
allowed.

Sources: ``k/k: pkg/kubelet/server/auth.go``, ``k8s.io/apiserver: pkg/authentication/request/x509/x509.go`` and
``.../request/union``.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cryptography import x509

from fakekubelet.pki import CertificateAuthority, ClientIdentity, verify_client
from fakekubelet.profiles import DEFAULT, Profile
from spdyproto.websocket.handshake import BearerOffer

AUTHENTICATED = "system:authenticated"
"""The group that everybody with a good credential is in."""


@dataclass(frozen=True, slots=True)
class User:
    """A name and its groups, as authorization sees them."""

    name: str
    groups: tuple[str, ...] = ()


ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))


@dataclass(frozen=True, slots=True)
class Attributes:
    """What is asked of the authorizer: may ``user`` do ``verb`` on ``nodes/<subresource>`` of this node?

    ``verb`` is empty for methods that Kubernetes knows no verb for (HEAD, OPTIONS ...).
    """

    user: User
    verb: str
    subresource: str
    path: str
    node: str


Authorizer = Callable[[Attributes], bool]


def always_allow(attributes: Attributes) -> bool:
    """Authorization mode ``AlwaysAllow``."""
    return True


class Authenticator:
    """The chain of a kubelet: client certificate, bearer token, bearer token among the subprotocols, anonymous.

    ``roots`` is what the kubelet's ``clientCAFile`` holds. ``tokens`` stands for the TokenReview webhook.
    """

    def __init__(
        self,
        roots: CertificateAuthority | Sequence[x509.Certificate],
        *,
        tokens: Mapping[str, User] | None = None,
        anonymous: bool = False,
    ) -> None:
        self._roots = roots
        self._tokens = {token.encode(): user for token, user in (tokens or {}).items()}
        self._anonymous = anonymous

    def authenticate(
        self, certificates: Sequence[bytes], authorization: Sequence[str], offer: BearerOffer | None = None
    ) -> User | None:
        """The caller, or None for 401.

        ``certificates`` are what the client showed in the handshake, DER, its own first; ``authorization`` the values
        of its ``Authorization`` headers; ``offer`` what its list of WebSocket subprotocols says. Raises nothing,
        whatever the client sent.
        """
        user = None
        if certificates:
            identity = verify_client(certificates, self._roots)
            if isinstance(identity, ClientIdentity):
                user = User(identity.user, identity.groups)
        bearer = _bearer_token(authorization)
        if user is None and bearer is not None:
            user = self._by_token(bearer)
        offered = offer is not None and (offer.token is not None or bool(offer.fault))
        if user is None and offer is not None and offer.token is not None:
            user = self._by_token(offer.token.encode())
        if user is not None:
            return User(user.name, (*user.groups, AUTHENTICATED)) if AUTHENTICATED not in user.groups else user
        if self._anonymous and not certificates and bearer is None and not offered:
            return ANONYMOUS
        return None

    def _by_token(self, token: bytes) -> User | None:
        found = None
        for known, user in self._tokens.items():  # all of them, so that the time taken tells nothing
            if hmac.compare_digest(known, token):
                found = user
        return found


def _bearer_token(authorization: Sequence[str]) -> bytes | None:
    if not authorization:
        return None
    kind, _, token = authorization[0].strip().partition(" ")
    return token.strip().encode() if kind.lower() == "bearer" and token.strip() else None


_VERBS = {"POST": "create", "GET": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_SUBRESOURCES = {
    "stats": ("stats",),
    "metrics": ("metrics",),
    "logs": ("log",),
    "checkpoint": ("checkpoint",),
    "pods": ("pods", "proxy"),
    "runningpods": ("pods", "proxy"),
    "healthz": ("healthz", "proxy"),
    "configz": ("configz", "proxy"),
    "statusz": ("statusz", "proxy"),
}


def request_attributes(user: User, method: str, path: str, node: str, profile: Profile = DEFAULT) -> list[Attributes]:
    """What authorization is asked for a request: allowed if any of them is. There is no ``nodes/exec``."""
    first = path.split("/", 2)[1] if path.startswith("/") else ""
    verb = _VERBS.get(method, "")
    names = _SUBRESOURCES.get(first, ("proxy",))
    if not profile.fine_grained:
        names = names[-1:]  # what lies before the last came with the gate
    return [Attributes(user, verb, name, path, node) for name in names]


def forbidden_text(attributes: Sequence[Attributes], profile: Profile = DEFAULT) -> str:
    """The body of 403; the attributes differ in their subresource alone."""
    first = attributes[0]
    if not profile.lists_subresources:
        return f"Forbidden (user={first.user.name}, verb={first.verb}, resource=nodes, subresource={first.subresource})"
    names = " ".join(each.subresource for each in attributes)
    return f"Forbidden (user={first.user.name}, verb={first.verb}, resource=nodes, subresource(s)=[{names}])\n"
