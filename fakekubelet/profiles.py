"""What a kubelet of a given Kubernetes version speaks, serves and says: one table, ``_TABLE``.

A ``+`` says that a version has the thing as it comes, a ``-`` that it has not. Gates are listed for the kubelet and for
the apiserver in front of it, which reads the same table. ``strict`` is no version: it is the protocols as they are
written, for those who test a client against them: SPDY/3.1 to the letter, and WebSocket messages put together from
their fragments.

Sources: ``kubernetes: pkg/features/kube_features.go``, ``pkg/kubelet/server/{server,auth}.go``;
``cri-streaming: pkg/streaming/remotecommand/{constants,websocket,exec}.go``; KEP-4006, KEP-2862, KEP-2008, KEP-4827,
KEP-4828.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from spdyproto.channels.subprotocols import Subprotocol

_RELEASES: Final = {"1.29": "1.29.15", "1.31": "1.31.14", "1.35": "1.35.6", "1.36": "1.36.6", "strict": "1.36.6"}
"""What servers of a version call themselves."""

_TABLE: Final = """
                                                        1.29  1.31  1.35  1.36  strict

exec over SPDY/3.1, in the server's order
    spdy        v4.channel.k8s.io                         +     +     +     +     +
    spdy        v3.channel.k8s.io                         +     +     +     +     +
    spdy        v2.channel.k8s.io                         +     +     +     +     +
    spdy        channel.k8s.io                            +     +     +     +     +
exec over WebSocket; the first is a client that names no subprotocol
    websocket   (none)                                    +     +     +     +     -
    websocket   channel.k8s.io                            +     +     +     +     +
    websocket   base64.channel.k8s.io                     +     +     +     +     +
    websocket   v4.channel.k8s.io                         +     +     +     +     +
    websocket   v4.base64.channel.k8s.io                  +     +     +     +     +
    websocket   v5.channel.k8s.io                         -     -     -     +     +
port-forward over WebSocket; over SPDY/3.1 it is portforward.k8s.io in every version
    forward     (none)                                    +     +     +     +     -
    forward     v4.channel.k8s.io                         +     +     +     +     +
    forward     v4.base64.channel.k8s.io                  +     +     +     +     +
    forward     SPDY/3.1+portforward.k8s.io               -     -     -     +     +
gates of the kubelet that are on as it comes
    gate        KubeletFineGrainedAuthz                   -     -     +     +     +
    gate        ExtendWebSocketsToKubelet                 -     -     -     +     +
    gate        NodeLogQuery                              -     -     -     -     -
    gate        PodLogsQuerySplitStreams                  -     -     -     -     -
gates of the apiserver
    gate        TranslateStreamCloseWebsocketRequests     -     +     +     +     +
    gate        PortForwardWebsockets                     -     +     +     +     +
    gate        AuthorizePodWebsocketUpgradeCreatePermission
                                                          -     -     +     +     +
endpoints that not every version has
    endpoint    checkpoint                                -     +     +     +     +
    endpoint    statusz                                   -     -     -     +     +
    endpoint    flagz                                     -     -     -     +     +
words
    text        403 names subresource(s)=[a b]            -     -     +     +     +
    text        status with empty metadata                +     +     +     -     -
rules
    rule        to the letter                             -     -     -     -     +
"""


@dataclass(frozen=True, slots=True)
class Profile:
    """One column of the table."""

    name: str
    release: str
    """A release of that version, as nodes and ``/version`` report it."""

    spdy: tuple[Subprotocol, ...]
    """What exec and attach negotiate over SPDY."""

    websocket: tuple[str, ...]
    """The same over WebSocket; "" is a client that names none."""

    forward_websocket: tuple[str, ...]
    """The same for port-forward over WebSocket."""

    gates: frozenset[str]
    """Feature gates that are on, of the kubelet and of the apiserver."""

    endpoints: frozenset[str]
    """First parts of the paths that exist among those that not every version has."""

    lists_subresources: bool
    """Whether a refusal says ``subresource(s)=[pods proxy]`` and ends its line, or ``subresource=proxy``."""

    metadata: bool
    """Whether a status says ``"metadata":{}``: servers before cri-streaming 0.36 marshal the whole ``metav1.Status``.
    What a kubelet translates itself (v5) has it in every version."""

    strict: bool
    """SPDY/3.1 to the letter rather than as ``moby/spdystream`` does it, and WebSocket messages made whole."""

    @property
    def tunnels(self) -> bool:
        """Whether port-forward takes SPDY inside a WebSocket."""
        return "SPDY/3.1+portforward.k8s.io" in self.forward_websocket

    @property
    def fine_grained(self) -> bool:
        """Whether ``nodes/pods``, ``nodes/healthz``, ``nodes/configz`` and ``nodes/statusz`` are asked for before
        ``nodes/proxy``."""
        return "KubeletFineGrainedAuthz" in self.gates

    def serves(self, endpoint: str) -> bool:
        """Whether the first part of a path exists, as far as that depends on the version."""
        return endpoint in self.endpoints or endpoint not in _OPTIONAL


def profile(name: str | Profile) -> Profile:
    """The profile of that name: ``"1.36"``, and ``"v1.36"`` and ``"1.36.2"`` as well. Raises ValueError for another."""
    if isinstance(name, Profile):
        return name
    parts = name.removeprefix("v").split(".")
    found = PROFILES.get(name) or PROFILES.get(".".join(parts[:2]))
    if found is None:
        raise ValueError(f"profile: expected one of {', '.join(PROFILES)}, not {name!r}")
    return found


def _read(table: str) -> dict[str, Profile]:
    names: list[str] = []
    columns: list[dict[str, list[str]]] = []
    waiting = ""
    for line in table.splitlines():
        words = (waiting + line).split()
        if not names and words:
            names, columns = words, [{} for _ in words]
        elif not line.startswith("    "):
            continue  # a heading
        elif set(words[-len(names) :]) <= {"+", "-"}:
            kind, what = words[0], " ".join(words[1 : -len(names)])
            for column, mark in zip(columns, words[-len(names) :], strict=True):
                if mark == "+":
                    column.setdefault(kind, []).append("" if what == "(none)" else what)
            waiting = ""
        else:
            waiting = line  # its marks stand on the next
    return {name: _profile(name, column) for name, column in zip(names, columns, strict=True)}


def _profile(name: str, rows: Mapping[str, list[str]]) -> Profile:
    return Profile(
        name=name,
        release=_RELEASES[name],
        spdy=tuple(Subprotocol(protocol) for protocol in rows["spdy"]),
        websocket=tuple(rows["websocket"]),
        forward_websocket=tuple(rows["forward"]),
        gates=frozenset(rows.get("gate", ())),
        endpoints=frozenset(rows.get("endpoint", ())),
        lists_subresources="403 names subresource(s)=[a b]" in rows.get("text", ()),
        metadata="status with empty metadata" in rows.get("text", ()),
        strict="to the letter" in rows.get("rule", ()),
    )


PROFILES: Final[Mapping[str, Profile]] = _read(_TABLE)
"""Every profile by its name, oldest first."""

_OPTIONAL: Final = frozenset().union(*(each.endpoints for each in PROFILES.values()))

DEFAULT: Final = PROFILES["1.35"]
"""A kubelet as most clusters run it: WebSocket without v5, which clients must be able to live with."""
