"""Every preset of `fakekubelet.faults` against the client, in both flavours and over both transports: the error that
says what happened, within its deadline, and a success only where nothing was lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from fakekubelet import ALL_WEBSOCKET, FakeKubelet
from fakekubelet import faults as presets
from fakekubelet.faults import PRESETS, Fault
from kubeletclient import (
    BadRequest,
    ClientError,
    ConnectionLost,
    Deadlines,
    Forbidden,
    InvalidAnswer,
    Keepalive,
    NotFound,
    PeerNotResponding,
    ProtocolNotSupported,
    Redirected,
    ServerError,
    TooManyRequests,
    Unauthorized,
    UpgradeMissing,
    UpgradeRefused,
    UpgradeTimeout,
)
from support.flavours import Flavour, flavour_fixture
from support.gopeers import random_bytes
from support.lines import ERR, OUT, PATIENT, judge_beginning

flavour = flavour_fixture()

SPDY, V4, V5 = "spdy", "ws:v4.channel.k8s.io", "ws:v5.channel.k8s.io"
WEBSOCKET = (V4, V5)
EVERY = (SPDY, V4, V5)
CAN_END_STDIN = (SPDY, V5)
SHORT = Deadlines(dial=9, tls=9, upgrade=9, stream_reply=0.4, status=0.4, drain=0.4)
HASTY = Deadlines(dial=9, tls=9, upgrade=0.4, stream_reply=9, status=9, drain=9)
LIVELY = Keepalive(period=0.1, deadline=0.5)
BIG = random_bytes(300_000, "presets")


@dataclass(frozen=True)
class Case:
    """A fault, what is run under it, and how that must end: by this very error, or (None) as if there were no fault."""

    fault: Fault
    ends: type[ClientError] | None
    wires: tuple[str, ...] = EVERY
    command: tuple[str, ...] = ("both", "3")
    stdin: bytes | None = None
    stdout: bytes = OUT
    stderr: bytes = ERR
    options: dict[str, Any] = field(default_factory=lambda: {"deadlines": PATIENT})

    def __str__(self) -> str:
        return f"{self.fault}".replace("/", "_")


def case(fault: Fault, ends: type[ClientError] | None = None, wires: tuple[str, ...] = EVERY, **more: Any) -> Case:
    return Case(fault, ends, wires, **more)


def upload(fault: Fault, ends: type[ClientError] | None = None) -> Case:
    return Case(fault, ends, CAN_END_STDIN, ("cat",), BIG, BIG, b"")


def download(fault: Fault, ends: type[ClientError] | None = None, wires: tuple[str, ...] = EVERY) -> Case:
    return Case(fault, ends, wires, ("random", str(len(BIG)), "presets"), None, BIG, b"")


def waiting(fault: Fault, ends: type[ClientError] | None, *command: str, **options: Any) -> Case:
    """With short deadlines, and pings all the time."""
    options = {"deadlines": SHORT, "keepalive": LIVELY, **options}
    return Case(fault, ends, EVERY, command or ("both", "3"), options=options)


CUTS = [presets.CutOutput(after, how) for after in (0, 1, 20, 60) for how in ("fin", "rst", "close_notify")]
CASES = [
    *(case(fault, ConnectionLost) for fault in CUTS),
    *(download(presets.CutOutput(150_000, how), ConnectionLost) for how in ("fin", "close_notify")),
    *(
        upload(presets.CutInput(after, how), ConnectionLost)
        for after in (0, 150_000)
        for how in ("fin", "close_notify")
    ),
    upload(presets.CutInput(150_000, "rst"), ConnectionLost),
    waiting(presets.Silence(), PeerNotResponding),
    waiting(presets.Silence(50), PeerNotResponding),
    waiting(presets.IdleCut(1.0), ConnectionLost, "sleep", "20", keepalive=None, deadlines=PATIENT),
    Case(
        presets.IdleCut(2.0), None, EVERY, ("sleep", "3"), None, b"", b"", {"keepalive": LIVELY, "deadlines": PATIENT}
    ),
    case(presets.SplitWrites()),
    download(presets.SplitWrites(1000)),
    upload(presets.SplitWrites(1000)),
    case(presets.SlowLink(2000)),
    download(presets.SlowLink(1_000_000)),
    upload(presets.SlowReader(1_000_000)),
    waiting(presets.StallStream("stdout"), PeerNotResponding),
    waiting(presets.StallStream("stderr", 6), PeerNotResponding),
    waiting(presets.StallStream("error"), PeerNotResponding),
    case(presets.LostStatus(), ConnectionLost),
    waiting(presets.LateStatus(60), PeerNotResponding),
    case(presets.LateStatus(0.2)),
    case(presets.EarlyStatus()),
    download(presets.EarlyStatus()),
    case(presets.ResetStreams(), None, (SPDY,)),
    case(presets.ResetStreams(6), ConnectionLost, (SPDY,)),
    case(presets.EarlyGoaway(), ConnectionLost),
    download(presets.EarlyGoaway(150_000), ConnectionLost),
    case(presets.CloseCode(1001), ConnectionLost, WEBSOCKET),
    case(presets.CloseCode(1011), ConnectionLost, WEBSOCKET),
    case(presets.CloseCode(1000), ConnectionLost, WEBSOCKET),
    case(presets.CorruptHeaders(), ConnectionLost, (SPDY,)),
    Case(presets.NoReply(), PeerNotResponding, (SPDY,), options={"deadlines": SHORT}),
    case(presets.FragmentedMessages(1), None, WEBSOCKET),
    download(presets.FragmentedMessages(), None, WEBSOCKET),
    waiting(presets.NoPong(), PeerNotResponding, "sleep", "20"),
    case(presets.WrongProtocol(), ProtocolNotSupported),
    case(presets.NoProtocol(), ProtocolNotSupported, WEBSOCKET),
    case(presets.NoProtocol(), ConnectionLost, (SPDY,)),  # taken for v1, whose error stream holds no JSON
    case(presets.WrongAccept(), InvalidAnswer, WEBSOCKET),
    case(presets.Refuse(200), UpgradeMissing),
    case(presets.Refuse(307), Redirected),
    case(presets.Refuse(400), BadRequest),
    case(presets.Refuse(401), Unauthorized),
    case(presets.Refuse(403), Forbidden),
    case(presets.Refuse(404), NotFound),
    case(presets.Refuse(418), UpgradeRefused),
    case(presets.Refuse(429), TooManyRequests),
    *(case(presets.Refuse(code), ServerError) for code in (500, 502, 503, 504)),
    case(presets.Refuse(503, status=True), ServerError),
    waiting(presets.NoAnswer(), UpgradeTimeout, deadlines=HASTY),
    case(presets.NoAnswer(0.2)),
    case(presets.CutAnswer(), ConnectionLost),
    case(presets.CutAnswer(0), ConnectionLost),
]
JUDGED_ELSEWHERE = {
    presets.ResetAtTheEnd: "test_a_reset_in_place_of_the_end",
    presets.LoseTail: "test_a_loss_that_no_exec_can_see",
}


@pytest.fixture(scope="module")
def kubelet() -> Iterator[FakeKubelet]:
    with FakeKubelet(anonymous=True, websocket_protocols=ALL_WEBSOCKET) as kubelet:
        yield kubelet


def attempt(flavour: Flavour, kubelet: FakeKubelet, wire: str, case: Case) -> Any:
    """The result, or the error."""
    node = flavour.node(kubelet.url, ca=kubelet.ca, transport=wire, **case.options)
    try:
        given: dict[str, Any] = {} if case.stdin is None else {"input": case.stdin}
        return node.run(*case.command, timeout=50, **given)
    except ClientError as error:
        return error
    finally:
        node.close()


@pytest.mark.parametrize(
    ("case", "wire"), [pytest.param(case, wire, id=f"{case}-{wire}") for case in CASES for wire in case.wires]
)
def test_a_preset(flavour: Flavour, kubelet: FakeKubelet, case: Case, wire: str) -> None:
    kubelet.faults = [case.fault]
    began = time.monotonic()
    result = attempt(flavour, kubelet, wire, case)
    assert time.monotonic() - began < 30
    if case.ends is None:
        assert not isinstance(result, ClientError), result
        assert (result.returncode, result.stdout, result.stderr) == (0, case.stdout, case.stderr)
        assert case.fault.harmless or isinstance(case.fault, presets.LateStatus | presets.NoAnswer)
    else:
        assert type(result) is case.ends, result
        assert result.hint
        judge_beginning(result, case.stdout, case.stderr)
        if isinstance(result, ConnectionLost):
            assert result.owed


def test_every_preset_is_judged() -> None:
    judged = {type(case.fault) for case in CASES} | set(JUDGED_ELSEWHERE)
    assert judged == set(PRESETS.values())
    for name in JUDGED_ELSEWHERE.values():
        assert name in globals()


@pytest.mark.parametrize("wire", EVERY)
def test_a_reset_in_place_of_the_end(flavour: Flavour, kubelet: FakeKubelet, wire: str) -> None:
    """It may destroy what is on its way: the whole result, or a loss, and nothing in between."""
    kubelet.faults = [presets.ResetAtTheEnd()]
    for _ in range(10):
        result = attempt(flavour, kubelet, wire, case(presets.ResetAtTheEnd()))
        if isinstance(result, ClientError):
            assert type(result) is ConnectionLost
            judge_beginning(result, OUT, ERR)
        else:
            assert (result.returncode, result.stdout, result.stderr) == (0, OUT, ERR)


@pytest.mark.parametrize("wire", EVERY)
def test_a_loss_that_no_exec_can_see(flavour: Flavour, kubelet: FakeKubelet, wire: str) -> None:
    """The server lost the end and calls it a success. What came is right as far as it goes; only a digest tells."""
    kubelet.faults = [presets.LoseTail(1000)]
    result = attempt(flavour, kubelet, wire, download(presets.LoseTail(1000)))
    assert (result.returncode, result.stdout) == (0, BIG[:-1000])


@pytest.mark.parametrize("wire", [SPDY, V5])
def test_presets_work_together(flavour: Flavour, kubelet: FakeKubelet, wire: str) -> None:
    kubelet.faults = [presets.SplitWrites(7), presets.EarlyStatus(), presets.SlowReader(4_000_000)]
    result = attempt(flavour, kubelet, wire, upload(presets.SplitWrites(7)))
    assert (result.returncode, result.stdout) == (0, BIG)
    kubelet.faults = [presets.SplitWrites(7), presets.CutOutput(20_000)]
    result = attempt(flavour, kubelet, wire, upload(presets.SplitWrites(7)))
    assert type(result) is ConnectionLost
    judge_beginning(result, BIG)
    assert 19_000 < result.received["stdout"] < 20_000


def test_a_session_without_faults_is_the_servers_own(flavour: Flavour, kubelet: FakeKubelet) -> None:
    """What comes after the faults is as it was before them."""
    kubelet.faults = []
    for wire in EVERY:
        result = attempt(flavour, kubelet, wire, case(presets.LostStatus()))
        assert (result.returncode, result.stdout, result.stderr) == (0, OUT, ERR)
