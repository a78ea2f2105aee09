"""Pods that wait, end, restart, come and go while clients are connected; /pods, logs, exec and attach tell it."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from fakekubelet import BlockingExec, Container, FakeKubelet, Pod
from fakekubelet.podlogs import LogFailure, LogLine
from spdyproto.channels.events import StreamSet
from support.fakes import Caller
from support.rawclient import Answer, ExecClient, exec_target, upgrade_headers

SPDY = upgrade_headers(["v4.channel.k8s.io"])


def ask(caller: Caller, target: str, method: str = "GET") -> Answer:
    with caller.http() as http:
        return http.request(method, target, SPDY if method == "POST" else [])


def pod_of(caller: Caller, name: str = "demo") -> dict[str, Any]:
    items = json.loads(ask(caller, "/pods").body)["items"]
    (found,) = [each for each in items if each["metadata"]["name"] == name]
    assert isinstance(found, dict)
    return found


def status_of(caller: Caller, name: str = "demo", container: int = 0) -> dict[str, Any]:
    status = pod_of(caller, name)["status"]["containerStatuses"][container]
    assert isinstance(status, dict)
    return status


def eventually(found: Callable[[], Any], expected: Any) -> None:
    deadline = time.monotonic() + 30
    while (got := found()) != expected:
        assert time.monotonic() < deadline, got
        time.sleep(0.02)


def wait_for_phase(caller: Caller, phase: str, name: str = "demo") -> None:
    eventually(lambda: pod_of(caller, name)["status"]["phase"], phase)


class Following:
    """A log that is followed over a connection of its own."""

    def __init__(self, caller: Caller, target: str) -> None:
        self._sock = caller.connect()
        self._sock.sendall(f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        self._got = b""

    def until(self, text: bytes) -> bytes:
        while text not in self._got:
            data = self._sock.recv(65536)
            assert data, self._got
            self._got += data
        return self._got

    def rest(self) -> bytes:
        while data := self._sock.recv(65536):
            self._got += data
        self._sock.close()
        return self._got


def ticking(context: BlockingExec) -> int:
    """A line a round; ends when it is told to."""
    context.stdout.write(b"begin\n")
    context.stdin.read(1)
    context.stdout.write(b"end\n")
    return 3


MAIN = Container("main", main=ticking, stdin=True)


def test_output_of_a_main_process_is_its_log_and_who_follows_sees_its_end() -> None:
    with FakeKubelet([Pod("default/demo", [MAIN])]) as kubelet:
        caller = Caller(kubelet)
        following = Following(caller, "/containerLogs/default/demo/main?follow=true&timestamps=true")
        following.until(b"begin\n")
        assert pod_of(caller)["status"]["phase"] == "Running"
        assert "running" in status_of(caller)["state"]
        streams = StreamSet(stdin=True)
        with ExecClient.open(caller.connect(), None, path="default/demo/main", streams=streams) as attached:
            attached.send(b"x")
            got = following.rest()
        assert b" end\n" in got
        assert got.endswith(b"0\r\n\r\n")
        wait_for_phase(caller, "Failed")
        state = status_of(caller)["state"]["terminated"]
        assert (state["exitCode"], state["reason"]) == (3, "Error")
        assert ask(caller, "/containerLogs/default/demo/main").body == b"begin\nend\n"
        ready = {each["type"]: each["status"] for each in pod_of(caller)["status"]["conditions"]}
        assert ready == {"Initialized": "True", "Ready": "False", "ContainersReady": "False", "PodScheduled": "True"}


def test_a_restart_lets_go_who_is_attached_and_begins_the_log_anew() -> None:
    with FakeKubelet([Pod("default/demo", [MAIN])]) as kubelet:
        caller = Caller(kubelet)
        following = Following(caller, "/containerLogs/default/demo/main?follow=true")
        following.until(b"begin\n")
        first = status_of(caller)["containerID"]
        with ExecClient.open(caller.connect(), None, path="default/demo/main") as attached:
            kubelet.pods.restart("default/demo", "main")
            assert status_of(caller)["restartCount"] == 1  # at once
            attached.finish()
        assert following.rest().endswith(b"0\r\n\r\n")
        eventually(lambda: "running" in status_of(caller)["state"], True)
        status = status_of(caller)
        assert status["lastState"]["terminated"]["exitCode"] == 137
        assert status["lastState"]["terminated"]["containerID"] == first != status["containerID"]
        previous = ask(caller, "/containerLogs/default/demo/main?previous=true")
        assert previous.body == b"begin\n"
        eventually(lambda: ask(caller, "/containerLogs/default/demo/main").body, b"begin\n")
        assert ask(caller, exec_target(["true"]), "POST").status == 101
        with pytest.raises(KeyError):
            kubelet.pods.restart("default/nope")
        with pytest.raises(KeyError):
            kubelet.pods.restart("default/demo", "nope")


def test_a_container_that_waits_is_released() -> None:
    pod = Pod("default/demo", [Container("main", waiting=("ErrImagePull", "no such image")), Container("side")])
    with FakeKubelet([pod]) as kubelet:
        caller = Caller(kubelet)
        assert pod_of(caller)["status"]["phase"] == "Pending"
        assert status_of(caller)["state"] == {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}
        assert "containerID" not in status_of(caller)
        assert ask(caller, exec_target(["true"]), "POST").body == b'container not found ("main")'
        assert ask(caller, exec_target(["true"], path="default/demo/side"), "POST").status == 101
        kubelet.pods.hold("default/demo", "main", "ImagePullBackOff")
        assert status_of(caller)["state"] == {"waiting": {"reason": "ImagePullBackOff"}}
        kubelet.pods.release("default/demo")
        wait_for_phase(caller, "Running")
        assert ask(caller, exec_target(["true"]), "POST").status == 101


@pytest.mark.parametrize(
    ("policy", "argv", "phase"),
    [
        ("Never", ["exit", "0"], "Succeeded"),
        ("Never", ["exit", "1"], "Failed"),
        ("OnFailure", ["exit", "0"], "Succeeded"),
    ],
)
def test_what_ends_for_good(policy: Any, argv: list[str], phase: str) -> None:
    with FakeKubelet([Pod("default/demo", [Container("main", main=argv)], restart_policy=policy)]) as kubelet:
        caller = Caller(kubelet)
        wait_for_phase(caller, phase)
        assert status_of(caller)["restartCount"] == 0


@pytest.mark.parametrize(("policy", "code"), [("Always", "0"), ("Always", "1"), ("OnFailure", "1")])
def test_what_is_restarted_again_and_again(policy: Any, code: str) -> None:
    containers = [Container("main", main=["exit", code], log="2024-01-01T00:00:00Z stdout F a try\n")]
    pod = Pod("default/demo", containers, restart_policy=policy, restart_delays=(0, 0.05, 600))
    with FakeKubelet([pod]) as kubelet:
        caller = Caller(kubelet)
        eventually(lambda: status_of(caller)["state"].get("waiting", {}).get("reason"), "CrashLoopBackOff")
        eventually(lambda: status_of(caller)["restartCount"], 2)
        eventually(lambda: status_of(caller)["state"].get("waiting", {}).get("reason"), "CrashLoopBackOff")
        assert pod_of(caller)["status"]["phase"] == "Running"
        assert status_of(caller)["lastState"]["terminated"]["exitCode"] == int(code)
        for query in ("", "?previous=true"):
            assert ask(caller, f"/containerLogs/default/demo/main{query}").body == b"a try\n"
        kubelet.pods.restart("default/demo")  # does not wait for the back-off
        eventually(lambda: status_of(caller)["restartCount"], 3)


def test_a_program_that_does_not_start() -> None:
    with FakeKubelet([Pod("default/demo", [Container("main", main=["nope"])])]) as kubelet:
        caller = Caller(kubelet)
        wait_for_phase(caller, "Failed")
        state = status_of(caller)["state"]["terminated"]
        assert (state["exitCode"], state["reason"]) == (128, "StartError")
        assert "executable file not found" in state["message"]


def test_init_containers_run_before_the_others_one_by_one() -> None:
    go_on = threading.Event()

    async def waits(context: Any) -> int:
        await asyncio.to_thread(go_on.wait)
        return 0

    pod = Pod(
        "default/demo",
        [Container("main")],
        init_containers=[
            Container("first", main=["echo", "prepared"]),
            Container("second", main=waits),
            Container("third"),
        ],
    )
    with FakeKubelet([pod]) as kubelet:
        caller = Caller(kubelet)
        eventually(
            lambda: [next(iter(each["state"])) for each in pod_of(caller)["status"]["initContainerStatuses"]],
            ["terminated", "running", "waiting"],
        )
        assert pod_of(caller)["status"]["phase"] == "Pending"
        assert status_of(caller)["state"] == {"waiting": {"reason": "PodInitializing"}}
        assert ask(caller, "/containerLogs/default/demo/first").body == b"prepared\n"
        assert ask(caller, "/containerLogs/default/demo/main").body == (
            b'container "main" in pod "demo" is waiting to start: PodInitializing'
        )
        go_on.set()
        wait_for_phase(caller, "Running")
        assert [each["name"] for each in pod_of(caller)["spec"]["initContainers"]] == ["first", "second", "third"]


@pytest.mark.parametrize(("policy", "phase"), [("Never", "Failed"), ("Always", "Pending")])
def test_an_init_container_that_fails(policy: Any, phase: str) -> None:
    init = [Container("setup", main=["exit", "1"])]
    pod = Pod("default/demo", [Container("main")], init_containers=init, restart_policy=policy, restart_delays=(600,))
    with FakeKubelet([pod]) as kubelet:
        caller = Caller(kubelet)
        eventually(lambda: "exitCode" in json.dumps(pod_of(caller)["status"]["initContainerStatuses"]), True)
        wait_for_phase(caller, phase)
        assert "waiting" in status_of(caller)["state"]


def test_a_pod_that_is_replaced_is_another_one() -> None:
    with FakeKubelet([Pod("default/demo", [MAIN])]) as kubelet:
        caller = Caller(kubelet)
        following = Following(caller, "/containerLogs/default/demo/main?follow=true")
        following.until(b"begin\n")
        kubelet.pods.add(Pod("default/demo", [Container("main", log="2024-01-01T00:00:00Z stdout F new\n")]))
        assert following.rest().endswith(b"0\r\n\r\n")
        assert ask(caller, "/containerLogs/default/demo/main").body == b"new\n"
        kubelet.pods.remove("default/demo")
        assert ask(caller, "/containerLogs/default/demo/main").status == 404


def test_who_listens_is_told_of_each_change() -> None:
    told: list[tuple[str, bool]] = []
    with FakeKubelet([]) as kubelet:
        kubelet.pods.subscribe(lambda name, pod: told.append((name, pod is not None)))
        kubelet.pods.add(Pod("default/demo"))
        eventually(lambda: told.count(("default/demo", True)) >= 2, True)  # that it is there, and that it runs
        kubelet.pods.remove("default/demo")
        assert told[-1] == ("default/demo", False)
        before = len(told)
    assert len(told) == before  # the end of the server is no change of the pods


# scripted logs


def test_a_log_may_come_in_its_own_time() -> None:
    go_on = threading.Event()

    async def log() -> AsyncIterator[LogLine | str]:
        yield "first"
        await asyncio.to_thread(go_on.wait)
        yield LogLine("sec", partial=True)
        yield LogLine("ond", "stdout")
        raise LogFailure("failed to watch the file: no such file or directory")

    with FakeKubelet([Pod("default/demo", [Container("main", log=log)])]) as kubelet:
        caller = Caller(kubelet)
        following = Following(caller, "/containerLogs/default/demo/main?follow=1")
        assert b"200 OK" in following.until(b"first\n")
        go_on.set()
        assert b"failed to watch the file: no such file or directory" in following.rest()
        assert ask(caller, "/containerLogs/default/demo/main").body.startswith(b"first\nsecond\nfailed to watch")


def test_a_log_may_be_an_ordinary_function() -> None:
    def log() -> Iterator[str]:
        yield from ("a", "b")

    with FakeKubelet([Pod("default/demo", [Container("main", log=log)])]) as kubelet:
        eventually(lambda: ask(Caller(kubelet), "/containerLogs/default/demo/main").body, b"a\nb\n")


def test_a_slow_reader_of_a_log_holds_nothing_up() -> None:
    with FakeKubelet([Pod("default/demo", [Container("main", main=["source", "100000000"])])]) as kubelet:
        caller = Caller(kubelet)
        sock = caller.connect()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.sendall(b"GET /containerLogs/default/demo/main?follow=true HTTP/1.1\r\nHost: a\r\n\r\n")
        assert kubelet.main_process("default/demo").wait(60) is not None
        assert len(ask(caller, "/containerLogs/default/demo/main").body) <= 1 << 20
        sock.close()
