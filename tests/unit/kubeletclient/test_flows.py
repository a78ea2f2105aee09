"""The control plane as playbooks: what each step asks of the driver, and which error each fault becomes."""

from __future__ import annotations

import errno
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from kubeletclient import errors
from kubeletclient._flows import (
    Connect,
    Established,
    ExecRequest,
    Flow,
    Load,
    Receive,
    Resolve,
    Send,
    StartTLS,
    exec_flow,
)
from kubeletclient._trust import Trust
from kubeletclient.credentials import BearerToken
from kubeletclient.endpoints import exec_target, parse_endpoint, parse_target
from spdyproto.channels.events import StreamSet
from spdyproto.channels.subprotocols import CLIENT_OFFER, Subprotocol
from spdyproto.limits import Deadlines

CA = trustme.CA().cert_pem.bytes()
ONE = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 10250))
TWO = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fd00::1", 10250, 0, 0))
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
V4 = b"X-Stream-Protocol-Version: v4.channel.k8s.io\r\n"


def request(url: str = "https://node:10250", trust: Trust | None = None, **more: Any) -> ExecRequest:
    target = exec_target(parse_endpoint(url), "ns", "pod", "main", ["ls", "/"], StreamSet(), None)
    return ExecRequest(target, trust or Trust(ca=CA), StreamSet(), "kubewire/test", **more)


def play(flow: Flow, *answers: Any) -> Any:
    """Give the flow these answers, in order; exceptions are thrown into it. Returns what it asks for then."""
    command: Any = None
    for answer in answers:
        command = flow.throw(answer) if isinstance(answer, BaseException) else flow.send(answer)
    return command


def to_receive(flow: Flow) -> Send:
    """Go through the steps before the answer; returns the request that was sent."""
    command: Any = next(flow)
    sent: Send | None = None
    while not isinstance(command, Receive):
        if isinstance(command, Send):
            sent = command
        if isinstance(command, Load):
            command = flow.send(command.function(None))
        else:
            command = flow.send([ONE] if isinstance(command, Resolve) else None)
    assert sent is not None
    return sent


def answered(*chunks: bytes, **more: Any) -> Established:
    """Run a flow whose server answers with these chunks."""
    flow = exec_flow(request(**more))
    to_receive(flow)
    with pytest.raises(StopIteration) as done:
        play(flow, *chunks)
    established: Established = done.value.value
    return established


def refused(answer: bytes, **more: Any) -> errors.ClientError:
    """The error that this answer becomes, at its end of input if need be."""
    flow = exec_flow(request(**more))
    to_receive(flow)
    with pytest.raises(errors.ClientError) as caught:
        play(flow, answer, b"")
    assert caught.value.url == "https://node:10250/exec/ns/pod/main"
    assert caught.value.route == "kubelet"
    return caught.value


def test_the_steps_in_order() -> None:
    deadlines = Deadlines(dial=1, tls=2, upgrade=3)
    flow = exec_flow(request(deadlines=deadlines))
    load = next(flow)
    assert isinstance(load, Load)
    context = load.function(None)
    assert isinstance(context, ssl.SSLContext)
    assert flow.send(context) == Resolve("node", 10250, 1)
    assert flow.send([ONE, TWO]) == Connect(ONE, 1)
    assert flow.send(None) == StartTLS(context, "node", 2)
    send = flow.send(None)
    assert isinstance(send, Send)
    assert send.timeout == 3
    receive = flow.send(None)
    assert isinstance(receive, Receive)
    assert receive.timeout == pytest.approx(3, abs=1)
    assert isinstance(flow.send(SWITCH), Receive)
    with pytest.raises(StopIteration) as done:
        flow.send(V4 + b"\r\nsurplus")
    established = done.value.value
    assert established.protocol is Subprotocol.V4
    assert established.surplus == b"surplus"
    assert not established.session.ready


def test_the_request_on_the_wire() -> None:
    sent = to_receive(exec_flow(request(trust=Trust(ca=CA, credentials=BearerToken("t0ken")))))
    head, _, rest = sent.data.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /exec/ns/pod/main?command=ls&command=%2F&output=1&error=1 HTTP/1.1"
    assert lines.count("Host: node:10250") == 1
    assert "User-Agent: kubewire/test" in lines
    assert "Authorization: Bearer t0ken" in lines
    assert [line for line in lines if line.startswith("X-Stream")] == [
        f"X-Stream-Protocol-Version: {protocol}" for protocol in CLIENT_OFFER
    ]
    assert rest == b"", "nothing may follow the head before the answer"


def test_a_ready_context_and_token_need_no_loading() -> None:
    trust = Trust(ca=CA, credentials=BearerToken("t"))
    trust.context()
    assert isinstance(next(exec_flow(request(trust=trust))), Resolve)


def test_a_token_file_is_loaded_by_the_driver(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("from-file")
    trust = Trust(ca=CA, credentials=BearerToken(file=tmp_path / "t"))
    sent = to_receive(exec_flow(request(trust=trust)))
    assert b"Authorization: Bearer from-file\r\n" in sent.data


def test_plain_http_skips_tls_and_sends_no_token() -> None:
    one_time = parse_target("http://127.0.0.1:4000/exec/T0ken")
    flow = exec_flow(ExecRequest(one_time, Trust(), StreamSet(), "agent"))
    assert next(flow) == Resolve("127.0.0.1", 4000, 30.0)
    assert isinstance(flow.send([ONE]), Connect)
    send = flow.send(None)
    assert isinstance(send, Send)
    assert send.data.startswith(b"POST /exec/T0ken HTTP/1.1\r\n")


def test_a_token_for_an_unverified_server_stops_the_flow_before_its_first_step() -> None:
    with pytest.raises(errors.UnverifiedTokenError):
        next(exec_flow(request("http://node", trust=Trust(credentials=BearerToken("t")))))


def test_the_name_to_verify_can_be_given() -> None:
    flow = exec_flow(request(trust=Trust(ca=CA, server_name="kubelet.internal")))
    command: Any = next(flow)
    while not isinstance(command, StartTLS):
        answer = (
            command.function(None) if isinstance(command, Load) else [ONE] if isinstance(command, Resolve) else None
        )
        command = flow.send(answer)
    assert command.server_name == "kubelet.internal"


def test_addresses_are_tried_in_order() -> None:
    flow = exec_flow(request("http://node:1"))
    next(flow)
    assert flow.send([ONE, TWO]) == Connect(ONE, 30.0)
    assert flow.throw(ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")) == Connect(TWO, 30.0)
    assert isinstance(flow.send(None), Send)


def dial_error(*faults: OSError) -> errors.ClientError:
    flow = exec_flow(request("http://node:1"))
    next(flow)
    flow.send([ONE] * len(faults))
    with pytest.raises(errors.ConnectError) as caught:
        play(flow, *faults)
    assert caught.value.__cause__ is faults[-1]
    return caught.value


REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
UNREACHABLE = OSError(errno.EHOSTUNREACH, "No route to host")


@pytest.mark.parametrize(
    ("faults", "kind", "text"),
    [
        ([REFUSED], errors.ConnectionRefused, "nothing listens on port 1: 10.0.0.1 .*a kubelet listens on 10250"),
        ([TimeoutError(), TimeoutError()], errors.DialTimeout, "nothing answered on port 1: .*timed out.*firewall"),
        ([TimeoutError(), REFUSED], errors.ConnectionRefused, "timed out.*Connection refused"),
        ([UNREACHABLE], errors.ConnectError, "No route to host.*check the route"),
        ([PermissionError(errno.EACCES, "denied")], errors.ConnectError, "denied.*check the address"),
    ],
)
def test_dial_faults(faults: list[OSError], kind: type[errors.ClientError], text: str) -> None:
    error = dial_error(*faults)
    assert type(error) is kind
    with pytest.raises(kind, match=text):
        raise error


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (
            socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
            "'node' has no address: Name or service not known",
        ),
        (TimeoutError(), "'node' was not resolved in time"),
        (UnicodeError("label too long"), "'node' has no address: label too long"),
    ],
)
def test_resolver_faults(fault: Exception, text: str) -> None:
    flow = exec_flow(request("http://node:1"))
    next(flow)
    with pytest.raises(errors.NameResolutionError, match=text):
        flow.throw(fault)


def test_a_name_without_any_address() -> None:
    flow = exec_flow(request("http://node:1"))
    next(flow)
    with pytest.raises(errors.NameResolutionError, match="empty list"):
        flow.send([])


def ssl_error(reason: str, kind: type[ssl.SSLError] = ssl.SSLError) -> ssl.SSLError:
    error = kind(1, f"[SSL: {reason}] whatever")
    error.reason = reason
    return error


def verify_error(code: int, message: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = code, message
    return error


TLS_FAULTS = [
    (verify_error(20, "unable to get local issuer certificate"), errors.UnknownAuthorityError, "give ca="),
    (verify_error(18, "self-signed certificate"), errors.UnknownAuthorityError, "self-signed"),
    (verify_error(10, "certificate has expired"), errors.CertificateExpiredError, "expired.*clock"),
    (verify_error(9, "certificate is not yet valid"), errors.CertificateExpiredError, "not yet valid"),
    (verify_error(62, "Hostname mismatch"), errors.CertificateNameError, "not valid for 'node'.*server_name="),
    (verify_error(64, "IP address mismatch"), errors.CertificateNameError, "server_name="),
    (
        verify_error(7, "certificate signature failure"),
        errors.CertificateVerifyError,
        "not accepted: certificate signature",
    ),
    (TimeoutError(), errors.TLSTimeout, "did not finish the TLS handshake"),
    (ssl_error("UNEXPECTED_EOF", ssl.SSLEOFError), errors.HandshakeCutError, "cut during the TLS handshake"),
    (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), errors.HandshakeCutError, "reset by peer"),
    (ssl_error("WRONG_VERSION_NUMBER"), errors.NotTLSError, "does not speak TLS.*use http://"),
    (ssl_error("HTTP_REQUEST"), errors.NotTLSError, "does not speak TLS"),
    (ssl_error("TLSV13_ALERT_CERTIFICATE_REQUIRED"), errors.ClientCertificateRejected, "client CA"),
    (ssl_error("TLSV1_ALERT_UNKNOWN_CA"), errors.ClientCertificateRejected, "did not accept our client certificate"),
    (ssl_error("SSLV3_ALERT_BAD_CERTIFICATE"), errors.ClientCertificateRejected, "client certificate"),
    (ssl_error("TLSV1_ALERT_PROTOCOL_VERSION"), errors.TLSError, "TLS 1.2 is the oldest"),
    (ssl_error("SSLV3_ALERT_HANDSHAKE_FAILURE"), errors.TLSError, "handshake failed .SSLV3_ALERT_HANDSHAKE_FAILURE"),
]


@pytest.mark.parametrize(("fault", "kind", "text"), TLS_FAULTS)
def test_tls_faults(fault: OSError, kind: type[errors.ClientError], text: str) -> None:
    flow = exec_flow(request())
    command: Any = next(flow)
    while not isinstance(command, StartTLS):
        answer = (
            command.function(None) if isinstance(command, Load) else [ONE] if isinstance(command, Resolve) else None
        )
        command = flow.send(answer)
    with pytest.raises(kind, match=text) as caught:
        flow.throw(fault)
    assert type(caught.value) is kind
    assert caught.value.__cause__ is fault
    assert isinstance(caught.value, ConnectionError), "the server has seen no request"


ANSWERS = [
    (
        b"400 Bad Request",
        b"you must specify at least 1 of stdin, stdout, stderr",
        errors.BadRequest,
        "check the command",
    ),
    (b"401 Unauthorized", b"Unauthorized", errors.Unauthorized, "HTTP 401: Unauthorized; give a certificate"),
    (b"403 Forbidden", b"Forbidden (user=u, verb=create)", errors.Forbidden, "user=u.*`create` on `nodes/proxy`"),
    (b"404 Not Found", b"pod does not exist", errors.NotFound, "pod does not exist; check namespace and pod"),
    (b"429 Too Many Requests", b"busy", errors.TooManyRequests, "try again in a minute"),
    (b"500 Internal Server Error", b'container not found ("x")', errors.ServerError, "check the container name"),
    (b"503 Service Unavailable", b"", errors.ServerError, "HTTP 503"),
    (b"418 I'm a teapot", b"short", errors.UpgradeRefused, "HTTP 418: short"),
    (b"302 Found", b"", errors.Redirected, "redirects are not followed"),
    (b"200 OK", b"<html>", errors.UpgradeMissing, "lets upgrades pass"),
]


@pytest.mark.parametrize(("line", "body", "kind", "text"), ANSWERS)
def test_refusals(line: bytes, body: bytes, kind: type[errors.UpgradeRefused], text: str) -> None:
    answer = b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (line, len(body), body)
    error = refused(answer)
    assert type(error) is kind
    assert error.http_status == int(line[:3])
    with pytest.raises(kind, match=text):
        raise error


def test_a_status_object_gives_its_message() -> None:
    body = b'{"kind":"Status","status":"Failure","message":"no can do","code":403}'
    error = refused(b"HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    assert isinstance(error, errors.Forbidden)
    assert error.message == "no can do"


def test_text_of_a_server_cannot_move_the_cursor() -> None:
    error = refused(b"HTTP/1.1 500 Oops\r\nContent-Length: 9\r\n\r\na\x1b[2Jb\r\nc")
    assert isinstance(error, errors.ServerError)
    assert error.message == r"a\x1b[2Jb\r\nc"
    assert "\x1b" not in str(error)


def test_no_protocol_in_common() -> None:
    error = refused(
        b"HTTP/1.1 403 Forbidden\r\nX-Accepted-Stream-Protocol-Versions: v9.channel.k8s.io\r\n"
        b"X-Accepted-Stream-Protocol-Versions: v8.channel.k8s.io\r\nContent-Length: 2\r\n\r\nno"
    )
    assert type(error) is errors.ProtocolNotSupported
    assert "the server speaks v9.channel.k8s.io, v8.channel.k8s.io" in str(error)


def test_a_one_time_url_that_is_used_up() -> None:
    flow = exec_flow(ExecRequest(parse_target("http://h/exec/T"), Trust(), StreamSet(), "a"))
    to_receive(flow)
    with pytest.raises(errors.NotFound, match="ask for a new one"):
        flow.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")


def test_http_sent_to_a_tls_port() -> None:
    flow = exec_flow(ExecRequest(parse_target("http://h/exec/T"), Trust(), StreamSet(), "a"))
    to_receive(flow)
    with pytest.raises(errors.BadRequest, match="use https://"):
        play(flow, b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n", b"")


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            errors.UpgradeMissing,
        ),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", errors.UpgradeMissing),
        (SWITCH + b"X-Stream-Protocol-Version: v9.channel.k8s.io\r\n\r\n", errors.ProtocolNotSupported),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", errors.InvalidAnswer),
        (b"\x15\x03\x03\x00\x02\x02\x46\r\n\r\n", errors.InvalidAnswer),
    ],
)
def test_answers_that_are_no_upgrade(answer: bytes, kind: type[errors.ClientError]) -> None:
    assert type(refused(answer)) is kind


def test_no_protocol_header_means_version_1() -> None:
    assert answered(SWITCH + b"\r\n").protocol is Subprotocol.V1


def test_the_end_before_an_answer() -> None:
    error = refused(b"")
    assert type(error) is errors.ConnectionLost
    assert error.owed == ("the answer to the upgrade request",)
    assert type(refused(b"HTTP/1.1 101 Swi")) is errors.ConnectionLost


@pytest.mark.parametrize(
    ("fault", "kind", "text"),
    [
        (TimeoutError(), errors.UpgradeTimeout, "did not answer within 30 s"),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), errors.ConnectionLost, "reset by peer"),
        (ssl_error("TLSV13_ALERT_CERTIFICATE_REQUIRED"), errors.ClientCertificateRejected, "client certificate"),
        (ssl_error("SSLV3_ALERT_BAD_RECORD_MAC"), errors.ConnectionLost, "before it answered"),
    ],
)
def test_faults_while_waiting_for_the_answer(fault: OSError, kind: type[errors.ClientError], text: str) -> None:
    flow = exec_flow(request())
    to_receive(flow)
    with pytest.raises(kind, match=text) as caught:
        flow.throw(fault)
    assert type(caught.value) is kind


@pytest.mark.parametrize("fault", [TimeoutError(), ConnectionResetError(errno.ECONNRESET, "reset")])
def test_a_refusal_whose_body_never_ends_is_still_that_refusal(fault: OSError) -> None:
    flow = exec_flow(request())
    to_receive(flow)
    assert isinstance(flow.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 900\r\n\r\nForbidden (user"), Receive)
    with pytest.raises(errors.Forbidden, match=r"Forbidden \(user"):
        flow.throw(fault)


def test_what_a_server_said_before_it_hung_up_is_read() -> None:
    flow = exec_flow(request("http://node:1"))
    next(flow)
    assert isinstance(play(flow, [ONE], None), Send)
    assert isinstance(flow.throw(BrokenPipeError(errno.EPIPE, "Broken pipe")), Receive)
    with pytest.raises(errors.Unauthorized):
        flow.send(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")


def test_the_upgrade_deadline_covers_all_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 50.0
    monkeypatch.setattr("kubeletclient._flows.time.monotonic", lambda: now)
    flow = exec_flow(request("http://node:1", deadlines=Deadlines(upgrade=10)))
    to_receive(flow)
    now += 4
    assert flow.send(b"HTTP/1.1 1") == Receive(6)
    now += 7
    assert flow.send(b"01 S") == Receive(0)


def test_no_deadline_waits_for_ever() -> None:
    flow = exec_flow(request("http://node:1", deadlines=Deadlines(dial=None, upgrade=None)))
    assert next(flow) == Resolve("node", 1, None)
    flow.send([ONE])
    flow.send(None)
    assert flow.send(None) == Receive(None)


def test_a_name_that_leads_back_here_is_not_dialled() -> None:
    """DNS could say so of a node's name; what is written as an address is refused before."""
    loopback = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 10250))
    metadata = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", 10250))
    flow = exec_flow(request(allow_local=False))
    play(flow, None, None)
    with pytest.raises(errors.ConnectError, match=r"refused: it is a loopback.*refused: it is a link-local"):
        flow.send([loopback, metadata])
    flow = exec_flow(request(allow_local=False))
    play(flow, None, None)
    assert flow.send([loopback, ONE]) == Connect(ONE, 30.0)
