"""Who may do what at the fake apiserver, and what reviews answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from fakekubelet import Access, FakeApiserver, FakeCluster, Rule, User
from support.apiservers import Api, pod_target
from support.rawclient import HttpClient, connect, upgrade_headers, websocket_headers

V4, V5 = "v4.channel.k8s.io", "v5.channel.k8s.io"
RULES = (
    Rule(("get",), ("pods/exec", "pods/attach", "pods/portforward"), users=("getter",)),
    Rule(("create",), ("pods/exec", "pods/attach", "pods/portforward"), users=("creator",)),
    Rule(
        ("get", "create"), ("pods/exec", "pods/attach", "pods/portforward"), groups=("both",), namespaces=("default",)
    ),
    Rule(("get", "list", "watch"), ("pods",), users=("reader",), namespaces=("default",)),
    Rule(("get",), ("nodes/proxy",), users=("node-reader",)),
    Rule(("impersonate",), ("users", "groups"), users=("actor",)),
)
USERS: dict[str, tuple[str, ...]] = {"getter": (), "creator": (), "member": ("both",), "nobody": ()}


@pytest.fixture(scope="module", params=["1.31", "1.35", "1.36"])
def cluster(request: pytest.FixtureRequest) -> Iterator[FakeCluster]:
    with FakeCluster(profile=request.param, rules=RULES, tokens={"t": User("reader", ("readers",))}) as cluster:
        yield cluster


@pytest.mark.parametrize("kind", ["exec", "attach", "portforward"])
@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("websocket", [True, False])
def test_the_verb_of_a_stream_is_its_method_until_1_35(
    cluster: FakeCluster, kind: str, user: str, websocket: bool
) -> None:
    """A WebSocket is a GET, so up to 1.34 who may ``get pods/exec`` may run commands."""
    api = Api(cluster, user, USERS[user])
    target = pod_target(kind, ["echo"] if kind == "exec" else [])
    if kind == "portforward":
        target = "/api/v1/namespaces/default/pods/demo/portforward?ports=80"
    if websocket:
        answer = api.request("GET", target, websocket_headers([V4]))
    else:
        protocols = ["portforward.k8s.io"] if kind == "portforward" else [V4]
        answer = api.request("POST", target, upgrade_headers(protocols))
    needs_create = cluster.apiserver.gates.websocket_needs_create
    may = {
        "getter": websocket and not needs_create,
        "creator": not websocket,
        "member": True,
        "nobody": False,
    }[user]
    assert answer.status == (101 if may else 403), answer
    if not may:
        verb = "create" if not websocket or (user == "getter" and needs_create) else "get"
        assert json.loads(answer.body)["message"] == (
            f'pods "demo" is forbidden: User "{user}" cannot {verb} resource "pods/{kind}" in API group "" '
            'in the namespace "default"'
        )


def test_reading_is_granted_by_namespace(cluster: FakeCluster) -> None:
    api = Api(cluster, "reader", ())
    assert api.get("/api/v1/namespaces/default/pods")["kind"] == "PodList"
    code, message = api.refusal("/api/v1/pods")
    assert (code, message) == (
        403,
        'pods is forbidden: User "reader" cannot list resource "pods" in API group "" at the cluster scope',
    )
    assert api.refusal("/metrics") == (403, 'forbidden: User "reader" cannot get path "/metrics"')
    assert api.get("/version")["major"] == "1"  # discovery is for everybody who is known


def test_the_kubelet_asks_the_same_rules(cluster: FakeCluster) -> None:
    """``get nodes/proxy`` is enough to run commands over WebSocket, straight at the node."""
    kubelet = cluster.kubelets["node-1"]
    target = "/exec/default/demo/main?command=echo&command=x&output=1"
    for user, method, headers, status in (
        ("node-reader", "GET", websocket_headers([V4]), 101),
        ("node-reader", "POST", upgrade_headers(), 403),
        ("nobody", "GET", websocket_headers([V4]), 403),
    ):
        identity = cluster.credentials(user, ())
        with HttpClient(connect(kubelet.url, kubelet.ca, identity)) as http:
            assert http.request(method, target, headers).status == status


def test_tokens_and_no_credential_at_all(cluster: FakeCluster) -> None:
    for headers, status in (([("Authorization", "Bearer t")], 200), ([], 401), ([("Authorization", "Bearer u")], 401)):
        with HttpClient(connect(cluster.url, cluster.ca)) as http:
            assert http.request("GET", "/api/v1/namespaces/default/pods", headers).status == status


def test_impersonation(cluster: FakeCluster) -> None:
    pods = "/api/v1/namespaces/default/pods"
    as_reader = [("Impersonate-User", "reader")]
    assert Api(cluster, "actor", ()).get(pods, as_reader)["kind"] == "PodList"
    code, message = Api(cluster, "nobody", ()).refusal(pods, headers=as_reader)
    assert (code, "cannot impersonate" in message) == (403, True)
    assert Api(cluster, "actor", ()).refusal(pods)[0] == 403


def test_anonymous_users_are_let_in_on_request_only() -> None:
    with FakeApiserver(anonymous=True) as server, HttpClient(connect(server.url, server.ca)) as http:
        answer = http.request("GET", "/api/v1/pods")
        assert (answer.status, "system:anonymous" in answer.body.decode()) == (403, True)


def test_a_function_may_judge() -> None:
    seen: list[Access] = []

    def judge(access: Access) -> bool:
        seen.append(access)
        return access.verb == "get"

    with FakeCluster(rules=judge) as cluster:
        api = Api(cluster, "alice", ("dev",))
        assert api.get("/api/v1/namespaces/default/pods/demo")["kind"] == "Pod"
        assert api.refusal("/api/v1/pods")[0] == 403
    assert seen[0].user == User("alice", ("dev", "system:authenticated"))
    assert (seen[0].resource, seen[0].namespace, seen[0].name) == ("pods", "default", "demo")


@pytest.mark.parametrize("options", [{"verbs": "get"}, {"verbs": ()}, {"resources": "pods"}, {"resources": ()}])
def test_rules_that_say_nothing_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="rule"):
        Rule(**{"verbs": ("get",), "resources": ("pods",), **options})


# -- reviews -----------------------------------------------------------------------------------------------------------


def ask(api: Api, group: str, plural: str, kind: str, spec: dict[str, Any], namespace: str = "") -> dict[str, Any]:
    within = f"/namespaces/{namespace}" if namespace else ""
    body = json.dumps({"kind": kind, "apiVersion": f"{group}/v1", "spec": spec}).encode()
    answer = api.request("POST", f"/apis/{group}/v1{within}/{plural}", [("Content-Type", "application/json")], body)
    assert answer.status == 201, answer
    document = json.loads(answer.body)
    assert (document["kind"], document["spec"]) == (kind, spec)
    status: dict[str, Any] = document["status"]
    return status


AUTHENTICATION, AUTHORIZATION = "authentication.k8s.io", "authorization.k8s.io"


def test_token_review(cluster: FakeCluster) -> None:
    api = Api(cluster)
    status = ask(api, AUTHENTICATION, "tokenreviews", "TokenReview", {"token": "t"})
    assert status == {"authenticated": True, "user": {"username": "reader", "groups": ["readers"]}}
    status = ask(api, AUTHENTICATION, "tokenreviews", "TokenReview", {"token": "x"})
    assert not status.get("authenticated")
    assert status["error"]


NODE = {"verb": "get", "resource": "nodes", "subresource": "proxy", "name": "node-1"}
EXEC = {"verb": "get", "resource": "pods", "subresource": "exec"}
KNOWN = {"user": "x", "groups": ["system:authenticated"]}


@pytest.mark.parametrize(
    ("spec", "allowed"),
    [
        ({"user": "node-reader", "resourceAttributes": NODE}, True),
        ({"user": "node-reader", "resourceAttributes": {**NODE, "verb": "create"}}, False),
        ({"user": "x", "groups": ["system:masters"], "resourceAttributes": {"verb": "x", "resource": "y"}}, True),
        ({"user": "x", "groups": ["both"], "resourceAttributes": {**EXEC, "namespace": "default"}}, True),
        ({"user": "x", "groups": ["both"], "resourceAttributes": EXEC}, False),
        ({**KNOWN, "nonResourceAttributes": {"verb": "get", "path": "/version"}}, True),
        ({**KNOWN, "nonResourceAttributes": {"verb": "get", "path": "/metrics"}}, False),
    ],
)
def test_subject_access_review(cluster: FakeCluster, spec: dict[str, Any], allowed: bool) -> None:
    status = ask(Api(cluster), AUTHORIZATION, "subjectaccessreviews", "SubjectAccessReview", spec)
    assert status["allowed"] is allowed


def test_who_am_i_and_what_may_i(cluster: FakeCluster) -> None:
    api = Api(cluster, "reader", ("readers",))
    status = ask(api, AUTHENTICATION, "selfsubjectreviews", "SelfSubjectReview", {})
    assert status["userInfo"] == {"username": "reader", "groups": ["readers", "system:authenticated"]}
    spec = {"resourceAttributes": {"verb": "list", "resource": "pods", "namespace": "default"}}
    status = ask(api, AUTHORIZATION, "selfsubjectaccessreviews", "SelfSubjectAccessReview", spec)
    assert status["allowed"] is True


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"kind":"Pod"}', b"[" * 100_000])
def test_reviews_that_are_none(cluster: FakeCluster, body: bytes) -> None:
    target = f"/apis/{AUTHORIZATION}/v1/subjectaccessreviews"
    assert Api(cluster).request("POST", target, body=body).status == 400


@pytest.mark.parametrize(
    "spec", [{}, {"user": "x"}, {"user": "x", "resourceAttributes": {}, "nonResourceAttributes": {}}]
)
def test_reviews_that_make_no_sense(cluster: FakeCluster, spec: dict[str, Any]) -> None:
    target = f"/apis/{AUTHORIZATION}/v1/subjectaccessreviews"
    answer = Api(cluster).request("POST", target, body=json.dumps({"spec": spec}).encode())
    assert answer.status == 422


@pytest.mark.parametrize(
    "body",
    [b"", b"k8s", b"k8s\0\xff", b"k8s\0\x0a\xff\xff\xff\xff\x0f", b"k8s\0\x0b", b"k8s\0" + b"\xff" * 20, b"{}"],
)
def test_protobuf_that_is_none(cluster: FakeCluster, body: bytes) -> None:
    target = f"/apis/{AUTHORIZATION}/v1/subjectaccessreviews"
    header = [("Content-Type", "application/vnd.kubernetes.protobuf")]
    answer = Api(cluster).request("POST", target, header, body)
    assert (answer.status, b"cannot be decoded" in answer.body) == (400, True)


def test_a_subject_access_review_as_protobuf(cluster: FakeCluster) -> None:
    def field(number: int, payload: bytes) -> bytes:
        return bytes((number << 3 | 2, len(payload))) + payload

    attributes = field(2, b"get") + field(5, b"nodes") + field(6, b"proxy") + field(7, b"node-1")
    spec = field(1, attributes) + field(3, b"node-reader") + field(4, b"a") + field(4, b"b") + b"\x38\x01"
    kind = field(1, b"authorization.k8s.io/v1") + field(2, b"SubjectAccessReview")
    body = b"k8s\0" + field(1, kind) + field(2, field(1, b"") + field(2, spec))
    header = [("Content-Type", "application/vnd.kubernetes.protobuf")]
    answer = Api(cluster).request("POST", f"/apis/{AUTHORIZATION}/v1/subjectaccessreviews", header, body)
    document = json.loads(answer.body)
    assert (answer.status, document["status"]["allowed"]) == (201, True)
    assert document["spec"]["groups"] == ["a", "b"]
