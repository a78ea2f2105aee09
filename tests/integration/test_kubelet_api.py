"""Each endpoint of the kubelet's API beyond exec and attach: status, body, and what it depends on."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from fakekubelet import CertificateAuthority, Container, FakeKubelet, Pod
from fakekubelet.callables import AsyncExec
from fakekubelet.node import Machine, Serving
from fakekubelet.profiles import PROFILES
from support.fakes import Caller
from support.rawclient import Answer, HttpClient, connect, exec_target, upgrade_headers, websocket_headers

SPDY = upgrade_headers(["v4.channel.k8s.io"])
FORWARD = upgrade_headers(["portforward.k8s.io"])
FORM = [("Content-Type", "application/x-www-form-urlencoded")]

PULL = ("ErrImagePull", "no such image")
CRI_LOG = (
    "2024-05-01T10:00:00.000000001Z stdout F one\n"
    "2024-05-01T10:00:01.5+02:00 stderr F two\n"
    "2024-05-01T10:00:02Z stdout P thr\n"
    "2024-05-01T10:00:03Z stdout P:x e\n"
    "2024-05-01T10:00:04Z stdout F e\n"
    "this line is broken\n"
    "2024-05-01T10:00:05Z stdout F four\n"
)


def pods() -> list[Pod]:
    return [
        Pod("default/demo", [Container("main", log=CRI_LOG, cpu=0.25, memory=1 << 20), Container("side")]),
        Pod("default/over", [Container("main", main=["exit", "3"], log="2024-05-01T10:00:00Z stdout F bye\n")]),
        Pod(
            "default/pulling", [Container("main", waiting="ImagePullBackOff"), Container("err", waiting="ErrImagePull")]
        ),
        Pod("default/creating", [Container("main", waiting=("ContainerCreating", "soon"))]),
        Pod("default/crashed", [Container("main", log=CRI_LOG, previous_log="2024-05-01T09:00:00Z stdout F before\n")]),
    ]


@pytest.fixture(scope="module")
def kubelet() -> Iterator[FakeKubelet]:
    journal = {"kubelet": "2024-05-01T10:00:00.25Z stdout F started\n2024-05-01T10:00:01Z stdout F synced\n"}
    logs: dict[str, str | bytes] = {"/kubelet.log": "a log\n", "/pods/x/0.log": b"\x00\x01", "/empty/": ""}
    logs["/archive.gz"] = b"\x1f\x8b\x08"
    with FakeKubelet(
        pods(),
        node_name="n1",
        profile="1.36",
        serving=Serving(log_query=True),
        machine=Machine(logs=logs, journal=journal),
    ) as server:
        wait_over(server, "default/over")
        yield server


def wait_over(server: FakeKubelet, pod: str) -> None:
    server.main_process(pod).wait(30)


@pytest.fixture(scope="module")
def caller(kubelet: FakeKubelet) -> Caller:
    return Caller(kubelet)


def ask(caller: Caller, method: str, target: str, headers: Any = (), body: bytes = b"") -> Answer:
    with caller.http() as http:
        return http.request(method, target, headers, body)


# (method, target, headers, status, body)
TABLE: list[tuple[str, str, list[tuple[str, str]], int, bytes]] = [
    ("GET", "/metrics/nope", [], 404, b"404 page not found\n"),
    ("GET", "/stats", [], 301, b'<a href="/stats/">Moved Permanently</a>.\n\n'),
    ("GET", "/stats/", [], 404, b"404: Page Not Found"),
    ("GET", "/stats/container", [], 404, b"404: Page Not Found"),
    ("PUT", "/stats/summary", [], 405, b"405: Method Not Allowed"),
    ("GET", "/stats/summary?only_cpu_and_memory=x", [], 500, b'strconv.ParseBool: parsing "x": invalid syntax'),
    ("GET", "/runningpods", [], 301, b'<a href="/runningpods/">Moved Permanently</a>.\n\n'),
    ("GET", "/runningpods/x", [], 404, b"404: Page Not Found"),
    ("POST", "/runningpods/", [], 405, b"405: Method Not Allowed"),
    ("GET", "/runningpods/", [("Accept", "text/html")], 406,
     b"406: Not Acceptable\n\nAvailable representations: application/json"),
    ("GET", "/spec/", [], 404, b"404 page not found\n"),
    ("GET", "/cri/exec/x", [], 404, b"404 page not found\n"),
    # run
    ("GET", "/run/default/demo/main?cmd=true", [], 405, b"405: Method Not Allowed"),
    ("POST", "/run/default/demo", [], 404, b"404: Page Not Found"),
    ("POST", "/run/default/nope/main?cmd=true", [], 404, b"pod does not exist"),
    ("POST", "/run/default/demo/nope?cmd=true", [], 500, b'container not found ("nope")'),
    ("POST", "/run/default/pulling/main?cmd=true", [], 500, b'container not found ("main")'),
    ("POST", "/run/default/over/main?cmd=true", [], 500,
     b"rpc error: code = Unknown desc = failed to exec in container: container is in CONTAINER_EXITED state"),
    ("POST", "/run/default/demo/main?cmd=echo+a++b", [], 200, b"a  b\n"),
    ("POST", "/run/default/demo/uid/main?cmd=both%202", [], 200, b"out 0\nout 1\nerr 0\nerr 1\n"),
    ("POST", "/run/default/demo/main?cmd=exit+7", [], 500, b"command 'exit 7' exited with 7: "),
    ("POST", "/run/default/demo/main?cmd=cat+/nope", [], 500,
     b"command 'cat /nope' exited with 1: cat: /nope: No such file or directory\n"),
    ("POST", "/run/default/demo/main?cmd=nope", [], 500,
     b"rpc error: code = Unknown desc = failed to exec in container: failed to start exec: OCI runtime exec failed: "
     b'exec failed: unable to start container process: exec: "nope": executable file not found in $PATH: unknown'),
    ("POST", "/run/default/demo/main?cmd=fail+it", [], 500, b"rpc error: code = Unknown desc = it"),
    # exec and attach into what does not run
    ("POST", exec_target(["true"], path="default/pulling/main"), SPDY, 500, b'container not found ("main")'),
    ("POST", exec_target(None, path="default/pulling/main"), SPDY, 500,
     b"container main not found in pod pulling_default"),
    ("POST", exec_target(["true"], path="default/over/main"), SPDY, 500,
     b"rpc error: code = Unknown desc = container is in CONTAINER_EXITED state"),
    # portForward
    ("POST", "/portForward/default", FORWARD, 404, b"404: Page Not Found"),
    ("PUT", "/portForward/default/demo", FORWARD, 405, b"405: Method Not Allowed"),
    ("POST", "/portForward/default/nope", FORWARD, 404, b"pod does not exist"),
    ("POST", "/portForward/default/demo/other-uid", FORWARD, 404, b"pod not found"),
    ("GET", "/portForward/default/demo", [], 500, b"Upgrade request required\n"),
    ("GET", "/portForward/default/demo", websocket_headers(), 400, b'query parameter "port" is required'),
    ("GET", "/portForward/default/nope?port=", websocket_headers(), 400, b'query parameter "port" cannot be empty'),
    ("GET", "/portForward/default/demo?port=x", websocket_headers(), 400,
     b'unable to parse "x" as a port: strconv.ParseUint: parsing "x": invalid syntax'),
    ("GET", "/portForward/default/demo?port=1,70000", websocket_headers(), 400,
     b'unable to parse "1,70000" as a port: strconv.ParseUint: parsing "70000": value out of range'),
    ("GET", "/portForward/default/demo?port=0", websocket_headers(), 400, b'port "0" must be > 0'),
    ("GET", "/portForward/default/nope?port=80", websocket_headers(), 404, b"pod does not exist"),
    # checkpoint
    ("GET", "/checkpoint/default/demo/main", [], 405, b"405: Method Not Allowed"),
    ("POST", "/checkpoint/default/nope/main", [], 404, b"pod does not exist"),
    ("POST", "/checkpoint/default/demo/nope", [], 404, b"container nope does not exist"),
    ("POST", "/checkpoint/default/demo/main?timeout=x", [], 404, b"cannot parse value of timeout parameter"),
    ("POST", "/checkpoint/default/over/main", [], 500,
     b'checkpointing of default/over/main failed (rpc error: code = Unknown desc = container "main" is not running)'),
    # containerLogs
    ("POST", "/containerLogs/default/demo/main", [], 405, b"405: Method Not Allowed"),
    ("GET", "/containerLogs/default/demo", [], 404, b"404: Page Not Found"),
    ("GET", "/containerLogs/default/nope/main", [], 404, b'pod "nope" does not exist'),
    ("GET", "/containerLogs/default/demo/nope", [], 404, b'container "nope" not found in pod "demo"'),
    ("GET", "/containerLogs/default/nope/x?tailLines=x", [], 400, b'{"message": "Unable to decode query."}'),
    ("GET", "/containerLogs/default/nope/x?tail=x", [], 400, b'{"message": "Unable to decode query."}'),
    ("GET", "/containerLogs/default/nope/x?sinceTime=yesterday", [], 400, b'{"message": "Unable to decode query."}'),
    ("GET", "/containerLogs/default/nope/x?tailLines=-1", [], 422, b'{"message": "Invalid request."}'),
    ("GET", "/containerLogs/default/nope/x?limitBytes=0", [], 422, b'{"message": "Invalid request."}'),
    ("GET", "/containerLogs/default/nope/x?sinceSeconds=0", [], 422, b'{"message": "Invalid request."}'),
    ("GET", "/containerLogs/default/nope/x?sinceSeconds=1&sinceTime=2024-01-01T00:00:00Z", [], 422,
     b'{"message": "Invalid request."}'),
    ("GET", "/containerLogs/default/demo/main?stream=Stdout", [], 400,
     b'unable to return the given log stream: "Stdout". '
     b"Please enable PodLogsQuerySplitStreams feature gate in kubelet"),
    ("GET", "/containerLogs/default/pulling/main", [], 400,
     b'container "main" in pod "pulling" is waiting to start: trying and failing to pull image'),
    ("GET", "/containerLogs/default/pulling/err", [], 400,
     b'container "err" in pod "pulling" is waiting to start: image can\'t be pulled'),
    ("GET", "/containerLogs/default/creating/main?follow=true", [], 400,
     b'container "main" in pod "creating" is waiting to start: ContainerCreating'),
    ("GET", "/containerLogs/default/demo/main?previous=true", [], 400,
     b'previous terminated container "main" in pod "demo" not found'),
    ("GET", "/containerLogs/default/crashed/main?previous=true", [], 200, b"before\n"),
    ("GET", "/containerLogs/default/over/main?follow=true", [], 200, b"bye\n"),
    ("GET", "/containerLogs/default/demo/main", [], 200, b"one\ntwo\nthree\nfour\n"),
    ("GET", "/containerLogs/default/demo/main?stream=All", [], 200, b"one\ntwo\nthree\nfour\n"),
    ("GET", "/containerLogs/default/demo/main?tailLines=3", [], 200, b"e\nfour\n"),
    ("GET", "/containerLogs/default/demo/main?tailLines=2", [], 200,
     b'failed to get parse function: unsupported log format: "this line is broken\\n"'),  # the first line decides
    ("GET", "/containerLogs/default/demo/main?tail=1&tailLines=5", [], 200, b"four\n"),
    ("GET", "/containerLogs/default/demo/main?tail=all&tailLines=1", [], 200, b"one\ntwo\nthree\nfour\n"),
    ("GET", "/containerLogs/default/demo/main?tailLines=0", [], 200, b""),
    ("GET", "/containerLogs/default/demo/main?limitBytes=6", [], 200, b"one\ntw"),
    ("GET", "/containerLogs/default/demo/main?timestamps=1&limitBytes=40", [], 200,
     b"2024-05-01T10:00:00.000000001Z one\n2024-"),
    ("GET", "/containerLogs/default/demo/main?timestamps", [], 200,
     b"2024-05-01T10:00:00.000000001Z one\n2024-05-01T10:00:01.500000000+02:00 two\n"
     b"2024-05-01T10:00:02.000000000Z three\n2024-05-01T10:00:05.000000000Z four\n"),
    ("GET", "/containerLogs/default/demo/main?timestamps=false&sinceTime=2024-05-01T10:00:02Z", [], 200,
     b"three\nfour\n"),
    ("GET", "/containerLogs/default/demo/main?sinceTime=2024-05-01T10:00:03.5Z&tailLines=3", [], 200, b"e\nfour\n"),
    ("GET", "/containerLogs/default/demo/main?sinceSeconds=60", [], 200, b""),
    # the node's files
    ("GET", "/logs", [], 301, b'<a href="/logs/">Moved Permanently</a>.\n\n'),
    ("POST", "/logs/", [], 405, b"405: Method Not Allowed"),
    ("GET", "/logs/kubelet.log", [], 200, b"a log\n"),
    ("GET", "/logs/nope", [], 404, b"404 page not found\n"),
    ("GET", "/logs/pods", [], 301, b""),
    ("GET", "/logs/kubelet.log/", [], 301, b""),
    ("GET", "/logs/?query=kubelet", [], 200,
     b"May 01 10:00:00.250000 n1 kubelet: started\nMay 01 10:00:01.000000 n1 kubelet: synced\n"),
    ("GET", "/logs/?query=kubelet&tailLines=1", [], 200, b"May 01 10:00:01.000000 n1 kubelet: synced\n"),
    ("GET", "/logs/?query=kubelet&pattern=st.r&untilTime=2024-05-01T10:00:00.5Z", [], 200,
     b"May 01 10:00:00.250000 n1 kubelet: started\n"),
    ("GET", "/logs/?query=kubelet&sinceTime=2030-01-01T00:00:00Z", [], 200, b"-- No entries --\n"),
    ("GET", "/logs/?query=nope", [], 200, b"-- No entries --\n"),
    ("GET", "/logs/?query=a;b&sinceTime=x", [], 400,
     b'query: Invalid value: "a;b", sinceTime: Invalid value: "x": invalid time format\n'),
    # debugging
    ("PUT", "/configz", [], 200, b""),  # the body is judged below
    ("GET", "/debug/flags/v", [], 406, b"unsupported http method"),
    ("GET", "/debug/pprof", [], 301, b'<a href="/debug/pprof/">Moved Permanently</a>.\n\n'),
    ("POST", "/debug/pprof/heap", [], 405, b"405: Method Not Allowed"),
    ("GET", "/debug/pprof/nope", [], 404, b"Unknown profile\n"),
    ("GET", "/debug/pprof/symbol", [], 200, b"num_symbols: 1\n"),
    ("GET", "/debug/pprof/cmdline", [], 200, b"/usr/bin/kubelet\0--config=/var/lib/kubelet/config.yaml"),
    ("GET", "/debug/pprof/goroutine?debug=1", [], 200, b"goroutine profile: total 0\n"),
    ("GET", "/statusz", [("Accept", "application/json")], 406, b"only text/plain is served\n"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "target", "headers", "status", "body"), TABLE)
def test_status_and_body(
    caller: Caller, method: str, target: str, headers: list[tuple[str, str]], status: int, body: bytes
) -> None:
    answer = ask(caller, method, target, headers)
    if target == "/configz":
        body = answer.body
    assert (answer.status, answer.body) == (status, body)


def test_a_redirect_keeps_the_query(caller: Caller) -> None:
    assert ask(caller, "GET", "/logs?query=kubelet&x=%2F").values("Location") == ["/logs/?query=kubelet&x=%2F"]
    assert ask(caller, "GET", "//pods?a=b").values("Location") == ["/pods?a=b"]


# run


def test_run_takes_its_command_from_the_form_and_says_json(caller: Caller) -> None:
    answer = ask(caller, "POST", "/run/default/demo/main?cmd=echo+query", FORM, b"cmd=echo+form")
    assert (answer.status, answer.body) == (200, b"form\n")
    assert answer.values("Content-Type") == ["application/json"]
    record = caller.kubelet.executions[-1]
    assert (record.argv, record.running) == (("echo", "form"), False)


def test_run_has_a_limit(caller: Caller) -> None:
    assert len(ask(caller, "POST", "/run/default/demo/main?cmd=source+10000000").body) == 10_000_000
    answer = ask(caller, "POST", "/run/default/demo/main?cmd=source+17000000")
    assert answer.status == 500
    assert answer.body.startswith(b"rpc error: code = Unknown desc = grpc: received message larger than max")


def test_a_run_ends_when_its_client_leaves() -> None:
    ended = threading.Event()

    async def linger(context: AsyncExec) -> int:
        import asyncio

        try:
            await asyncio.sleep(600)
        finally:
            ended.set()
        return 0

    with FakeKubelet([Pod("default/demo", [Container("main", behaviour=linger)])]) as kubelet:
        sock = Caller(kubelet).connect()
        sock.sendall(b"POST /run/default/demo/main?cmd=x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        while not kubelet.executions:
            time.sleep(0.01)
        sock.close()
        assert ended.wait(30)
        assert kubelet.executions[0].wait(30) is None
        assert kubelet.executions[0].client_left


# what tells about the node


def document(caller: Caller, target: str, method: str = "GET") -> Any:
    answer = ask(caller, method, target)
    assert (answer.status, answer.values("Content-Type")) == (200, ["application/json"])
    return json.loads(answer.body)


def test_running_pods_are_what_runs(caller: Caller) -> None:
    running = document(caller, "/runningpods/")
    assert running["kind"] == "PodList"
    assert {
        each["metadata"]["name"]: [container["name"] for container in each["spec"]["containers"]]
        for each in running["items"]
    } == {"demo": ["main", "side"], "crashed": ["main"]}


def test_the_summary_tells_what_was_declared(caller: Caller) -> None:
    body = ask(caller, "GET", "/stats/summary").body
    assert body.startswith(b'{\n "node": {\n  "nodeName": "n1",')
    summary = json.loads(body)
    (demo,) = [each for each in summary["pods"] if each["podRef"]["name"] == "demo"]
    main = next(each for each in demo["containers"] if each["name"] == "main")
    assert main["cpu"]["usageNanoCores"] == 250_000_000
    assert main["memory"]["workingSetBytes"] == 1 << 20
    assert main["rootfs"]["capacityBytes"] > 0
    assert summary["node"]["memory"]["availableBytes"] < 4 << 30
    small = document(caller, "/stats/summary?only_cpu_and_memory=true", "POST")
    assert set(small["node"]) == {"nodeName", "startTime", "cpu", "memory"}
    assert all(
        set(each) == {"name", "startTime", "cpu", "memory"} for pod in small["pods"] for each in pod["containers"]
    )


def test_configz_and_the_debug_flag(caller: Caller) -> None:
    config = document(caller, "/configz")["kubeletconfig"]
    assert config["enableDebuggingHandlers"] is True
    assert config["port"] == caller.kubelet.port
    assert config["authentication"]["anonymous"] == {"enabled": False}
    assert config["featureGates"]["KubeletFineGrainedAuthz"] is True
    answer = ask(caller, "PUT", "/debug/flags/v", body=b"4")
    assert (answer.status, answer.body) == (200, b"successfully set klog.logging.verbosity to 4")
    assert document(caller, "/configz")["kubeletconfig"]["logging"]["verbosity"] == 4
    answer = ask(caller, "PUT", "/debug/flags/v", body=b"x")
    assert answer.status == 400
    assert answer.body == b'failed set klog.logging.verbosity x: strconv.ParseInt: parsing "x": invalid syntax'


def test_a_checkpoint_has_a_path(caller: Caller) -> None:
    (path,) = document(caller, "/checkpoint/default/demo/main?timeout=x&timeout=5", "POST")["items"]
    assert path.startswith("/var/lib/kubelet/checkpoints/checkpoint-demo_default-main-")
    with FakeKubelet(pods(), machine=Machine(checkpoints=False)) as kubelet:
        answer = ask(Caller(kubelet), "POST", "/checkpoint/default/demo/main")
        assert answer.status == 500
        assert answer.body == (
            b"checkpointing of default/demo/main failed "
            b"(rpc error: code = Unimplemented desc = method CheckpointContainer not implemented)"
        )


@pytest.mark.parametrize(
    ("path", "lines"),
    [
        ("/metrics", ['kubelet_node_name{node="n1"} 1.0', 'kubelet_running_containers{container_state="running"} 3.0']),
        ("/metrics/cadvisor", ["machine_cpu_cores 2.0"]),
        ("/metrics/resource", ['container_memory_working_set_bytes{container="main",namespace="default",pod="demo"}']),
        ("/metrics/probes", ["process_start_time_seconds"]),
        ("/metrics/slis", ['kubernetes_healthcheck{name="syncloop",type="healthz"} 1.0']),
    ],
)
def test_metrics(caller: Caller, path: str, lines: list[str]) -> None:
    answer = ask(caller, "GET", path)
    assert answer.status == 200
    assert answer.values("Content-Type")[0].startswith("text/plain; version=")
    for line in lines:
        assert line in answer.body.decode()
    from prometheus_client.parser import text_string_to_metric_families

    assert list(text_string_to_metric_families(answer.body.decode()))


def test_metrics_in_the_open_format(caller: Caller) -> None:
    answer = ask(caller, "GET", "/metrics", [("Accept", "application/openmetrics-text; version=1.0.0")])
    assert answer.values("Content-Type")[0].startswith("application/openmetrics-text")
    assert answer.body.endswith(b"# EOF\n")


def test_requests_are_counted() -> None:
    with FakeKubelet() as kubelet:
        caller = Caller(kubelet)
        for _ in range(3):
            ask(caller, "GET", "/pods")
        ask(caller, "GET", "/nope")
        text = ask(caller, "GET", "/metrics").body.decode()
    labels = '{long_running="false",method="GET",path="%s",server_type="readwrite"}'
    shown = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in text.splitlines() if "{" in line}

    def value(name: str, path: str) -> float:
        (found,) = [
            number
            for key, number in shown.items()
            if key.startswith(name + "{") and f'path="{path}"' in key and "le=" not in key
        ]
        return found

    assert labels
    assert value("kubelet_http_requests_total", "pods") == 3
    assert value("kubelet_http_requests_total", "other") == 1
    assert value("kubelet_http_inflight_requests", "metrics") == 1
    assert value("kubelet_http_requests_duration_seconds_count", "pods") == 3


def test_node_logs_are_listed(caller: Caller) -> None:
    answer = ask(caller, "GET", "/logs/")
    assert answer.values("Content-Type") == ["text/html; charset=utf-8"]
    names = ["archive.gz", "empty/", "kubelet.log", "pods/"]
    assert [line.split('"')[1] for line in answer.body.decode().splitlines() if line.startswith("<a")] == names
    assert ask(caller, "GET", "/logs/pods").values("Location") == ["pods/"]
    assert ask(caller, "GET", "/logs/empty/").body.endswith(b"<pre>\n</pre>\n")
    assert ask(caller, "GET", "/logs/pods/x/0.log").values("Content-Type") == ["application/octet-stream"]
    assert ask(caller, "GET", "/logs/kubelet.log").values("Content-Type") == ["text/plain; charset=utf-8"]


def test_status_and_flags(caller: Caller) -> None:
    status = ask(caller, "GET", "/statusz").body.decode()
    assert status.startswith("\nkubelet statusz\nWarning: ")
    assert f"\nBinary version: {PROFILES['1.36'].release}\n" in status
    assert "/containerLogs" in status
    flags = ask(caller, "GET", "/flagz").body.decode()
    assert flags.startswith("\nkubelet flags\nWarning: ")
    assert "\nhostname-override=n1\n" in flags


def test_profiles_are_well_formed_and_empty(caller: Caller) -> None:
    import gzip

    answer = ask(caller, "GET", "/debug/pprof/profile?seconds=0")
    assert answer.values("Content-Disposition") == ['attachment; filename="profile"']
    assert b"nanoseconds" in gzip.decompress(answer.body)
    assert b"full goroutine" not in ask(caller, "GET", "/debug/pprof/").body


def test_versions_differ_in_what_they_serve() -> None:
    with FakeKubelet(profile="1.29") as kubelet:
        caller = Caller(kubelet)
        for target in ("/statusz", "/flagz", "/checkpoint/default/demo/main"):
            assert ask(caller, "POST", target).status == 404


# what is disabled


DEBUGGING = ["/run/a/b/c", "/exec/a/b/c", "/attach/a/b/c", "/portForward/a/b", "/containerLogs/a/b/c", "/runningpods/"]


@pytest.mark.parametrize("path", [*DEBUGGING, "/debug/pprof/heap", "/logs/kubelet.log"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_debugging_can_be_disabled(method: str, path: str) -> None:
    with (
        FakeKubelet(serving=Serving(debugging=False), anonymous=True) as kubelet,
        HttpClient(connect(kubelet.url, kubelet.ca)) as http,
    ):
        answer = http.request(method, path)
        assert (answer.status, answer.body) == (405, b"Debug endpoints are disabled.\n")
        for gone in ("/configz", "/checkpoint/a/b/c", "/debug/flags/v", "/statusz"):
            assert http.request("GET", gone).status == 404
        assert http.request("GET", "/exec").status == 301
        assert http.request("GET", "/pods").status == 200


@pytest.mark.parametrize(
    ("handlers", "path", "text"),
    [
        ({"system_logs": False}, "/logs/x", b"logs endpoint is disabled.\n"),
        ({"profiling": False}, "/debug/pprof/heap", b"profiling endpoint is disabled.\n"),
        ({"debug_flags": False}, "/debug/flags/v", b"flags endpoint is disabled.\n"),
    ],
)
def test_each_handler_can_be_disabled(handlers: Mapping[str, bool], path: str, text: bytes) -> None:
    with FakeKubelet(serving=Serving(**handlers)) as kubelet:
        answer = ask(Caller(kubelet), "PUT", path)
        assert (answer.status, answer.body) == (405, text)
        assert ask(Caller(kubelet), "GET", "/containerLogs/default/demo/main").status == 200


# the other ports


def get_plain(port: int | None, target: str, method: str = "GET", headers: str = "") -> tuple[bytes, bytes]:
    import socket

    assert port is not None
    with socket.create_connection(("127.0.0.1", port), 30) as sock:
        sock.sendall(f"{method} {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{headers}\r\n".encode())
        head, _, body = b"".join(iter(lambda: sock.recv(65536), b"")).partition(b"\r\n\r\n")
    return head.split(b"\r\n")[0], body


def test_the_read_only_port_has_neither_tls_nor_authentication_nor_debugging() -> None:
    with FakeKubelet(pods(), serving=Serving(read_only_port=0, healthz_port=0)) as kubelet:
        port = kubelet.read_only_port
        assert get_plain(port, "/healthz") == (b"HTTP/1.1 200 OK", b"ok")
        assert b'"PodList"' in get_plain(port, "/pods")[1]
        assert get_plain(port, "/stats/summary")[0] == b"HTTP/1.1 200 OK"
        assert b'server_type="readonly"' in get_plain(port, "/metrics")[1]
        for path in DEBUGGING:
            assert get_plain(port, path, "POST") == (
                b"HTTP/1.1 405 Method Not Allowed",
                b"Debug endpoints are disabled.\n",
            )
        assert get_plain(port, "/configz") == (b"HTTP/1.1 404 Not Found", b"404 page not found\n")
        assert get_plain(port, "/pods", headers="Authorization: Bearer nonsense\r\n")[0] == b"HTTP/1.1 200 OK"
        assert get_plain(kubelet.healthz_port, "/healthz") == (b"HTTP/1.1 200 OK", b"ok")
        assert get_plain(kubelet.healthz_port, "/healthz/ping") == (b"HTTP/1.1 200 OK", b"ok")
        assert get_plain(kubelet.healthz_port, "/pods") == (b"HTTP/1.1 404 Not Found", b"404 page not found\n")
        assert get_plain(kubelet.healthz_port, "//healthz")[0] == b"HTTP/1.1 301 Moved Permanently"


def test_the_other_ports_are_off_by_default(kubelet: FakeKubelet) -> None:
    assert (kubelet.read_only_port, kubelet.healthz_port) == (None, None)


def test_who_is_asked_for_a_certificate_sees_the_same_authority() -> None:
    shared = CertificateAuthority.create()
    with FakeKubelet(ca=shared) as kubelet:
        assert kubelet.ca == shared.cert_pem
