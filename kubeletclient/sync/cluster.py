"""The blocking client of a cluster."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Unpack

from kubeletclient._access import Access, Overrides
from kubeletclient._cluster import ClusterDoor, ClusterOptions, NodePolicy
from kubeletclient._door import PodRef
from kubeletclient._policy import Deadline
from kubeletclient._settings import Settings
from kubeletclient.credentials import Credentials
from kubeletclient.endpoints import parse_endpoint
from kubeletclient.known_nodes import KnownNodes
from kubeletclient.plugins import PluginPolicy
from kubeletclient.routes import ADDRESS_TYPES, Via, check_via
from kubeletclient.selection import is_kind, parse_name
from kubeletclient.sync.door import Client
from kubeletclient.sync.nodes import Node
from kubeletclient.sync.pods import Pod
from spdyproto.limits import Deadlines, Keepalive, Limits
from spdyproto.pem import PathOrPEM
from spdyproto.types import Tracer

__all__ = ["Cluster"]


class Cluster(Client):
    """A cluster: pods by name, each reached straight at its node's kubelet or through the apiserver.

    - ``access``: which apiserver, and who is asking; ``from_kubeconfig`` makes it from kubeconfig files or, in a pod,
      from its service account. Making the object connects to nothing.
    - ``via``: ``"auto"``: straight to the kubelet where it can be reached and verified and lets the caller in, else
      through the apiserver; ``"kubelet"``, ``"apiserver"``: that way and no other. Commands that go straight do not
      stand in the apiserver's audit log.
    - ``kubelet_credentials``: who is asking there, if not who asks the apiserver. Under ``"auto"`` a node is never
      shown the cluster's token or password: without a client certificate, and without these, the way is the
      apiserver's. ``via="kubelet"`` shows them, to a node that is verified.
    - ``kubelet_ca``: whom to trust there; None takes the authorities that the cluster publishes, and its own.
      ``known_nodes``: certificates that were pinned by hand, see ``kubeletclient.known_nodes``; None for none.
      ``kubelet_verify=False`` accepts any certificate, and sends no token then unless
      ``allow_unverified_token=True``.
    - ``address_types``: which of a node's addresses to try, best first. Loopback and link-local ones are refused
      unless ``allow_loopback_nodes=True``, for a node that says it is here is lying or a test; None asks ``access``.
    - ``namespace``: of pods that are named without one; None takes that of ``access``.
    - the rest: see ``Kubelet``.

    Where to go is decided once for each node and verb, and kept for ten minutes, or until something fails; the
    reason is in ``route_reason`` of processes, results and errors.
    """

    def __init__(
        self,
        access: Access,
        *,
        via: Via = "auto",
        namespace: str | None = None,
        kubelet_credentials: Credentials | None = None,
        kubelet_ca: PathOrPEM | None = None,
        kubelet_verify: bool = True,
        known_nodes: KnownNodes | None = None,
        address_types: Sequence[str] = ADDRESS_TYPES,
        allow_loopback_nodes: bool | None = None,
        allow_unverified_token: bool = False,
        deadlines: Deadlines | None = None,
        keepalive: Keepalive | None = Keepalive(),
        limits: Limits | None = None,
        transport: str = "auto",
        bearer_subprotocol: bool = False,
        user_agent: str | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self.endpoint = parse_endpoint(access.server)
        self.namespace = namespace or access.namespace
        self.via = check_via(via)
        settings = Settings.of(
            access.trust(allow_unverified_token=allow_unverified_token),
            transport=transport,
            method="POST",
            protocols=None,
            limits=limits,
            deadlines=deadlines,
            keepalive=keepalive,
            user_agent=user_agent,
            tracer=tracer,
            bearer_subprotocol=bearer_subprotocol,
        )
        policy = NodePolicy(
            credentials=kubelet_credentials,
            ca=kubelet_ca,
            verify=kubelet_verify,
            allow_unverified_token=allow_unverified_token,
            known_nodes=known_nodes,
            address_types=tuple(address_types),
            allow_local=access.allow_loopback_nodes if allow_loopback_nodes is None else allow_loopback_nodes,
        )
        self._cluster = ClusterDoor(self.endpoint, settings, self.via, policy)
        super().__init__(self._cluster)

    @classmethod
    def from_kubeconfig(
        cls,
        context: str | None = None,
        *,
        kubeconfig: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
        overrides: Overrides = Overrides(),
        plugins: PluginPolicy = PluginPolicy(),
        **options: Unpack[ClusterOptions],
    ) -> Cluster:
        """The cluster that kubeconfig files, or a pod's service account, lead to; ``options`` as for the class.

        - ``kubeconfig``: one file, or a list of them; None for ``KUBECONFIG``, else ``~/.kube/config``, else the
          service account of the pod that this runs in. ``context``: by name, else the current one.
        - ``overrides``, ``plugins``: see ``kubeletclient.kubeconfig``.

        Reads the files. Raises KubeconfigError for what they lack, before anything is connected to.
        """
        from kubeletclient.kubeconfig import load  # YAML is not needed by who has no kubeconfig

        return cls(load(kubeconfig, context=context, overrides=overrides, plugins=plugins), **options)

    def __repr__(self) -> str:
        return f"<Cluster {self.endpoint}>"

    def pod(self, name: str, namespace: str | None = None, *, uid: str | None = None, via: Via | None = None) -> Pod:
        """A pod, or of an object that has pods (``deploy/web``, ``sts/db``, ``job/once``, ``svc/web``...) the one that
        is best to talk to at the time of each call. Nothing is asked before a verb is used.

        ``via`` replaces that of the cluster. With ``uid`` a pod of the same name that has replaced it is refused.
        Raises ValueError for a name that is none, or for an unknown kind.
        """
        selected = parse_name(name)
        ref = PodRef(
            self.namespace if namespace is None else namespace,
            selected.name,
            uid,
            selected if selected.kind is not None else None,
            None if via is None else check_via(via),
        )
        return Pod(self, ref)

    def node(self, name: str, *, via: Via | None = None) -> Node:
        """A node, for plain requests to its kubelet's API. ``via`` replaces that of the cluster; the apiserver's way is
        its node proxy.
        """
        return Node(self, name, None if via is None else check_via(via))

    def pods(
        self, selector: str = "", namespace: str | None = None, *, via: Via | None = None, timeout: float | None = None
    ) -> list[Pod]:
        """The pods that there are now with these labels, as ``app=web,tier!=cache``, in the order of the apiserver; or
        those of an object: ``deploy/web``.
        """
        where = self.namespace if namespace is None else namespace
        if "=" not in selector and "/" in selector and is_kind(selector.partition("/")[0]):
            name = parse_name(selector)
            steps = self._cluster.pods_of(PodRef(where, name.name, selected=name))
        else:
            steps = self._cluster.list_pods(where, selector)
        found = self._follow(steps, Deadline.after(timeout))
        return [self.pod(facts.name, facts.namespace, uid=facts.uid, via=via) for facts in found]
