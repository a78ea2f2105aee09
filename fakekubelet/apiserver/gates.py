"""What the apiserver of a version does with WebSockets, out of the table of ``fakekubelet.profiles``."""

from __future__ import annotations

from dataclasses import dataclass

from fakekubelet.profiles import Profile, profile

EXTEND_FEATURE = "ExtendWebSocketsToKubelet"
"""What a node that takes WebSockets itself has among its ``status.declaredFeatures``."""

DEFAULT_PROFILE = "1.36"
"""The newest version: what kubectl of today meets in a cluster that is kept up."""


@dataclass(frozen=True, slots=True)
class Gates:
    """The behaviours of one version."""

    release: str
    translate: bool
    """WebSocket v5 of exec and attach becomes SPDY here."""
    tunnel: bool
    """Port-forward's SPDY inside a WebSocket ends here."""
    websocket_needs_create: bool
    """A WebSocket, which is a GET, needs the verb ``create`` as well: see ``fakekubelet.apiserver.rbac``."""
    extend: bool
    """WebSockets go through to a kubelet that says it takes them."""


def gates_of(version: str | Profile) -> Gates:
    """Those of a version. Raises ValueError for one that is not in the table."""
    known = profile(version)
    names = (
        "TranslateStreamCloseWebsocketRequests",
        "PortForwardWebsockets",
        "AuthorizePodWebsocketUpgradeCreatePermission",
        EXTEND_FEATURE,
    )
    return Gates(known.release, *(name in known.gates for name in names))
