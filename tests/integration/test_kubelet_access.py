"""Who may do what at a kubelet: rules, webhooks that are really called, and what `get nodes/proxy` is good for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest

from fakekubelet import AccessRules, Attributes, FakeApiserver, FakeKubelet, Rule, User
from fakekubelet.auth import TokenCheck
from fakekubelet.messages import Answer, Request, Response
from fakekubelet.webhooks import SubjectAccessReview, TokenReview, WebhookServer
from support.apps import AppServer
from support.fakes import Caller
from support.rawclient import HttpClient, connect, exec_target, run, upgrade_headers, websocket_headers

EXEC = exec_target(["true"])
SPDY = upgrade_headers(["v4.channel.k8s.io"])
WEBSOCKET = websocket_headers(["v4.channel.k8s.io"])


def status(caller: Caller, method: str, target: str, headers: list[tuple[str, str]] | None = None) -> int:
    with caller.http() as http:
        return http.request(method, target, headers or []).status


def only(*resources: str, verbs: tuple[str, ...] = ("get",)) -> AccessRules:
    return AccessRules([Rule(verbs, resources, users=("reader",))])


def caller_of(kubelet: FakeKubelet, user: str = "reader") -> Caller:
    return Caller(kubelet, kubelet.credentials(user, ["people"]))


def test_get_nodes_proxy_is_enough_to_run_commands_over_websocket_and_not_over_spdy() -> None:
    with FakeKubelet(authorize=only("nodes/proxy")) as kubelet:
        caller = caller_of(kubelet)
        assert run(caller.connect(), ["echo", "got in"], websocket="v4.channel.k8s.io").stdout == b"got in\n"
        assert status(caller, "POST", EXEC, SPDY) == 403
        assert status(caller, "GET", EXEC, SPDY) == 101  # a kubelet takes SPDY by GET too
        assert status(caller, "POST", "/run/default/demo/main?cmd=true") == 403
        assert status(caller, "GET", "/containerLogs/default/demo/main") == 200


def test_the_alternative_asks_for_create() -> None:
    with FakeKubelet(authorize=only("nodes/proxy"), streams_need_create=True) as kubelet:
        caller = caller_of(kubelet)
        for target in (EXEC, exec_target(None), "/portForward/default/demo"):
            with caller.http() as http:
                answer = http.request("GET", target, WEBSOCKET)
                assert answer.status == 403
                assert b"verb=create" in answer.body
        assert status(caller, "GET", "/containerLogs/default/demo/main") == 200
        assert status(caller, "GET", "/pods") == 200


# (rule, method, path, the answer with fine-grained rights, without)
MATRIX = [
    ("nodes/pods", "GET", "/pods", 200, 403),
    ("nodes/pods", "GET", "/runningpods/", 200, 403),
    ("nodes/healthz", "GET", "/healthz", 200, 403),
    ("nodes/configz", "GET", "/configz", 200, 403),
    ("nodes/statusz", "GET", "/statusz", 200, 403),
    ("nodes/proxy", "GET", "/pods", 200, 200),
    ("nodes/proxy", "GET", "/healthz/ping", 200, 200),
    ("nodes/proxy", "GET", "/configz", 200, 200),
    ("nodes/proxy", "GET", "/flagz", 200, 200),
    ("nodes/proxy", "GET", "/stats/summary", 403, 403),
    ("nodes/stats", "GET", "/stats/summary", 200, 200),
    ("nodes/proxy", "GET", "/metrics/cadvisor", 403, 403),
    ("nodes/metrics", "GET", "/metrics/cadvisor", 200, 200),
    ("nodes/log", "GET", "/logs/", 200, 200),
    ("nodes/proxy", "GET", "/logs/", 403, 403),
    ("nodes/checkpoint", "GET", "/checkpoint/default/demo/main", 405, 405),
    ("nodes/proxy", "GET", "/debug/pprof/", 200, 200),
    ("*/stats", "GET", "/stats/summary", 200, 200),
    ("pods/exec", "GET", EXEC, 403, 403),
    ("*", "GET", "/metrics", 200, 200),
    ("nodes/proxy", "HEAD", "/healthz", 403, 403),  # no verb of Kubernetes
]


@pytest.fixture(scope="module")
def rules() -> dict[str, AccessRules]:
    return {"now": AccessRules([])}


@pytest.fixture(scope="module", params=[True, False])
def kubelet(request: pytest.FixtureRequest, rules: dict[str, AccessRules]) -> Iterator[tuple[FakeKubelet, bool]]:
    from dataclasses import replace

    from fakekubelet.profiles import PROFILES

    base = PROFILES["1.36"]
    gates = base.gates if request.param else base.gates - {"KubeletFineGrainedAuthz"}
    profile = replace(base, gates=gates)
    with FakeKubelet(profile=profile, authorize=lambda attributes: rules["now"](attributes)) as server:
        yield server, request.param


@pytest.mark.parametrize(("resource", "method", "path", "fine", "coarse"), MATRIX)
def test_subresources(
    kubelet: tuple[FakeKubelet, bool],
    rules: dict[str, AccessRules],
    resource: str,
    method: str,
    path: str,
    fine: int,
    coarse: int,
) -> None:
    server, fine_grained = kubelet
    rules["now"] = only(resource)
    assert status(caller_of(server), method, path) == (fine if fine_grained else coarse)


def test_rules_name_users_groups_and_nodes() -> None:
    ann, bob = User("ann", ("devs",)), User("bob")
    rule = Rule(("get",), ("nodes/proxy",), users=("bob",), groups=("devs",), names=("n1",))

    def asks(user: User, verb: str = "get", subresource: str = "proxy", node: str = "n1") -> bool:
        return AccessRules([rule])(Attributes(user, verb, subresource, "/x", node))

    assert asks(ann)
    assert asks(bob)
    assert not asks(User("eve"))
    assert not asks(ann, verb="create")
    assert not asks(ann, subresource="log")
    assert not asks(ann, node="n2")
    assert asks(User("root", ("system:masters",)), verb="delete", node="n2")
    everybody = AccessRules([Rule(("*",), ("*",), users=("*",))])
    assert everybody(Attributes(User("eve"), "", "stats", "/x", "n"))
    assert AccessRules([Rule(("*",), ("*",), groups=("*",))])(Attributes(User("eve", ("g",)), "", "stats", "/x", "n"))


@pytest.mark.parametrize("asynchronous", [True, False])
def test_an_authorizer_that_fails_is_500_with_the_words_of_a_kubelet(asynchronous: bool) -> None:
    def fails(attributes: Attributes) -> bool:
        raise RuntimeError("a secret of the server")

    async def fails_later(attributes: Attributes) -> bool:
        await asyncio.sleep(0)
        return fails(attributes)

    with FakeKubelet(authorize=fails_later if asynchronous else fails, profile="1.31") as kubelet:
        with caller_of(kubelet).http() as http:
            answer = http.request("GET", "/stats/summary")
        text = b"Authorization error (user=reader, verb=get, resource=nodes, subresource=stats)"
        assert (answer.status, answer.body) == (500, text)


def test_the_older_words_of_a_refusal() -> None:
    with FakeKubelet(authorize=AccessRules([]), profile="1.29") as kubelet, caller_of(kubelet).http() as http:
        answer = http.request("GET", "/pods")
        assert answer.status == 403
        assert answer.body == b"Forbidden (user=reader, verb=get, resource=nodes, subresource=proxy)"


@pytest.mark.parametrize("asynchronous", [True, False])
def test_tokens_are_judged_by_a_function(asynchronous: bool) -> None:
    def check(token: str) -> User | None:
        if token == "boom":
            raise RuntimeError("a fault of the check")
        return User("robot", ("robots",)) if token == "sesame" else None

    async def check_later(token: str) -> User | None:
        await asyncio.sleep(0)
        return check(token)

    asked: list[Attributes] = []

    def allow(attributes: Attributes) -> bool:
        asked.append(attributes)
        return True

    judge: TokenCheck = check_later if asynchronous else check
    fixed = {"static": User("fixed")}
    with (
        FakeKubelet(authorize=allow, anonymous=True, tokens=fixed, token_check=judge) as kubelet,
        HttpClient(connect(kubelet.url, kubelet.ca)) as http,
    ):
        for token, code in (("sesame", 200), ("static", 200), ("wrong", 401), ("boom", 401)):
            assert http.request("GET", "/pods", [("Authorization", f"Bearer {token}")]).status == code
        bearer = "base64url.bearer.authorization.k8s.io.c2VzYW1l"
        answer = http.request("GET", EXEC, websocket_headers(["v4.channel.k8s.io"], extra=[bearer]))
        assert answer.status == 101
        assert answer.values("Sec-WebSocket-Protocol") == ["v4.channel.k8s.io"]
    assert {each.user.name for each in asked} == {"robot", "fixed"}
    assert asked[0].user.groups == ("robots", "system:authenticated")


def test_webhooks_are_really_called() -> None:
    asked: list[tuple[str, dict[str, object]]] = []

    async def apiserver(request: Request) -> Answer:
        document = json.loads(request.body)
        asked.append((request.path.rpartition("/")[2], document["spec"]))
        if document["kind"] == "TokenReview":
            good = document["spec"]["token"] == "sesame"
            document["status"] = {"authenticated": good, "user": {"username": "robot", "groups": ["robots"]}}
        else:
            document["status"] = {"allowed": document["spec"]["resourceAttributes"]["subresource"] == "proxy"}
        return Response(201, json.dumps(document).encode())

    with AppServer(apiserver) as reviewer:
        server = WebhookServer(reviewer.url, ca=reviewer.ca)
        tokens, access = TokenReview(server), SubjectAccessReview(server)
        with (
            FakeKubelet(node_name="n1", token_check=tokens, authorize=access) as kubelet,
            HttpClient(connect(kubelet.url, kubelet.ca)) as http,
        ):
            token = [("Authorization", "Bearer sesame")]
            assert http.request("GET", "/pods", token).status == 200
            assert http.request("GET", "/pods", token).status == 200
            assert http.request("GET", "/stats/summary", token).status == 403
            assert http.request("GET", "/pods", [("Authorization", "Bearer wrong")]).status == 401
    assert [kind for kind, _ in asked] == [
        "tokenreviews",
        "subjectaccessreviews",  # nodes/pods, then nodes/proxy; the second request asks nothing
        "subjectaccessreviews",
        "subjectaccessreviews",
        "tokenreviews",
    ]
    assert asked[2][1]["groups"] == ["robots", "system:authenticated"]


def test_without_a_reviewer_it_is_401_for_tokens_and_500_for_access() -> None:
    with AppServer(lambda request: asyncio.sleep(0, Response(200))) as reviewer:
        gone = WebhookServer(reviewer.url, ca=reviewer.ca, backoff=())
    with FakeKubelet(token_check=TokenReview(gone), authorize=SubjectAccessReview(gone)) as kubelet:
        with HttpClient(connect(kubelet.url, kubelet.ca)) as http:
            assert http.request("GET", "/pods", [("Authorization", "Bearer x")]).status == 401
        with Caller(kubelet).http() as http:
            answer = http.request("GET", "/pods")
            assert answer.status == 500
            assert answer.body == b"Authorization error (user=tester, verb=get, resource=nodes, subresource=pods)"


def test_the_fake_apiserver_reviews_for_a_kubelet() -> None:
    rules = [Rule(("get",), ("nodes/proxy",), users=("robot",))]
    with FakeApiserver(tokens={"sesame": User("robot", ("robots",))}, rules=rules) as apiserver:
        node = apiserver.authority.issue_client("system:node:n1", ["system:masters"])
        server = WebhookServer(apiserver.url, ca=apiserver.ca, certificate=node.cert_pem, key=node.key_pem)
        tokens, access = TokenReview(server), SubjectAccessReview(server)
        with (
            FakeKubelet(node_name="n1", token_check=tokens, authorize=access) as kubelet,
            HttpClient(connect(kubelet.url, kubelet.ca)) as http,
        ):
            token = [("Authorization", "Bearer sesame")]
            assert http.request("GET", "/pods", token).status == 200
            answer = http.request("POST", "/run/default/demo/main?cmd=true", token)
            assert (answer.status, b"user=robot, verb=create" in answer.body) == (403, True)
            assert http.request("GET", "/pods", [("Authorization", "Bearer wrong")]).status == 401
