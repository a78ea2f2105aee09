"""Many sessions: at once, and one after another, without anything left of them."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

import pytest

from fakekubelet import Container, FakeKubelet, Pod
from kubeletclient import DEVNULL, PIPE, ClientError, Deadlines
from kubeletclient.aio import Kubelet
from spdyproto.channels.events import StreamSet
from support.fakes import Caller
from support.rawclient import HttpClient, exec_target, upgrade_headers
from support.victim import MIB, Victim

TRANSPORTS = ("spdy", "ws:v5.channel.k8s.io")
PATIENT = Deadlines(dial=60, tls=60, upgrade=60, stream_reply=60, status=60, drain=60)


@pytest.fixture
def victim() -> Iterator[Victim]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 20_000), hard))
    try:
        with Victim(head=120.0) as victim:
            yield victim
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def echo_once(node: Kubelet) -> None:
    async with await node.pod("demo").popen(["cat"], container="main", stdin=PIPE, stderr=DEVNULL) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        await process.stdin.write(b"once")
        assert await process.stdout.read(4) == b"once"
        await process.stdin.close()
        assert await process.wait() == 0


async def at_most(limit: int, count: int, job: Callable[[], Awaitable[None]]) -> None:
    room = asyncio.Semaphore(limit)

    async def one() -> None:
        async with room:
            await job()

    await asyncio.gather(*(one() for _ in range(count)))


async def hold(victim: Victim, transport: str, count: int) -> tuple[int, float]:
    """Open so many sessions, talk through every one while all are open, and tell the server's bytes for each, and the
    seconds until all were open."""
    before = victim.memory
    async with Kubelet(victim.url, ca=victim.ca, transport=transport, deadlines=PATIENT) as node:
        began = time.monotonic()
        processes = []

        async def opening() -> None:
            process = await node.pod("demo").popen(["cat"], container="main", stdin=PIPE, stderr=DEVNULL)
            processes.append(process)

        await at_most(50, count, opening)
        took = time.monotonic() - began
        assert len(processes) == count
        each = (victim.memory - before) // count
        for number, process in enumerate(processes):
            assert process.stdin is not None
            await process.stdin.write(b"%06d" % number)
        for number, process in enumerate(processes):
            assert process.stdout is not None
            assert await process.stdout.read(6) == b"%06d" % number
        for process in processes:
            assert process.stdin is not None
            await process.stdin.close()
        for process in processes:
            assert await process.wait() == 0
        return each, took


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_sessions_open_at_once(victim: Victim, transport: str) -> None:
    before = victim.holds()
    each, _ = asyncio.run(hold(victim, transport, 100))
    assert each < 400_000
    victim.settle(before)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_two_thousand_sessions_open_at_once(victim: Victim, transport: str, capsys: pytest.CaptureFixture[str]) -> None:
    each, took = asyncio.run(hold(victim, transport, 2000))
    with capsys.disabled():
        print(f"\n2000 sessions over {transport}: open after {took:.1f} s, {each / 1024:.0f} KiB each")
    assert each < 200_000


def come_and_go(victim: Victim, count: int) -> None:
    """So many sessions over both transports, an eighth of them cut in the middle."""

    async def work() -> None:
        for transport in TRANSPORTS:
            async with Kubelet(victim.url, ca=victim.ca, transport=transport, deadlines=PATIENT) as node:
                await at_most(16, count * 7 // 16, partial(echo_once, node))
                await at_most(16, count // 16, partial(leave, node))

    async def leave(node: Kubelet) -> None:
        process = await node.pod("demo").popen(["cat"], container="main", stdin=PIPE)
        await process.close()

    asyncio.run(work())


def judge_growth(victim: Victim, first: int, count: int) -> tuple[int, int]:
    """The server's memory before and after `count` sessions, once the `first` have made what is made once. The records
    of the last thousand are kept: until there are as many, each session adds one."""
    empty = victim.holds()
    come_and_go(victim, first)
    before, memory = victim.settle(empty), victim.memory
    come_and_go(victim, count)
    after = victim.settle(empty)
    assert after["alive"] == before["alive"]
    records = max(0, min(1000, first + count) - first)
    assert after["objects"] - before["objects"] < 2000 + 40 * records, (before, after)
    return memory, victim.memory


def test_sessions_come_and_go_without_a_trace(victim: Victim) -> None:
    memory, after = judge_growth(victim, 160, 320)
    assert after - memory < 8 * MIB


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_ten_thousand_sessions_come_and_go_without_a_trace(victim: Victim, capsys: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    memory, after = judge_growth(victim, 1200, 10_000)
    with capsys.disabled():
        print(
            f"\n10,000 sessions in {time.monotonic() - began:.0f} s: "
            f"{memory / MIB:.1f} MiB before, {after / MIB:.1f} MiB after"
        )
    assert after - memory < 8 * MIB


# -- CVE-2022-23471 and CVE-2025-64329: what a runtime leaked when an exec with a terminal failed, or an attacher left -


@pytest.mark.parametrize("attach", [False, True], ids=["exec", "attach"])
def test_failed_terminals_leave_nothing(attach: bool) -> None:
    pods = [Pod("default/demo", [Container("main", main=["sizes", "1000000"], stdin=True, tty=True)])]
    streams = StreamSet(stdin=True, stderr=False, tty=True)
    with FakeKubelet(pods) as kubelet:
        caller = Caller(kubelet)
        argv = None if attach else ["no-such-command"]
        for _ in range(50 if attach else 100):
            with caller.open(argv, streams=streams, websocket="v4.channel.k8s.io") as client:
                client.session.resize(80, 24)
                client.flush()
        for execution in kubelet.executions:
            if not attach:
                execution.wait(30)
            elif execution.request.attach:
                execution.wait_client_left(30)
        loop = kubelet._loop
        assert loop is not None
        tasks = asyncio.run_coroutine_threadsafe(_tasks(), loop).result(30)
        assert tasks <= 2


async def _tasks() -> int:
    await asyncio.sleep(0)
    return len(asyncio.all_tasks()) - 1


# -- CVE-2018-1002105: bytes behind an upgrade that failed ------------------------------------------------------------


@pytest.mark.parametrize("command", ["command=x", ""])
def test_nothing_behind_a_failed_upgrade_is_a_session(command: str) -> None:
    """What follows a refusal is another request, which is judged by itself, or nothing: never a stream of the first."""
    with FakeKubelet() as kubelet, Caller(kubelet).http() as http:
        target = f"/exec/default/absent/main?{command}&output=1"
        assert http.request("POST", target, upgrade_headers()).status == 404
        behind = HttpClient(http.sock).request("POST", exec_target(["true"]), [])
        assert behind.status == 500  # no upgrade was asked for
        assert kubelet.executions == []
    with pytest.raises((ClientError, OSError)):
        http.sock.sendall(b"late")
