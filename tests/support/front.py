"""A pod behind an apiserver, for both flavours of the client, without anything of a cluster but its paths."""

from __future__ import annotations

from typing import Any

from kubeletclient import Access
from support.flavours import Flavour, Node

__all__ = ["through_apiserver"]


def through_apiserver(
    flavour: Flavour, url: str, *, ca: bytes | None = None, credentials: Any = None, **options: Any
) -> Node:
    """A `Node` whose commands go through the apiserver at `url`, which may serve no more than they need."""
    access = Access(url, ca=ca, credentials=credentials)
    return Node(flavour, flavour.client.Cluster(access, via="apiserver", **options))
