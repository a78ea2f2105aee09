"""What changed at the apiserver from one version of Kubernetes to the next, as ``fakekubelet.profiles`` has it.

``translate``: WebSocket v5 of exec and attach becomes SPDY here (``TranslateStreamCloseWebsocketRequests``).
``tunnel``: so does port-forward's SPDY inside a WebSocket (``PortForwardWebsockets``). ``websocket_needs_create``: see
``fakekubelet.apiserver.rbac``. ``extend``: WebSockets go through to a kubelet that says it takes them
(``ExtendWebSocketsToKubelet`` among its ``declaredFeatures``).
"""

from __future__ import annotations

from dataclasses import dataclass

from fakekubelet.profiles import Profile, profile

EXTEND_FEATURE = "ExtendWebSocketsToKubelet"


@dataclass(frozen=True, slots=True)
class Gates:
    """The behaviours of one version."""

    release: str
    translate: bool
    tunnel: bool
    websocket_needs_create: bool
    extend: bool


DEFAULT_PROFILE = "1.36"


def gates_of(name: str | Profile) -> Gates:
    """What a version does here (``fakekubelet.profiles``). Raises ValueError for one that is not in the table."""
    found = profile(name)
    return Gates(
        release=found.release,
        translate="TranslateStreamCloseWebsocketRequests" in found.gates,
        tunnel="PortForwardWebsockets" in found.gates,
        websocket_needs_create="AuthorizePodWebsocketUpgradeCreatePermission" in found.gates,
        extend=EXTEND_FEATURE in found.gates,
    )
