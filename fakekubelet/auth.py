"""Who calls, and what they may do: a kubelet's authentication and authorization.

A kubelet asks for a client certificate in the handshake, takes any, and judges it when a request comes: a bad or
missing one is HTTP 401, not a TLS alert. Every way of authenticating is tried; a bad credential does no harm beside a
good one, but it is never ignored: with nothing good beside it the answer is 401, even where anonymous requests are
allowed.

An authorizer is a function: ``always_allow``, a table of ``access.AccessRules``, a ``webhooks.SubjectAccessReview``, or
one's own. What it is asked knows no more than Kubernetes does: there is no ``nodes/exec``, and a WebSocket is a GET, so
``get nodes/proxy`` is enough to run commands in every container of the node.

Sources: ``k/k: pkg/kubelet/server/auth.go``, ``k8s.io/apiserver: pkg/authentication/request/x509/x509.go`` and
``.../request/union``.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

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
    uid: str = ""
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """What else a TokenReview said: keys with their values."""


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


Authorizer = Callable[[Attributes], bool | Awaitable[bool]]
"""Called on the server's loop; a coroutine function is awaited. What it raises is answered by 500."""

TokenCheck = Callable[[str], User | Awaitable[User | None] | None]
"""The user that a bearer token stands for, or None. Called on the server's loop; a coroutine function is awaited. What
it raises means None."""


def always_allow(attributes: Attributes) -> bool:
    """Authorization mode ``AlwaysAllow``."""
    return True


class Authenticator:
    """The chain of a kubelet: client certificate, bearer token, bearer token among the subprotocols, anonymous.

    ``roots`` is what the kubelet's ``clientCAFile`` holds. ``tokens`` are static ones. ``token_check`` judges all
    others: ``webhooks.TokenReview``, or a function.
    """

    def __init__(
        self,
        roots: CertificateAuthority | Sequence[x509.Certificate],
        *,
        tokens: Mapping[str, User] | None = None,
        token_check: TokenCheck | None = None,
        anonymous: bool = False,
    ) -> None:
        self._roots = roots
        self._tokens = {token.encode(): user for token, user in (tokens or {}).items()}
        self._token_check = token_check
        self.anonymous = anonymous
        """Whether requests without any credential are admitted."""

    async def authenticate(
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
            user = await self._by_token(bearer)
        offered = offer is not None and (offer.token is not None or bool(offer.fault))
        if user is None and offer is not None and offer.token is not None:
            user = await self._by_token(offer.token)
        if user is not None:
            return replace(user, groups=(*user.groups, AUTHENTICATED)) if AUTHENTICATED not in user.groups else user
        if self.anonymous and not certificates and bearer is None and not offered:
            return ANONYMOUS
        return None

    async def _by_token(self, token: str) -> User | None:
        found = None
        sent = token.encode()
        for known, user in self._tokens.items():  # all of them, so that the time taken tells nothing
            if hmac.compare_digest(known, sent):
                found = user
        if found is not None or self._token_check is None:
            return found
        try:
            verdict = self._token_check(token)
            return await verdict if isinstance(verdict, Awaitable) else verdict
        except Exception:  # a kubelet logs it, and the credential counts as a bad one
            return None


def _bearer_token(authorization: Sequence[str]) -> str | None:
    if not authorization:
        return None
    kind, _, token = authorization[0].strip().partition(" ")
    return token.strip() if kind.lower() == "bearer" and token.strip() else None


_VERBS = {"POST": "create", "GET": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_SUBRESOURCES = {"stats": "stats", "metrics": "metrics", "logs": "log", "checkpoint": "checkpoint"}
_FINE_GRAINED = {
    "pods": "pods",
    "runningpods": "pods",
    "healthz": "healthz",
    "configz": "configz",
    "statusz": "statusz",
}
_STREAMS = frozenset({"exec", "attach", "portForward"})


def request_attributes(
    user: User, method: str, path: str, node: str, profile: Profile = DEFAULT, *, streams_create: bool = False
) -> list[Attributes]:
    """What authorization is asked for a request: allowed if any of them is. There is no ``nodes/exec``.

    With the gate ``KubeletFineGrainedAuthz`` it is asked for ``nodes/pods`` and the like before ``nodes/proxy``.
    ``streams_create``: ask for ``create`` whenever a stream is opened, by GET too. No kubelet does
    that; it would keep ``get nodes/proxy`` from running commands.
    """
    first = path.split("/", 2)[1] if path.startswith("/") else ""
    verb = _VERBS.get(method, "")
    if streams_create and verb == "get" and first in _STREAMS:
        verb = "create"
    if first in _SUBRESOURCES:
        names = [_SUBRESOURCES[first]]
    elif profile.fine_grained and first in _FINE_GRAINED:
        names = [_FINE_GRAINED[first], "proxy"]
    else:
        names = ["proxy"]
    return [Attributes(user, verb, name, path, node) for name in names]


def forbidden_text(attributes: Sequence[Attributes], profile: Profile = DEFAULT) -> str:
    """The body of 403; the attributes differ in their subresource alone. Kubelets before 1.32 name one of them."""
    first = attributes[0]
    if not profile.lists_subresources:
        return f"Forbidden (user={first.user.name}, verb={first.verb}, resource=nodes, subresource={first.subresource})"
    names = " ".join(each.subresource for each in attributes)
    return f"Forbidden (user={first.user.name}, verb={first.verb}, resource=nodes, subresource(s)=[{names}])\n"


async def refusal_of(
    authorize: Authorizer, attributes: Sequence[Attributes], profile: Profile = DEFAULT
) -> tuple[int, str] | None:
    """None if any of them is allowed; else the status and the text of the answer."""
    for each in attributes:
        try:
            verdict = authorize(each)
            if await verdict if isinstance(verdict, Awaitable) else verdict:
                return None
        except Exception:
            return 500, (
                f"Authorization error (user={each.user.name}, verb={each.verb}, resource=nodes, "
                f"subresource={each.subresource})"
            )
    return 403, forbidden_text(attributes, profile)
