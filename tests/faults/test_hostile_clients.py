"""What hostile clients cost the fake kubelet: it cuts them off, within bounds, and serves everybody else meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import pytest

from kubeletclient import ClientError, Deadlines, Kubelet
from support.attacks import ATTACKS, Attack, broken_connections, run
from support.victim import MIB, Victim

MOST = 64 * MIB
PATIENT = Deadlines(dial=40, tls=40, upgrade=40, stream_reply=40, status=40, drain=40)


@pytest.fixture(scope="module")
def victim() -> Iterator[Victim]:
    with Victim(head=5.0, idle=5.0, linger=2.0) as victim:
        with Neighbour(victim):
            time.sleep(0.5)  # everything that is made once is made
        yield victim


class Neighbour:
    """Somebody who runs one command after another all the while, and notes how long the slowest took."""

    def __init__(self, victim: Victim) -> None:
        self._node = Kubelet(victim.url, ca=victim.ca, deadlines=PATIENT)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self.slowest = 0.0
        self.count = 0
        self.failures: list[ClientError] = []

    def _work(self) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                done = self._node.pod("demo").run(["echo", "x"], container="main", timeout=45)
                assert done.stdout == b"x\n"
                self.count += 1
            except ClientError as error:
                self.failures.append(error)
            self.slowest = max(self.slowest, time.monotonic() - began)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(60)
        self._node.close()


def judge(victim: Victim, attack: Attack, connections: int, capsys: pytest.CaptureFixture[str] | None = None) -> None:
    before = victim.memory
    victim.forget_peak()
    began = time.monotonic()
    with Neighbour(victim) as neighbour:
        sent = run(victim, attack, connections)
        took = time.monotonic() - began
    grown = victim.peak - before
    if capsys is not None:
        with capsys.disabled():
            print(
                f"\n| {attack.name} | {connections} | {max(sent) / MIB:.2f} | {took:.1f} | {grown / MIB:.1f} "
                f"| {neighbour.slowest * 1000:.0f} |",
                end="",
            )
    assert grown < MOST, f"{grown / MIB:.1f} MiB"
    assert not neighbour.failures
    assert neighbour.count
    assert neighbour.slowest < 30


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_an_attack_is_cut_off_and_harms_nobody(victim: Victim, attack: Attack) -> None:
    judge(victim, attack, 4)


@pytest.mark.soak
@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_an_attack_by_a_hundred(attack: Attack, capsys: pytest.CaptureFixture[str]) -> None:
    """Prints the rows of the table in docs/fake-kubelet.md."""
    with Victim(head=10.0, linger=5.0) as victim:
        with Neighbour(victim):
            time.sleep(0.5)
        judge(victim, attack, 100, capsys)


def test_broken_connections_harm_nobody(victim: Victim) -> None:
    before = victim.holds()
    memory = victim.memory
    with Neighbour(victim) as neighbour:
        broken_connections(victim, 300)
    assert not neighbour.failures
    assert neighbour.count
    victim.settle(before)
    assert victim.memory - memory < 16 * MIB
