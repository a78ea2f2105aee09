"""The door of a cluster, driven by hand: what is asked, in which order, and which way is taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from kubeletclient import BearerToken, ClientCertificate, KnownNodes, errors
from kubeletclient._access import Access
from kubeletclient._cluster import ClusterDoor, NodePolicy
from kubeletclient._door import Ask, Fetch, Load, Open, PodRef, attach_ask, exec_ask
from kubeletclient._settings import Settings
from kubeletclient.credentials import Credentials, Impersonation
from kubeletclient.endpoints import parse_endpoint
from kubeletclient.routes import Via
from kubeletclient.selection import parse_name
from spdyproto.channels.events import StreamSet

POD = "/api/v1/namespaces/ns/pods/web"
NODE = "/api/v1/nodes/n1"
ROOT = "/api/v1/namespaces/ns/configmaps/kube-root-ca.crt"
CA = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"
CERTIFICATE = ClientCertificate(b"cert", b"key")
TOKEN = BearerToken("t0ken")
WORDS = ("ls", "/")


def pod(name: str = "web", *, node: str | None = "n1", phase: str = "Running", **more: Any) -> dict[str, Any]:
    spec: dict[str, Any] = {"containers": [{"name": "app"}, {"name": "side"}]}
    if node is not None:
        spec["nodeName"] = node
    metadata = {"namespace": "ns", "name": name, "uid": f"u-{name}", **more}
    return {"metadata": metadata, "spec": spec, "status": {"phase": phase, "hostIP": "10.0.0.1"}}


def node(*addresses: tuple[str, str], ready: str = "True") -> dict[str, Any]:
    listed = [{"type": kind, "address": address} for kind, address in addresses or (("InternalIP", "10.0.0.1"),)]
    conditions = [{"type": "Ready", "status": ready, "message": "it is asleep"}]
    return {"metadata": {"name": "n1"}, "status": {"addresses": listed, "conditions": conditions}}


def refused(kind: type[errors.ClientError], status: int | None = None) -> errors.ClientError:
    return kind("no", route="apiserver", http_status=status)


@dataclass
class World:
    """What the apiserver answers, by path, and what opening a session at each host comes to."""

    documents: dict[str, Any]
    sessions: dict[str, errors.ClientError | None] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)

    def run(self, door: ClusterDoor, ref: PodRef, container: str | None = None, ask: Ask | None = None) -> Open:
        steps = door.reach(ref, container, ask or exec_ask(WORDS, StreamSet()))
        try:
            command = next(steps)
            while True:
                answer = self.answer(command)
                command = steps.throw(answer) if isinstance(answer, errors.ClientError) else steps.send(answer)
        except StopIteration as done:
            opened: Open = done.value
            return opened

    def answer(self, command: Any) -> Any:
        if isinstance(command, Load):
            return command.function()
        if isinstance(command, Fetch):
            self.asked.append(command.path)
            return self.documents.get(command.path, errors.NotFound("no", route="apiserver", http_status=404))
        assert isinstance(command, Open)
        self.opened.append(command.way.endpoint.host)
        return self.sessions.get(command.way.endpoint.host) or command


def usual(**sessions: errors.ClientError | None) -> World:
    hosts = {host.replace("_", "."): outcome for host, outcome in sessions.items()}
    return World({POD: pod(), NODE: node(), ROOT: {"data": {"ca.crt": CA}}}, hosts)


def door(
    credentials: Credentials | None = CERTIFICATE, via: Via = "auto", impersonate: str = "", **policy: Any
) -> ClusterDoor:
    access = Access(
        "https://api:6443/k", credentials=credentials, impersonate=Impersonation(impersonate) if impersonate else None
    )
    settings = Settings.of(
        access.trust(),
        transport="auto",
        method="POST",
        protocols=None,
        limits=None,
        deadlines=None,
        keepalive=None,
        user_agent=None,
        tracer=None,
        bearer_subprotocol=False,
    )
    return ClusterDoor(parse_endpoint(access.server), settings, via, NodePolicy(**policy))


REF = PodRef("ns", "web")


def test_straight_to_the_kubelet() -> None:
    world = usual()
    done = world.run(door(), REF)
    assert world.asked == [POD, NODE, ROOT, "/api/v1/namespaces/openshift-config-managed/configmaps/kubelet-serving-ca"]
    assert (done.target.route, done.target.reason) == ("kubelet", "node n1 answers at 10.0.0.1:10250")
    assert done.target.path == "/exec/ns/web/app?command=ls&command=%2F&output=1&error=1"
    trust = done.way.settings.trust
    assert (trust.ca, trust.credentials) == (CA.encode(), CERTIFICATE)


def test_through_the_apiserver_nothing_is_asked_if_the_container_is_named() -> None:
    world = usual()
    done = world.run(door(via="apiserver"), REF, "side")
    assert world.asked == []
    assert done.target.path == (
        "/k/api/v1/namespaces/ns/pods/web/exec?container=side&command=ls&command=%2F&stdout=true&stderr=true"
    )
    assert (done.target.route, done.target.reason) == ("apiserver", "")


def test_through_the_apiserver_the_container_is_chosen_here() -> None:
    world = usual()
    world.documents[POD] = pod(annotations={"kubectl.kubernetes.io/default-container": "side"})
    done = world.run(door(via="apiserver"), REF, ask=attach_ask(StreamSet(stdin=True)))
    assert done.target.path.endswith("/web/attach?container=side&stdin=true&stdout=true&stderr=true")
    with pytest.raises(errors.NotFound, match="no container 'x'; choose from app, side"):
        world.run(door(), REF, "x")


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (refused(errors.DialTimeout), "the node cannot be reached: no"),
        (refused(errors.Unauthorized, 401), "the kubelet refused these credentials (HTTP 401)"),
        (refused(errors.Forbidden, 403), "the kubelet refused this identity (HTTP 403)"),
        (refused(errors.UpgradeRefused, 405), "does not serve this"),
    ],
)
def test_auto_passes_the_kubelet_by_and_says_why(failure: errors.ClientError, reason: str) -> None:
    world = usual(**{"10_0_0_1": failure})
    way = door()
    done = world.run(way, REF)
    assert world.opened == ["10.0.0.1", "api"]
    assert done.target.route == "apiserver"
    assert reason in done.target.reason
    again = world.run(way, REF)  # decided for a time, and told
    assert world.opened == ["10.0.0.1", "api", "api"]
    assert "decided before" in again.target.reason
    world.run(way, REF, ask=attach_ask(StreamSet()))  # another verb may be let in
    assert world.opened[3:] == ["10.0.0.1", "api"]


@pytest.mark.parametrize(
    "failure",
    [
        refused(errors.UnknownAuthorityError),
        refused(errors.CertificateNameError),
        refused(errors.PinnedCertificateChanged),
        refused(errors.NotFound, 404),
        refused(errors.UpgradeTimeout),
    ],
)
@pytest.mark.parametrize("via", ["auto", "kubelet"])
def test_what_is_final(failure: errors.ClientError, via: Via) -> None:
    world = usual(**{"10_0_0_1": failure})
    with pytest.raises(type(failure)):
        world.run(door(via=via), REF)
    assert world.opened == ["10.0.0.1"]


@pytest.mark.parametrize("kind", [errors.DialTimeout, errors.Unauthorized, errors.Forbidden])
def test_via_kubelet_uses_no_other_way(kind: type[errors.ClientError]) -> None:
    world = usual(**{"10_0_0_1": refused(kind)})
    with pytest.raises(kind):
        world.run(door(via="kubelet"), REF)
    assert world.opened == ["10.0.0.1"]


def test_the_next_address_is_tried_when_nothing_answers_at_one() -> None:
    world = usual(**{"10_0_0_1": refused(errors.DialTimeout)})
    world.documents[NODE] = node(("ExternalIP", "203.0.113.5"), ("InternalIP", "10.0.0.1"))
    way = door()
    assert world.run(way, REF).target.reason == "node n1 answers at 203.0.113.5:10250"
    assert world.opened == ["10.0.0.1", "203.0.113.5"]
    world.run(way, REF)  # and remembered
    assert world.opened[2:] == ["203.0.113.5"]
    prefer = door(address_types=("ExternalIP",))
    world.run(prefer, REF)
    assert world.opened[3:] == ["203.0.113.5"]


def test_a_decision_is_forgotten_when_it_fails() -> None:
    world = usual()
    way = door()
    world.run(way, REF)
    world.sessions["10.0.0.1"] = refused(errors.NotFound, 404)
    asked = len(world.asked)
    with pytest.raises(errors.NotFound):
        world.run(way, REF)
    world.sessions.clear()
    world.run(way, REF)
    assert world.asked[asked:] == [POD, POD, NODE]  # the node is looked at anew; who signs for it is still known
    world.sessions = {"10.0.0.1": refused(errors.DialTimeout), "api": refused(errors.Forbidden, 403)}
    with pytest.raises(errors.Forbidden, match=r"through the apiserver, because the node cannot be reached"):
        world.run(way, REF)
    world.sessions.clear()
    assert world.run(way, REF).target.route == "kubelet"


@pytest.mark.parametrize(
    ("credentials", "reason"),
    [(TOKEN, "the cluster's token is not shown to nodes"), (None, "no client certificate to show")],
)
def test_a_token_never_goes_to_a_node_by_itself(credentials: Credentials | None, reason: str) -> None:
    world = usual()
    done = world.run(door(credentials), REF)
    assert world.opened == ["api"]
    assert reason in done.target.reason
    assert NODE not in world.asked


def test_a_token_goes_to_a_node_when_that_is_said_by_name() -> None:
    world = usual()
    assert world.run(door(TOKEN, via="kubelet"), REF).way.settings.trust.credentials is TOKEN
    given = BearerToken("for-kubelets")
    cluster = door(TOKEN)
    own = ClusterDoor(cluster.way.endpoint, cluster.way.settings, "auto", NodePolicy(credentials=given))
    done = world.run(own, REF)
    assert (done.target.route, done.way.settings.trust.credentials) == ("kubelet", given)


def test_impersonation_is_the_apiservers() -> None:
    world = usual()
    assert "impersonation" in world.run(door(impersonate="jane"), REF).target.reason
    with pytest.raises(errors.CredentialsError, match="knows nothing of impersonation"):
        world.run(door(impersonate="jane", via="kubelet"), REF)
    assert world.opened == ["api"]


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "::1"])
def test_a_node_that_says_it_is_here_is_not_gone_to(address: str) -> None:
    world = usual()
    world.documents[NODE] = node(("InternalIP", address))
    assert "no address to go to" in world.run(door(), REF).target.reason
    with pytest.raises(errors.ConnectError, match=r"no address to go to.*allow_loopback_nodes=True"):
        world.run(door(via="kubelet"), REF)
    assert world.run(door(via="kubelet", allow_local=True), REF).way.endpoint.host == address


def test_without_an_authority_nothing_is_tried() -> None:
    world = usual()
    del world.documents[ROOT]
    assert "not known who signs" in world.run(door(), REF).target.reason
    with pytest.raises(errors.CredentialsError, match=r"not known who signs.*pin the node with kubewire trust"):
        world.run(door(via="kubelet"), REF)
    assert world.opened == ["api"]
    assert world.run(door(ca=b"mine"), REF).way.settings.trust.ca == b"mine"


def test_a_pinned_certificate_is_the_only_one(tmp_path: Any) -> None:
    known = KnownNodes(tmp_path / "known")
    pin = known.add("10.0.0.1", 10250, b"certificate")
    world = usual()
    way = door(known_nodes=known)
    trust = world.run(way, REF).way.settings.trust
    assert (trust.pinned, trust.ca) == (pin.pem, None)
    assert ROOT not in world.asked
    known.add("10.0.0.1", 10250, b"another")  # pinned anew while the client lives
    assert world.run(way, REF).way.settings.trust.pinned != pin.pem
    assert world.run(door(known_nodes=known, ca=b"mine"), REF).way.settings.trust.pinned is None


def test_nodes_that_may_not_be_read_are_where_the_pod_says() -> None:
    world = usual()
    world.documents[NODE] = refused(errors.Forbidden, 403)
    assert world.run(door(), REF).target.reason == "node n1 answers at 10.0.0.1:10250"


def test_a_pod_that_may_not_be_read() -> None:
    world = usual()
    world.documents[POD] = refused(errors.Forbidden, 403)
    assert "may not read the pod" in world.run(door(), REF, "app").target.reason
    for way, container in ((door(), None), (door(via="kubelet"), "app"), (door(via="apiserver"), None)):
        with pytest.raises(errors.Forbidden):
            world.run(way, REF, container)


def test_a_node_that_is_not_ready_is_told() -> None:
    world = usual(**{"10_0_0_1": refused(errors.DialTimeout)})
    world.documents[NODE] = node(ready="Unknown")
    assert "node n1 is not ready: it is asleep" in world.run(door(), REF).target.reason


@pytest.mark.parametrize(
    ("document", "message"), [(pod(node=None), "on no node yet"), (pod(phase="Succeeded"), "has ended")]
)
def test_pods_that_nothing_runs_in(document: Mapping[str, Any], message: str) -> None:
    world = usual()
    world.documents[POD] = document
    with pytest.raises(errors.PodUnavailable, match=message):
        world.run(door(), REF)
    logs = Ask("logs", lambda way, pod, container: way.attach_target(pod, container, StreamSet()), while_running=False)
    if message == "has ended":
        assert world.run(door(), REF, ask=logs).target.route == "kubelet"


def test_another_pod_of_the_same_name() -> None:
    with pytest.raises(errors.NotFound, match="has another uid"):
        usual().run(door(), PodRef("ns", "web", "old"))


DEPLOYMENT = "/apis/apps/v1/namespaces/ns/deployments/web"
LIST = "/api/v1/namespaces/ns/pods?labelSelector=app%3Dweb"


@pytest.mark.parametrize("via", ["auto", "kubelet", "apiserver"])
def test_the_best_pod_of_an_object(via: Via) -> None:
    world = usual()
    world.documents[DEPLOYMENT] = {"spec": {"selector": {"matchLabels": {"app": "web"}}}}
    pods = [pod("web-1", phase="Failed"), pod("web-2", node=None, phase="Pending"), pod("web-3"), pod("web-4")]
    world.documents[LIST] = {"items": pods}
    ref = PodRef("ns", "web", selected=parse_name("deploy/web"))
    done = world.run(door(via=via), ref)
    assert "/web-3/" in done.target.path
    assert ref.name == "web"
    world.documents[LIST] = {"items": []}
    with pytest.raises(errors.NotFound, match="deployment/web in namespace ns has no pods"):
        world.run(door(via=via), ref)


def test_what_is_known_of_a_node_holds_for_all_its_pods() -> None:
    world = usual(**{"10_0_0_1": refused(errors.DialTimeout)})
    way = door()
    for name in ("a", "b"):
        world.documents[f"/api/v1/namespaces/ns/pods/{name}"] = pod(name)
        world.run(way, PodRef("ns", name))
    assert world.opened == ["10.0.0.1", "api", "api"]
