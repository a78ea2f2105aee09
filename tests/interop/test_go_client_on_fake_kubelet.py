"""Kubernetes' own client on the fake kubelet: what it cannot tell from a real one, no test of ours will."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from fakekubelet import Attributes, CertificateAuthority, Container, FakeKubelet, Pod, User
from spdyproto.channels.subprotocols import Subprotocol
from support.contract import GIB, MIB, HashSink, hashed_blocks
from support.gopeers import GoReport, random_bytes, run_go_client

pytestmark = [pytest.mark.interop, pytest.mark.usefixtures("go_peers")]

VERSIONS = {"v1": Subprotocol.V1, "v2": Subprotocol.V2, "v3": Subprotocol.V3, "v4": Subprotocol.V4}
SESSIONS = 200


class Run(Protocol):
    def __call__(self, *command: str, **options: Any) -> GoReport: ...


class Guest:
    """A Go client with a certificate of the kubelet's authority, in files as it wants them."""

    def __init__(self, kubelet: FakeKubelet, folder: Path) -> None:
        self.kubelet = kubelet
        self.folder = folder
        self.ca = folder / "ca.crt"
        self.ca.write_bytes(kubelet.ca)
        self.identity = self.write("client", kubelet.authority)

    def write(self, name: str, authority: CertificateAuthority, groups: tuple[str, ...] = ()) -> dict[str, Path]:
        pair = authority.issue_client(name, groups)
        certificate, key = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        certificate.write_bytes(pair.cert_pem)
        key.write_bytes(pair.key_pem)
        return {"certificate": certificate, "key": key}

    def run(self, *command: str, **options: Any) -> GoReport:
        return run_go_client(self.kubelet.url, command, **{"ca": self.ca, **self.identity, **options})


@pytest.fixture(scope="module")
def guest(go_peers: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    with FakeKubelet() as kubelet:
        yield Guest(kubelet, tmp_path_factory.mktemp("guest"))


@pytest.fixture
def run(guest: Guest) -> Run:
    return guest.run


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_text(run: Run) -> None:
    report = run("echo", "naïve", "", " a&b=c ")
    assert (report.exit_code, report.error, report.stderr) == (0, "", b"")
    assert report.stdout.decode() == "naïve   a&b=c \n"


def test_binary(run: Run) -> None:
    every = bytes(range(256)) * 513
    assert run("cat", stdin=every).stdout == every


@pytest.mark.parametrize("code", [0, 1, 3, 127, 255])
def test_exit_codes(run: Run, code: int) -> None:
    report = run("exit", str(code))
    assert (report.exit_code, report.session.exited) == (code, True)


def test_failure_of_the_runtime(run: Run) -> None:
    report = run("fail", "no luck")
    assert (report.exit_code, report.session.exited) == (255, False)
    assert "no luck" in report.error


def test_outputs_stay_apart(run: Run) -> None:
    report = run("both", "3000")
    assert report.stdout == b"".join(b"out %d\n" % i for i in range(3000))
    assert report.stderr == b"".join(b"err %d\n" % i for i in range(3000))


@pytest.mark.parametrize("wanted", [{"stdout": "none"}, {"stderr": "none"}])
def test_only_the_outputs_that_were_asked_for(run: Run, wanted: dict[str, str]) -> None:
    report = run("both", "2", **wanted)
    assert report.exit_code == 0
    assert (report.stdout == b"") is ("stdout" in wanted)
    assert (report.stderr == b"") is ("stderr" in wanted)


def test_half_close(run: Run) -> None:
    assert run("cat", stdin=b"until here").stdout == b"until here"
    assert run("sink", stdin=b"").stdout.decode() == f"0 {digest(b'')}\n"


def test_both_ways_at_once(run: Run) -> None:
    report = run("cat", stdin=f"random:{16 * MIB + 1}:echo", stdout="hash")
    assert report.session.stdout.bytes == 16 * MIB + 1
    assert report.session.stdout.sha256 == digest(random_bytes(16 * MIB + 1, "echo"))


def test_generators_agree(run: Run) -> None:
    assert run("random", "100001", "7").stdout == random_bytes(100001, 7)
    assert run("source", str(MIB)).stdout == bytes(MIB)


@pytest.fixture(scope="module")
def gibibyte() -> str:
    """The digest of a GiB of random bytes."""
    sink = HashSink()
    for _ in hashed_blocks(GIB, "gibibyte", sink):
        pass
    return sink.seen[1]


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_download_of_a_gibibyte(run: Run, gibibyte: str) -> None:
    report = run("random", str(GIB), "gibibyte", stdout="hash")
    assert (report.exit_code, report.session.stdout.bytes, report.session.stdout.sha256) == (0, GIB, gibibyte)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_upload_of_a_gibibyte(run: Run, gibibyte: str) -> None:
    report = run("sink", stdin=f"random:{GIB}:gibibyte")
    assert report.stdout.decode() == f"{GIB} {gibibyte}\n"


def test_command_that_ends_while_stdin_flows(run: Run) -> None:
    assert run("early-exit", "10", stdin=f"zero:{64 * MIB}").exit_code == 0


@pytest.mark.parametrize("size", [10, 64 * MIB])
def test_unread_stdin(run: Run, size: int) -> None:
    assert run("ignore-stdin", "0.5", stdin=f"zero:{size}").exit_code == 0


def test_stdin_that_is_never_ended(run: Run) -> None:
    assert run("echo", "done", stdin="hold").stdout == b"done\n"


def test_terminal_sizes(run: Run) -> None:
    assert run("sizes", "2", tty=True, resize=[(80, 24), (132, 43)]).stdout == b"80x24\n132x43\n"


def test_terminal_with_stdin(run: Run) -> None:
    assert run("early-exit", "5", tty=True, stdin=b"typed", resize=[(80, 24)]).exit_code == 0


def test_many_sessions_at_once(run: Run) -> None:
    """All of them hold their stdin open for as long as they are connected, so all are connected at once."""
    report = run("sleep", "1.5", stdin="hold", repeat=SESSIONS, parallel=SESSIONS, stdout="hash", stderr="hash")
    assert [s.exit_code for s in report.sessions] == [0] * SESSIONS
    assert report.wall_seconds < 2 * SESSIONS  # they did not run one after another
    report = run("cat", stdin="random:65536:many", repeat=SESSIONS, parallel=50, stdout="hash", stderr="hash")
    assert {s.stdout.sha256 for s in report.sessions} == {digest(random_bytes(65536, "many"))}
    assert len(report.sessions) == SESSIONS


@pytest.mark.parametrize("offer", VERSIONS)
def test_each_version_asked_for(run: Run, offer: str) -> None:
    check_version(run, offer, protocols=offer)


@pytest.mark.parametrize("only", VERSIONS)
def test_each_version_spoken_alone(tmp_path: Path, only: str) -> None:
    with FakeKubelet(protocols=[VERSIONS[only]]) as kubelet:
        check_version(Guest(kubelet, tmp_path).run, only)


def check_version(run: Run, version: str, **options: Any) -> None:
    """What a session of that version is like for client-go."""
    report = run("both", "300", **options)
    assert (report.exit_code, report.error) == (0, "")
    assert report.stdout == b"".join(b"out %d\n" % i for i in range(300))
    assert report.stderr == b"".join(b"err %d\n" % i for i in range(300))
    failed = run("exit", "3", **options)
    if version == "v4":
        assert (failed.exit_code, failed.session.exited) == (3, True)
    elif version == "v1":
        # client-go's v1 resets the error stream early, so it is a race whether it hears of a failure.
        assert (failed.exit_code, "exit code 3" in failed.error) in [(0, False), (255, True)]
    else:
        assert failed.exit_code == 255
        assert "exit code 3" in failed.error
    if version == "v1":
        return  # client-go's v1 never ends stdin, and has no resizes
    assert run("cat", stdin=b"through", **options).stdout == b"through"
    assert run("fail", "no luck", **options).exit_code == 255
    if version != "v2":
        assert run("sizes", "1", tty=True, resize=[(80, 24)], **options).stdout == b"80x24\n"


def test_negotiation(run: Run, guest: Guest) -> None:
    for offer, chosen in (("v2,v4", Subprotocol.V2), ("v9.channel.k8s.io,v4,v3", Subprotocol.V4)):
        run("true", protocols=offer)
        assert guest.kubelet.executions[-1].request.protocol is chosen
    assert "unable to negotiate protocol" in run("true", protocols="v9.channel.k8s.io").error


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("form", ["/exec/default/demo/main", "/exec/default/demo/{uid}/main"])
def test_methods_and_paths(run: Run, guest: Guest, method: str, form: str) -> None:
    path = form.format(uid=guest.kubelet.pods["default/demo"].uid)
    assert run("echo", method, method=method, path=path).stdout.decode() == f"{method}\n"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/exec/default/other/main", "pod does not exist"),
        ("/exec/other/demo/main", "pod does not exist"),
        ("/exec/default/demo/other", 'container not found ("other")'),
    ],
)
def test_what_is_not_there(run: Run, path: str, text: str) -> None:
    report = run("echo", path=path)
    assert report.exit_code == 255
    assert text in report.error


def test_no_streams_at_all(run: Run) -> None:
    report = run("echo", stdout="none", stderr="none")
    assert "must specify at least 1 of stdin, stdout, stderr" in report.error


def test_credentials(run: Run, guest: Guest) -> None:
    assert "Unauthorized" in run("echo", certificate=None, key=None).error
    stranger = guest.write("stranger", CertificateAuthority.create())
    assert "Unauthorized" in run("echo", **stranger).error
    assert "certificate" in run("echo", ca=stranger["certificate"]).error


def test_bearer_token(tmp_path: Path) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_text("correct\n")
    bad.write_text("wrong\n")
    with FakeKubelet(tokens={"correct": User("alice", ("admins",))}) as kubelet:
        guest = Guest(kubelet, tmp_path)
        assert guest.run("echo", certificate=None, key=None, token_file=good).exit_code == 0
        assert kubelet.executions[-1].request.user.groups == ("admins", "system:authenticated")
        assert "Unauthorized" in guest.run("echo", certificate=None, key=None, token_file=bad).error


def test_forbidden(tmp_path: Path) -> None:
    def deny(attributes: Attributes) -> bool:
        return attributes.verb == "get"

    with FakeKubelet(authorize=deny) as kubelet:
        guest = Guest(kubelet, tmp_path)
        error = guest.run("echo").error
        assert "Forbidden (user=client, verb=create, resource=nodes, subresource(s)=[proxy])" in error
        assert guest.run("echo", method="GET").exit_code == 0


def test_processes(tmp_path: Path) -> None:
    pods = [Pod("default/host", [Container("main", processes=True)])]
    with FakeKubelet(pods, allow_processes=True) as kubelet:
        guest = Guest(kubelet, tmp_path)
        path = "/exec/default/host/main"
        report = guest.run("sh", "-c", "cat; echo oops >&2; exit 42", stdin=b"piped", path=path)
        assert (report.exit_code, report.stdout, report.stderr) == (42, b"piped", b"oops\n")
        assert guest.run("sh", "-c", "kill -TERM $$", path=path).exit_code == 128 + 15
        big = guest.run("sh", "-c", "cat | cat", stdin=f"random:{4 * MIB}:pipe", stdout="hash", path=path)
        assert big.session.stdout.sha256 == digest(random_bytes(4 * MIB, "pipe"))
        assert "no such file or directory" in guest.run("/no/such/program", path=path).error


def test_containers_written_in_python(tmp_path: Path) -> None:
    def shout(exec: Any) -> int:
        exec.stdout.write(exec.stdin.read().upper())
        exec.stderr.write(b"done\n")
        return 7

    with FakeKubelet([Pod("default/demo", [Container("main", behaviour=shout)])]) as kubelet:
        report = Guest(kubelet, tmp_path).run("anything", stdin=b"loud")
    assert (report.exit_code, report.stdout, report.stderr) == (7, b"LOUD", b"done\n")


def test_server_that_closes_while_clients_are_connected(tmp_path: Path) -> None:
    with FakeKubelet() as kubelet:
        guest = Guest(kubelet, tmp_path)
        guest.run("sleep", "600", timeout=0.3)
        (execution,) = kubelet.executions
        execution.wait_client_left(10)
        assert execution.running
    assert not execution.running
