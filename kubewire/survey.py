"""Looks at one server for ``kubewire route``: how long the way is, who it is, and what it lets us do.

Nothing is run in any container. Access is tried with requests about a pod that there is not: a kubelet asks first who
is there and what they may, and then looks for the pod, so 404 means yes. Which subprotocols it speaks over SPDY it says
itself when it is offered one that does not exist, before anything is started; over WebSocket it would not say, so its
version tells.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from kubewire.trust import names_of

if TYPE_CHECKING:
    import httpx

    from kubeletclient._door import Way
    from kubeletclient.endpoints import Endpoint

NOBODY: Final = "kubewire-route-probe"
"""The name of a pod that there is not."""

_SECONDS: Final = 5.0
_READ_ONLY_PORT: Final = 10255


def milliseconds(began: float) -> float:
    """Since then, for the report."""
    return round((time.monotonic() - began) * 1000, 2)


def certificate(der: bytes) -> dict[str, Any]:
    """What the report says of a certificate."""
    from cryptography import x509

    from kubeletclient.known_nodes import fingerprint_of

    parsed = x509.load_der_x509_certificate(der)
    return {
        "subject": parsed.subject.rfc4514_string(),
        "issuer": parsed.issuer.rfc4514_string(),
        # a kubelet without a serving certificate makes an authority of its own, NODE-ca@TIME (client-go: util/cert)
        "self_signed": parsed.issuer == parsed.subject or "-ca@" in parsed.issuer.rfc4514_string(),
        "names": names_of(parsed),
        "not_before": parsed.not_valid_before_utc.isoformat(),
        "not_after": parsed.not_valid_after_utc.isoformat(),
        "fingerprint": fingerprint_of(der),
    }


def look_at(way: Way) -> tuple[dict[str, Any] | None, dict[str, Any] | None, float | None]:
    """The dial, TLS, and seconds of both together: as they were, each with its error. A proxy on the way hides both."""
    trust, endpoint = way.settings.trust, way.endpoint
    proxy = trust.proxy(endpoint)
    if proxy is not None:
        return {"milliseconds": None, "error": "", "proxy": str(proxy)}, None, None
    began = time.monotonic()
    try:
        with socket.create_connection((endpoint.host, endpoint.port), timeout=_SECONDS) as sock:
            dialled = milliseconds(began)
            dial = {"milliseconds": dialled, "error": "", "proxy": None}
            if not endpoint.secure:
                return dial, None, dialled
            tls = _handshake(sock, trust.context(), trust.server_name or endpoint.host)
    except OSError as error:
        return {"milliseconds": None, "error": _why(error), "proxy": None}, None, None
    tls["trust"] = (
        "nothing" if not trust.verify else "pinned" if trust.pinned is not None else "given or published authority"
    )
    if not tls["chain"]:
        tls["chain"] = _chain_of_a_stranger(endpoint)
    return dial, tls, milliseconds(began)


def _handshake(sock: socket.socket, context: ssl.SSLContext, name: str) -> dict[str, Any]:
    began = time.monotonic()
    tls: dict[str, Any] = {"milliseconds": None, "version": None, "error": "", "name": name, "chain": []}
    try:
        with context.wrap_socket(sock, server_hostname=name) as wrapped:
            tls.update(milliseconds=milliseconds(began), version=wrapped.version(), chain=_chain(wrapped))
    except ssl.SSLCertVerificationError as error:
        tls["error"] = error.verify_message or str(error)
    except OSError as error:
        tls["error"] = _why(error)
    return tls


def _chain(wrapped: ssl.SSLSocket) -> list[dict[str, Any]]:
    """All certificates that the server sent where this Python can tell, else its own."""
    inner = getattr(wrapped, "_sslobj", None)
    chain = getattr(inner, "get_unverified_chain", None)  # public from Python 3.13 on, as bytes
    sent = [part.public_bytes(2) for part in chain() or ()] if chain is not None else []
    leaf = wrapped.getpeercert(binary_form=True)
    return [certificate(der) for der in sent or ([leaf] if leaf else [])]


def _chain_of_a_stranger(endpoint: Endpoint) -> list[dict[str, Any]]:
    """Whoever it is: nothing is sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        contextlib.suppress(OSError),
        socket.create_connection((endpoint.host, endpoint.port), timeout=_SECONDS) as sock,
        context.wrap_socket(sock, server_hostname=endpoint.host) as wrapped,
    ):
        return _chain(wrapped)
    return []


def _why(error: OSError) -> str:
    return "no answer in time" if isinstance(error, TimeoutError) else error.strerror or str(error)


def read_only_port(endpoint: Endpoint) -> bool:
    """Whether anything listens where old kubelets serve everybody."""
    try:
        socket.create_connection((endpoint.host, _READ_ONLY_PORT), timeout=1.0).close()
    except OSError:
        return False
    return True


# -- what is let in ----------------------------------------------------------------------------------------------------


class Prober:
    """Requests to one server, over connections of the client's own making."""

    def __init__(self, way: Way) -> None:
        from kubeletclient._door import Fetch
        from kubeletclient._fetch import request_of, route_of
        from kubeletclient._policy import Deadline
        from kubeletclient.sync.plain import plain_client

        fetch = Fetch(way, "/", "the server")
        self._base = str(way.endpoint)
        self._headers = request_of(fetch, _SECONDS)[1]
        self._client: httpx.Client = plain_client(route_of(fetch), Deadline(None), timeout=_SECONDS)

    def __enter__(self) -> Prober:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def ask(self, method: str, path: str, headers: Any = (), json: Any = None) -> tuple[int, httpx.Response, float]:  # noqa: ANN401 - as httpx has them
        """Status, answer, milliseconds."""
        began = time.monotonic()
        answer = self._client.request(method, self._base + path, headers=[*self._headers, *headers], json=json)
        return answer.status_code, answer, milliseconds(began)


def kubelet_access(way: Way, namespace: str, container: str) -> dict[str, Any]:
    """What this identity may do at this kubelet, and how quickly it answers."""
    path = f"/exec/{namespace}/{NOBODY}/{container or 'main'}?output=1&command=true"
    access: dict[str, Any] = {"access": {}, "milliseconds": None, "error": ""}
    with Prober(way) as prober:
        for method, verb in (("POST", "create"), ("GET", "get")):
            status, answer, took = prober.ask(method, path)
            if status == 401:
                access["error"] = "it does not know these credentials (HTTP 401)"
                break
            access["access"][f"{verb} nodes/proxy"] = status != 403
            access["milliseconds"] = took
            if status == 403:
                access["refusal"] = answer.text.strip()[:300]
    return access


def anonymous(way: Way) -> str:
    """What becomes of who presents nothing."""
    from kubeletclient._trust import Trust

    trust = way.settings.trust
    bare = Trust(
        ca=trust.ca, verify=trust.verify, server_name=trust.server_name, pinned=trust.pinned, proxy=trust.chosen_proxy
    )
    with Prober(replace(way, settings=replace(way.settings, trust=bare))) as prober:
        status, _, _ = prober.ask("GET", "/pods")
    return {401: "refused", 403: "refused by authorization"}.get(status, "let in" if status == 200 else "unclear")


def spdy_protocols(way: Way, namespace: str, pod: str, container: str) -> list[str]:
    """The subprotocols that it names when it is offered one that does not exist."""
    from kubeletclient.endpoints import segment

    names = "/".join(map(segment, (namespace, pod, container)))
    headers = [
        ("Connection", "Upgrade"),
        ("Upgrade", "SPDY/3.1"),
        ("X-Stream-Protocol-Version", "none.kubewire.invalid"),
    ]
    with Prober(way) as prober:
        _, answer, _ = prober.ask("POST", f"/exec/{names}?output=1&command=true", headers)
    return answer.headers.get_list("X-Accepted-Stream-Protocol-Versions", split_commas=True)


def websocket_protocols(version: str) -> list[str]:
    """By the kubelet's version: v5 since 1.36; the runtime's own before that."""
    minor = version.removeprefix("v").split(".")[1:2]
    v5 = ["v5.channel.k8s.io"] if minor and minor[0].isdigit() and int(minor[0]) >= 36 else []
    return [*v5, "v4.channel.k8s.io", "v4.base64.channel.k8s.io", "channel.k8s.io", "base64.channel.k8s.io"]


RIGHTS: Final = (
    ("get", "", "pods", ""),
    ("get", "", "nodes", ""),
    ("create", "", "pods", "exec"),
    ("get", "", "pods", "exec"),
    ("get", "", "pods", "log"),
    ("create", "", "pods", "portforward"),
    ("create", "", "nodes", "proxy"),
    ("get", "", "nodes", "proxy"),
)


def apiserver_access(way: Way, namespace: str, pod: str, node: str) -> dict[str, Any]:
    """Who the apiserver takes us for, and what it says that we may."""
    found: dict[str, Any] = {"version": "", "user": None, "groups": [], "access": {}, "milliseconds": None}
    with Prober(way) as prober:
        status, answer, took = prober.ask("GET", "/version")
        found["milliseconds"] = took
        with contextlib.suppress(ValueError):
            found["version"] = answer.json().get("gitVersion", "") if status == 200 else ""
        kind = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        status, answer, _ = prober.ask("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", json=kind)
        if status == 201:
            info = answer.json().get("status", {}).get("userInfo", {})
            found.update(user=info.get("username"), groups=info.get("groups") or [])
        for verb, group, resource, sub in RIGHTS:
            attributes = {"verb": verb, "group": group, "resource": resource, "subresource": sub}
            attributes |= {"namespace": namespace, "name": pod} if resource == "pods" else {"name": node}
            review = {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": attributes},
            }
            path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
            status, answer, _ = prober.ask("POST", path, json=review)
            if status == 201:
                allowed = bool(answer.json().get("status", {}).get("allowed"))
                found["access"][f"{verb} {resource}{'/' + sub if sub else ''}"] = allowed
    return found
