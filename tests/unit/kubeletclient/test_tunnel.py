"""Dialling through proxies, step by step: what is said to them, and every way in which they may answer."""

from __future__ import annotations

import socket
import ssl
from typing import Any

import pytest
import trustme

from kubeletclient import errors
from kubeletclient._commands import Connect, Load, Receive, Resolve, Send, StartTLS
from kubeletclient._trust import Trust
from kubeletclient._tunnel import dial
from kubeletclient.endpoints import Target, parse_endpoint
from spdyproto.limits import Deadlines

ADDRESS = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.9", 3128))
CA = trustme.CA().cert_pem.bytes()


class Dialogue:
    """Runs the flow against answers: bytes for a Receive, an OSError for whatever is asked next of that kind."""

    def __init__(
        self, proxy: str, *answers: bytes | OSError, url: str = "https://node.test:10250", **faults: OSError
    ) -> None:
        self.answers = list(answers)
        self.faults = faults
        self.sent = b""
        self.commands: list[Any] = []
        endpoint = parse_endpoint(url)
        self.target = Target(endpoint, "/exec", f"{endpoint}/exec", "kubelet")
        self.trust = Trust(ca=CA, proxy=proxy)

    def run(self, **options: Any) -> None:
        flow = dial(self.target, self.trust, Deadlines(dial=30, tls=10), "agent/1", **options)
        try:
            command = next(flow)
            while True:
                self.commands.append(command)
                fault = self.faults.pop(type(command).__name__.lower(), None)
                answer = fault if fault is not None else self._answer(command)
                command = flow.throw(answer) if isinstance(answer, OSError) else flow.send(answer)
        except StopIteration:
            return

    def _answer(self, command: Any) -> Any:
        if isinstance(command, Load):
            return command.function(None)
        if isinstance(command, Resolve):
            return [ADDRESS]
        if isinstance(command, Send):
            self.sent += command.data
        return self.answers.pop(0) if isinstance(command, Receive) else None

    def fails(self, kind: type[errors.ClientError], text: str, **options: Any) -> errors.ClientError:
        with pytest.raises(kind) as caught:
            self.run(**options)
        assert type(caught.value) is kind
        assert text in str(caught.value)
        assert caught.value.hint
        assert (caught.value.url, caught.value.route) == ("https://node.test:10250/exec", "kubelet")
        for secret in ("s3cr3t", "amFuZ"):
            assert secret not in f"{caught.value}{caught.value!r}"
        return caught.value


def test_connect_without_a_password() -> None:
    talk = Dialogue("http://proxy.test:3128", b"HTTP/1.1 200 Connection established\r\n\r\n")
    talk.run()
    assert talk.sent == b"CONNECT node.test:10250 HTTP/1.1\r\nHost: node.test:10250\r\nUser-Agent: agent/1\r\n\r\n"
    assert talk.commands[0] == Resolve("proxy.test", 3128, 30)
    assert talk.commands[1] == Connect(ADDRESS, 30)


def test_connect_with_a_password() -> None:
    talk = Dialogue("http://jane:s3cr3t%40@proxy.test", b"HTTP/1.0 204 Fine\r\n\r\n")
    talk.run()
    assert b"\r\nProxy-Authorization: Basic amFuZTpzM2NyM3RA\r\n" in talk.sent
    assert talk.commands[0] == Resolve("proxy.test", 80, 30)


def test_the_port_is_told_even_where_it_is_the_schemes_own() -> None:
    for url, authority in (("https://node", b"node:443"), ("http://[fd00::1]", b"[fd00::1]:80")):
        talk = Dialogue("http://proxy.test", b"HTTP/1.1 200 OK\r\n\r\n", url=url)
        talk.run()
        assert talk.sent.startswith(b"CONNECT " + authority + b" HTTP/1.1\r\n")


def test_an_https_proxy_is_spoken_to_over_tls_and_knows_no_certificate_of_ours() -> None:
    talk = Dialogue("https://proxy.test", b"HTTP/1.1 200 OK\r\n\r\n")
    talk.run()
    tls = next(command for command in talk.commands if isinstance(command, StartTLS))
    assert (tls.server_name, tls.timeout) == ("proxy.test", 10)
    assert tls.context.verify_mode is ssl.CERT_REQUIRED
    assert talk.commands[0] == Resolve("proxy.test", 443, 30)


def test_an_answer_byte_by_byte_with_headers_and_a_hint_before_it() -> None:
    head = b"HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\nVia: x\r\nContent-Length: 5\r\n\r\n"
    Dialogue("http://p", *[head[i : i + 1] for i in range(len(head))]).run()


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        (b"HTTP/1.1 407 Auth\r\n\r\n", errors.ProxyAuthenticationError, "the proxy http://p:80 answered HTTP 407 Auth"),
        (b"HTTP/1.1 401 \r\n\r\n", errors.ProxyAuthenticationError, "answered HTTP 401;"),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", errors.ProxyError, "it does not connect to port 10250"),
        (b"HTTP/1.1 503 Not now\x1b\r\n\r\n", errors.ProxyError, "answered HTTP 503 Not now\\x1b;"),
        (
            b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 3\r\n\r\nabc",
            errors.ProxyError,
            "answered HTTP 502 Bad Gateway",
        ),
        (b"HTTP/1.1 302 Found\r\nLocation: http://x\r\n\r\n", errors.ProxyError, "answered HTTP 302 Found"),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", errors.ProxyError, "sent data of its own behind its answer"),
        (b"SSH-2.0-x\r\n\r\n", errors.ProxyError, "does not answer CONNECT in HTTP"),
        (b"x" * 20_000, errors.ProxyError, "does not answer CONNECT in HTTP"),
        (b"", errors.ProxyError, "closed the connection instead of an answer"),
    ],
)
def test_refusals(answer: bytes, kind: type[errors.ClientError], text: str) -> None:
    Dialogue("http://p", answer).fails(kind, text)
    Dialogue("http://jane:s3cr3t@p", answer).fails(kind, text)


def test_half_an_answer() -> None:
    Dialogue("http://p", b"HTTP/1.1 200 O", b"").fails(errors.ProxyError, "instead of an answer")


def test_faults_on_the_way_to_the_proxy() -> None:
    refused = ConnectionRefusedError(111, "Connection refused")
    Dialogue("http://p", connect=refused).fails(errors.ProxyError, "the proxy http://p:80 cannot be reached: nothing")
    gone = socket.gaierror(-2, "Name or service not known")
    Dialogue("http://p", resolve=gone).fails(errors.ProxyError, "cannot be reached: the name 'p' has no address")
    Dialogue("https://p", starttls=TimeoutError()).fails(errors.ProxyError, "did not finish the TLS handshake in time")
    distrust = ssl.SSLCertVerificationError(1, "certificate verify failed")
    distrust.verify_code, distrust.verify_message = 20, "unable to get local issuer certificate"
    Dialogue("https://p", starttls=distrust).fails(errors.ProxyError, "a proxy's certificate is checked against")
    Dialogue("http://p", receive=TimeoutError()).fails(
        errors.ProxyError, "did not connect us to node.test:10250 in time"
    )
    Dialogue("http://p", send=ConnectionResetError(104, "Connection reset")).fails(
        errors.ProxyError, "broke the connection"
    )


CONNECTED = b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"


def test_socks5_resolves_the_name_itself() -> None:
    talk = Dialogue("socks5://p", b"\x05\x00", CONNECTED)
    talk.run()
    assert talk.sent == b"\x05\x01\x00" + b"\x05\x01\x00\x03\x09node.test" + (10250).to_bytes(2, "big")
    assert talk.commands[0] == Resolve("p", 1080, 30)


def test_socks5_with_addresses() -> None:
    for url, packed in (
        ("https://10.0.0.1:1", b"\x01\x0a\x00\x00\x01"),
        ("https://[::2]:1", b"\x04" + bytes(15) + b"\x02"),
    ):
        talk = Dialogue("socks5://p", b"\x05\x00", CONNECTED, url=url)
        talk.run()
        assert talk.sent == b"\x05\x01\x00" + b"\x05\x01\x00" + packed + b"\x00\x01"


def test_socks5_with_a_password_and_answers_in_pieces() -> None:
    answers = b"\x05\x02\x01\x00\x05\x00\x00\x03\x03abc\x00\x50"
    talk = Dialogue("socks5://jane:s3cr3t@p", *[answers[i : i + 1] for i in range(len(answers))])
    talk.run()
    assert talk.sent.startswith(b"\x05\x02\x00\x02" + b"\x01\x04jane\x06s3cr3t" + b"\x05\x01\x00\x03")


@pytest.mark.parametrize(
    ("answers", "kind", "text"),
    [
        ([b"\x05\xff"], errors.ProxyAuthenticationError, "does not take the user name and password in its URL"),
        ([b"\x05\x02", b"\x01\x01"], errors.ProxyAuthenticationError, "does not take the user name and password"),
        ([b"\x05\x02", b"\x01\x00", b"\x05\x05\x00" + CONNECTED[3:]], errors.ProxyError, "the connection was refused"),
        ([b"\x05\x00", b"\x05\x02\x00" + CONNECTED[3:]], errors.ProxyError, "its rules do not allow"),
        ([b"\x05\x00", b"\x05\x00\x00\x09\x00"], errors.ProxyError, "does not answer in SOCKS5"),
        ([b"\x05\x00", b"\x05\x77\x00" + CONNECTED[3:]], errors.ProxyError, "does not answer in SOCKS5"),
        ([b"HT"], errors.ProxyError, "does not answer in SOCKS5"),
        ([b"HTTP/1.1 400"], errors.ProxyError, "sent data of its own"),
        ([b"\x05\x00", CONNECTED + b"x"], errors.ProxyError, "sent data of its own"),
        ([b"\x05\x00", b"\x05\x00", b""], errors.ProxyError, "instead of an answer"),
        ([b""], errors.ProxyError, "instead of an answer"),
    ],
)  # fmt: skip
def test_socks5_refusals(answers: list[bytes], kind: type[errors.ClientError], text: str) -> None:
    Dialogue("socks5://jane:s3cr3t@p", *answers).fails(kind, text)


def test_a_local_address_is_refused_behind_a_proxy_too() -> None:
    talk = Dialogue("http://p", url="https://169.254.169.254")
    with pytest.raises(errors.ConnectError, match="link-local"):
        talk.run(allow_local=False)
    assert talk.commands == []


def test_an_environment_that_names_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "ftp://jane:s3cr3t@p")
    monkeypatch.delenv("NO_PROXY", raising=False)
    talk = Dialogue("http://p")
    talk.trust = Trust(ca=CA)
    with pytest.raises(errors.ProxyError, match="HTTPS_PROXY is no usable proxy: its scheme is 'ftp'") as caught:
        talk.run()
    assert "s3cr3t" not in str(caught.value)
    talk.trust = Trust(ca=CA, proxy=False)
    talk.run()
    assert talk.commands[0] == Resolve("node.test", 10250, 30)


def test_a_proxy_that_is_no_url() -> None:
    with pytest.raises(errors.CredentialsError, match="the URL of the proxy cannot be used") as caught:
        Trust(proxy="jane:s3cr3t@p")
    assert "s3cr3t" not in str(caught.value)
