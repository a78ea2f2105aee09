"""What changed at the apiserver from one version of Kubernetes to the next, in one table.

``translate``: WebSocket v5 of exec and attach becomes SPDY here (``TranslateStreamCloseWebsocketRequests``).
``tunnel``: so does port-forward's SPDY inside a WebSocket (``PortForwardWebsockets``). ``websocket_needs_create``: see
``fakekubelet.apiserver.rbac``. ``extend``: WebSockets go through to a kubelet that says it takes them
(``ExtendWebSocketsToKubelet`` among its ``declaredFeatures``).
"""

from __future__ import annotations

from dataclasses import dataclass

EXTEND_FEATURE = "ExtendWebSocketsToKubelet"


@dataclass(frozen=True, slots=True)
class Gates:
    """The behaviours of one version."""

    release: str
    translate: bool
    tunnel: bool
    websocket_needs_create: bool
    extend: bool


PROFILES = {
    #                release   translate tunnel  needs_create extend
    "1.29": Gates("1.29.15", False, False, False, False),
    "1.31": Gates("1.31.14", True, True, False, False),
    "1.35": Gates("1.35.6", True, True, True, False),
    "1.36": Gates("1.36.6", True, True, True, True),
}
DEFAULT_PROFILE = "1.36"


def gates_of(profile: str) -> Gates:
    """The row of a version. Raises ValueError for one that is not in the table."""
    try:
        return PROFILES[profile]
    except KeyError:
        raise ValueError(f"profile: expected one of {', '.join(PROFILES)}, not {profile!r}") from None
