"""The upgrade in both roles, with the answers of real servers written out and the hostile ones beside them."""

from __future__ import annotations

import pytest

from spdyproto.channels.subprotocols import CLIENT_OFFER, CRI_SPDY, PORT_FORWARD, Subprotocol
from spdyproto.channels.upgrade import (
    ClientUpgrade,
    ProtocolNotOffered,
    RawHeaders,
    UpgradeAccepted,
    UpgradeFailed,
    UpgradeMissing,
    UpgradeOutcome,
    UpgradeRefused,
    negotiate_upgrade,
    upgrade_response,
    wants_upgrade,
)
from spdyproto.errors import EngineTerminated, LocalProtocolError, RemoteProtocolError, UpgradeError
from spdyproto.limits import Limits

V1, V2, V3, V4, V5 = Subprotocol
SECRET = "tok-3f9a1c77d2"  # sent as a credential; it must never come out again

# What a Go server sends: header names sorted, with a Date.
SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nDate: Tue, 07 Jul 2026 10:00:00 GMT\r\n"
    b"Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n"
)
SPDY_BYTES = b"\x80\x03\x00\x06\x00\x00\x00\x04\x00\x00\x00\x02"


def client(
    *,
    protocols: tuple[str, ...] = CLIENT_OFFER,
    headers: tuple[tuple[str, str], ...] = (("Authorization", f"Bearer {SECRET}"),),
    method: str = "POST",
    limits: Limits = Limits(),
) -> ClientUpgrade:
    upgrade = ClientUpgrade(
        "10.0.0.1:10250",
        "/exec/ns/pod/c?command=ls",
        protocols=protocols,
        headers=headers,
        method=method,
        limits=limits,
    )
    upgrade.data_to_send()
    return upgrade


def outcome(answer: bytes, upgrade: ClientUpgrade | None = None, *, clean: bool = True) -> UpgradeOutcome:
    """Feed a whole answer; when that does not settle it, end the connection."""
    upgrade = upgrade or client()
    return upgrade.receive_data(answer) or upgrade.receive_eof(clean=clean)


def accepted(answer: bytes, upgrade: ClientUpgrade | None = None) -> UpgradeAccepted:
    result = outcome(answer, upgrade)
    assert isinstance(result, UpgradeAccepted), result
    return result


def refused(answer: bytes, upgrade: ClientUpgrade | None = None, *, clean: bool = True) -> UpgradeRefused:
    result = outcome(answer, upgrade, clean=clean)
    assert isinstance(result, UpgradeRefused), result
    return result


def failed(answer: bytes, upgrade: ClientUpgrade | None = None) -> UpgradeError:
    result = outcome(answer, upgrade)
    assert isinstance(result, UpgradeFailed), result
    assert isinstance(result.error, UpgradeError)
    return result.error


def answer(status: str, *lines: str, body: bytes = b"") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode() + body


def switching(*lines: str) -> bytes:
    return answer("101 Switching Protocols", *lines)


class TestRequest:
    def test_head_is_that_of_the_reference_client(self) -> None:
        upgrade = ClientUpgrade("node:10250", "/exec/a/b/c?command=ls&output=1", headers=[("User-Agent", "kubewire")])
        head, *rest = upgrade.data_to_send().split(b"\r\n")
        assert head == b"POST /exec/a/b/c?command=ls&output=1 HTTP/1.1"
        assert rest == [
            b"Host: node:10250",
            b"Connection: Upgrade",
            b"Upgrade: SPDY/3.1",
            b"X-Stream-Protocol-Version: v5.channel.k8s.io",
            b"X-Stream-Protocol-Version: v4.channel.k8s.io",
            b"X-Stream-Protocol-Version: v3.channel.k8s.io",
            b"X-Stream-Protocol-Version: v2.channel.k8s.io",
            b"X-Stream-Protocol-Version: channel.k8s.io",
            b"Content-Length: 0",
            b"User-Agent: kubewire",
            b"",
            b"",
        ]

    def test_get_announces_no_body(self) -> None:
        head = ClientUpgrade("h", "/x", method="GET").data_to_send()
        assert head.startswith(b"GET /x HTTP/1.1\r\n")
        assert b"Content-Length" not in head

    def test_nothing_follows_the_head_before_the_answer(self) -> None:
        upgrade = ClientUpgrade("h", "/x")
        assert upgrade.data_to_send().endswith(b"\r\n\r\n")
        assert upgrade.data_to_send() == b""
        upgrade.receive_data(SWITCHING[:50])
        assert upgrade.data_to_send() == b""

    def test_repeated_headers_are_kept_apart(self) -> None:
        groups = (("Impersonate-Group", "a"), ("Impersonate-Group", "b"))
        head = ClientUpgrade("h", "/x", headers=groups).data_to_send()
        assert b"Impersonate-Group: a\r\nImpersonate-Group: b\r\n" in head

    @pytest.mark.parametrize("value", ["a\r\nEvil: 1", "a\nb", "a\rb", "a\x00b", " a", "a ", "\x1b[0m", "ü", "\ud800"])
    def test_values_that_would_break_the_head_are_refused_and_not_shown(self, value: str) -> None:
        with pytest.raises(LocalProtocolError, match="'Authorization' does not fit") as caught:
            client(headers=(("Authorization", f"{value}{SECRET}{value}"),))
        error: BaseException | None = caught.value
        while error is not None:
            assert SECRET not in str(error)
            error = error.__cause__ or error.__context__

    @pytest.mark.parametrize("name", ["", "a b", "a:", "a\r\nb", "ü", " a"])
    def test_names_that_would_break_the_head_are_refused(self, name: str) -> None:
        with pytest.raises(LocalProtocolError, match="does not fit into a request head"):
            client(headers=((name, "x"),))

    @pytest.mark.parametrize("name", ["Host", "connection", "UPGRADE", "Content-Length", "Transfer-Encoding"])
    def test_headers_of_the_upgrade_itself_cannot_be_given(self, name: str) -> None:
        with pytest.raises(LocalProtocolError, match="written by the upgrade itself"):
            client(headers=((name, "1"),))

    @pytest.mark.parametrize("target", ["", "/a b", "/a\r\nX: y", "/ü", "/\x00"])
    def test_targets_that_would_break_the_head_are_refused_and_not_shown(self, target: str) -> None:
        with pytest.raises(LocalProtocolError, match="percent-encode") as caught:
            ClientUpgrade("h", f"{target}{SECRET if target else ''}")
        assert SECRET not in str(caught.value)
        assert caught.value.__context__ is None

    @pytest.mark.parametrize("host", ["", "a b", "a\r\nX: y", "ü"])
    def test_hosts_that_would_break_the_head_are_refused(self, host: str) -> None:
        with pytest.raises(LocalProtocolError, match="'Host' does not fit"):
            ClientUpgrade(host, "/x")

    @pytest.mark.parametrize("method", ["PUT", "CONNECT", "HEAD", "get", "", "GET /x HTTP/1.1\r\nX: y\r\n\r\nGET"])
    def test_methods_are_get_and_post(self, method: str) -> None:
        with pytest.raises(LocalProtocolError, match="GET or a POST"):
            client(method=method)

    @pytest.mark.parametrize("protocol", ["", "a b", "a\r\nX: y", "ü"])
    def test_protocols_that_would_break_the_head_are_refused(self, protocol: str) -> None:
        with pytest.raises(LocalProtocolError, match="'X-Stream-Protocol-Version' does not fit"):
            client(protocols=(V4, protocol))

    def test_an_offer_is_not_empty(self) -> None:
        with pytest.raises(LocalProtocolError, match="at least one subprotocol"):
            client(protocols=())

    def test_repr_shows_neither_headers_nor_target(self) -> None:
        upgrade = client()
        for text in (repr(upgrade), repr(upgrade.request)):
            assert SECRET not in text
            assert "command" not in text
            assert "10.0.0.1:10250" in text


class TestAccepted:
    def test_answer_of_the_reference_server(self) -> None:
        result = accepted(SWITCHING)
        assert result == UpgradeAccepted(V4, b"", result.headers)
        assert ("x-stream-protocol-version", "v4.channel.k8s.io") in result.headers

    def test_bytes_after_the_head_are_kept(self) -> None:
        assert accepted(SWITCHING + SPDY_BYTES).surplus == SPDY_BYTES

    def test_byte_by_byte(self) -> None:
        upgrade = client()
        for at in range(len(SWITCHING) - 1):
            assert upgrade.receive_data(SWITCHING[at : at + 1]) is None
        result = upgrade.receive_data(SWITCHING[-1:])
        assert isinstance(result, UpgradeAccepted)
        assert result.surplus == b""

    def test_a_reused_buffer_may_change_afterwards(self) -> None:
        upgrade = client()
        buffer = bytearray(SWITCHING + SPDY_BYTES)
        result = upgrade.receive_data(memoryview(buffer))
        buffer[:] = bytes(len(buffer))
        assert isinstance(result, UpgradeAccepted)
        assert result.surplus == SPDY_BYTES

    @pytest.mark.parametrize(
        ("connection", "upgrade"),
        [("upgrade", "spdy/3.1"), ("UPGRADE", "SPDY/3.1"), ("keep-alive, Upgrade", "websocket, SPDY/3.1")],
    )
    def test_headers_are_compared_without_case(self, connection: str, upgrade: str) -> None:
        lines = (f"Connection: {connection}", f"upgrade: {upgrade}", "x-stream-protocol-version: v3.channel.k8s.io")
        assert accepted(switching(*lines)).protocol == V3

    @pytest.mark.parametrize("line", [(), ("X-Stream-Protocol-Version:",), ("X-Stream-Protocol-Version: ",)])
    def test_no_protocol_named_is_the_first_version(self, line: tuple[str, ...]) -> None:
        result = accepted(switching("Connection: Upgrade", "Upgrade: SPDY/3.1", *line))
        assert result.protocol is V1

    def test_answered_v5_is_accepted_when_offered(self) -> None:
        lines = ("Connection: Upgrade", "Upgrade: SPDY/3.1", "X-Stream-Protocol-Version: v5.channel.k8s.io")
        assert accepted(switching(*lines)).protocol is V5

    def test_port_forward(self) -> None:
        lines = ("Connection: Upgrade", "Upgrade: SPDY/3.1", f"X-Stream-Protocol-Version: {PORT_FORWARD}")
        assert accepted(switching(*lines), client(protocols=(PORT_FORWARD,))).protocol == PORT_FORWARD

    def test_interim_answers_are_skipped(self) -> None:
        interim = answer("103 Early Hints", "Link: </x>; rel=preload") + answer("100 Continue")
        assert accepted(interim + SWITCHING + SPDY_BYTES).surplus == SPDY_BYTES

    def test_no_more_bytes_are_taken_afterwards(self) -> None:
        upgrade = client()
        upgrade.receive_data(SWITCHING)
        with pytest.raises(EngineTerminated):
            upgrade.receive_data(SPDY_BYTES)
        with pytest.raises(EngineTerminated):
            upgrade.receive_eof()

    def test_an_empty_read_changes_nothing(self) -> None:
        upgrade = client()
        assert upgrade.receive_data(b"") is None
        assert isinstance(upgrade.receive_data(SWITCHING), UpgradeAccepted)


class TestNotAnUpgrade:
    @pytest.mark.parametrize(
        "lines",
        [
            (),
            ("Connection: Upgrade",),
            ("Upgrade: SPDY/3.1",),
            ("Connection: keep-alive", "Upgrade: SPDY/3.1"),
            ("Connection: Upgrade", "Upgrade: websocket"),
            ("Connection: Upgrade", "Upgrade: SPDY/2"),
        ],
    )
    def test_101_without_the_upgrade(self, lines: tuple[str, ...]) -> None:
        error = failed(switching(*lines, "X-Stream-Protocol-Version: v4.channel.k8s.io"))
        assert isinstance(error, UpgradeMissing)

    @pytest.mark.parametrize(
        "protocol", ["v9.channel.k8s.io", "V4.CHANNEL.K8S.IO", PORT_FORWARD, "v4.channel.k8s.io, x"]
    )
    def test_protocol_that_was_not_offered(self, protocol: str) -> None:
        lines = ("Connection: Upgrade", "Upgrade: SPDY/3.1", f"X-Stream-Protocol-Version: {protocol}")
        error = failed(switching(*lines))
        assert isinstance(error, ProtocolNotOffered)
        assert f"chose '{protocol}'" in str(error)
        assert "offered v5.channel.k8s.io, v4.channel.k8s.io" in str(error)

    def test_no_protocol_named_where_the_first_version_was_not_offered(self) -> None:
        error = failed(switching("Connection: Upgrade", "Upgrade: SPDY/3.1"), client(protocols=(V4,)))
        assert isinstance(error, ProtocolNotOffered)
        assert "named no subprotocol, which means channel.k8s.io" in str(error)

    @pytest.mark.parametrize("line", ["Content-Length: 5", "Transfer-Encoding: chunked"])
    def test_101_with_a_body(self, line: str) -> None:
        error = failed(switching("Connection: Upgrade", "Upgrade: SPDY/3.1", line))
        assert "announces a body" in str(error)

    def test_101_with_an_empty_body_is_harmless(self) -> None:
        assert accepted(switching("Connection: Upgrade", "Upgrade: SPDY/3.1", "Content-Length: 0")).protocol is V1

    def test_101_of_http_1_0(self) -> None:
        assert "only HTTP/1.1" in str(failed(SWITCHING.replace(b"HTTP/1.1", b"HTTP/1.0")))

    @pytest.mark.parametrize("version", [b"HTTP/2.0", b"HTTP/0.9", b"HTTP/3.0"])
    def test_other_versions_of_http(self, version: bytes) -> None:
        assert "only HTTP/1.1" in str(failed(version + b" 403 Forbidden\r\n\r\n"))

    def test_error_texts_cannot_act_on_a_terminal(self) -> None:
        error = failed(switching("Connection: \x1b[31m", "Upgrade: \x07" + "x" * 5000))
        assert str(error).isprintable()
        assert len(str(error)) < 600


class TestRefused:
    def test_body_with_a_length(self) -> None:
        result = refused(answer("404 Not Found", "Content-Length: 18", body=b"pod does not exist") + b"surplus")
        assert (result.status, result.reason, result.message) == (404, "Not Found", "pod does not exist")
        assert (result.body, result.note) == (b"pod does not exist", "")

    def test_body_in_chunks(self) -> None:
        body = b"4\r\npod \r\n4;ext=1\r\ndoes\r\n0\r\nTrailer: x\r\n\r\n"
        result = refused(answer("404 Not Found", "Transfer-Encoding: chunked", body=body))
        assert (result.message, result.note) == ("pod does", "")

    def test_body_until_the_end_of_the_connection(self) -> None:
        upgrade = client()
        assert upgrade.receive_data(b"HTTP/1.1 403 Forbidden\r\n\r\n") is None
        assert upgrade.receive_data(b"no") is None
        result = upgrade.receive_eof()
        assert isinstance(result, UpgradeRefused)
        assert (result.status, result.message, result.note) == (403, "no", "")

    def test_raw_403_with_nothing_else(self) -> None:
        result = refused(b"HTTP/1.1 403 Forbidden\r\n\r\n")
        assert (result.status, result.body, result.note) == (403, b"", "")
        assert "gave no reason" in result.message

    def test_plain_http_sent_to_a_go_tls_server(self) -> None:
        result = refused(b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n")
        assert (result.status, result.message) == (400, "Client sent an HTTP request to an HTTPS server.")

    def test_json_status(self) -> None:
        body = b'{"kind":"Status","apiVersion":"v1","status":"Failure","message":"pods \\"x\\" not found","code":404}\n'
        assert (
            refused(answer("404 Not Found", f"Content-Length: {len(body)}", body=body)).message == 'pods "x" not found'
        )

    @pytest.mark.parametrize(
        "body",
        [
            b"{not json}",
            b'{"a":1}',
            b'{"message":""}',
            b'{"message":7}',
            b'{"message":null}',
            b"[1]",
            b'{"a":' * 10_000,
        ],
    )
    def test_what_is_no_json_status_is_text(self, body: bytes) -> None:
        result = refused(answer("500 Internal Server Error", f"Content-Length: {len(body)}", body=body))
        assert result.message == body.decode()

    def test_text_that_is_no_utf8(self) -> None:
        assert refused(answer("500 X", "Content-Length: 2", body=b"\xffa")).message == "\ufffda"

    def test_half_a_surrogate_pair_can_be_printed(self) -> None:
        refused(answer("500 X", "Content-Length: 20", body=b'{"message":"\\ud800"}')).message.encode()

    @pytest.mark.parametrize("status", [204, 304, 401, 500, 999])
    def test_empty_answers_have_words(self, status: int) -> None:
        result = refused(answer(f"{status} X", "Content-Length: 0"))
        assert result.status == status
        assert result.message
        assert result.body == b""

    @pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
    def test_redirects_are_refusals(self, status: int) -> None:
        location = f"Location: https://user:{SECRET}@elsewhere:1234/exec/x?token={SECRET}"
        result = refused(answer(f"{status} X", location, "Content-Length: 0"))
        assert result.status == status
        assert "redirects to https://elsewhere/exec/x; redirects are not followed" in result.message
        assert SECRET not in result.message

    @pytest.mark.parametrize("line", ["X: y", "Location:", "Location: /other?q=1", "Location: https://[bad/"])
    def test_odd_redirects(self, line: str) -> None:
        assert "not followed" in refused(answer("302 Found", line, "Content-Length: 0")).message

    def test_200_is_no_upgrade(self) -> None:
        result = refused(answer("200 OK", "Content-Length: 2", body=b"ok"))
        assert "instead of switching protocols" in result.message
        assert result.body == b"ok"

    def test_headers_are_kept_but_not_shown(self) -> None:
        result = refused(answer("429 Too Many Requests", "Retry-After: 60", "Set-Cookie: abc", "Content-Length: 0"))
        assert ("retry-after", "60") in result.headers
        assert "abc" not in repr(result)

    def test_credentials_that_a_server_sends_back_are_struck_out(self) -> None:
        body = f'unable to upgrade: http.Header{{"Authorization":[]string{{"Bearer {SECRET}"}}}} {SECRET}'.encode()
        result = refused(answer("400 Bad Request", f"Content-Length: {len(body)}", body=body))
        for text in (result.message, result.body.decode(), repr(result)):
            assert SECRET not in text
        assert "http.Header" in result.message

    @pytest.mark.parametrize(
        "head",
        [
            f"HTTP/1.1 403 {SECRET}\r\n\r\n",
            f"HTTP/1.1 403 X\r\nWWW-Authenticate: {SECRET}\r\n\r\n",
            f"HTTP/1.1 302 X\r\nLocation: /{SECRET}\r\n\r\n",
            f"HTTP/1.1 101 X\r\nConnection: {SECRET}\r\n\r\n",
            f"HTTP/1.1 101 X\r\nConnection: {'x' * 195}{SECRET}\r\n\r\n",  # across the place where quotes are cut
            "HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: SPDY/3.1\r\n"
            f"X-Stream-Protocol-Version: {SECRET}\r\n\r\n",
        ],
    )
    def test_credentials_are_struck_out_of_heads_too(self, head: str) -> None:
        result = outcome(head.encode())
        shown = repr(result) + str(result.headers if isinstance(result, UpgradeRefused) else result)
        assert SECRET not in shown
        assert SECRET[:5] not in shown

    @pytest.mark.parametrize("shown", [4, 9, len(SECRET) - 1])
    def test_credentials_that_the_cut_went_through(self, shown: int) -> None:
        body = f"Authorization: {SECRET}".encode()
        size = len(body) - len(SECRET) + shown
        result = refused(answer("400 Bad Request", body=body), client(limits=Limits(refusal_body=size)))
        assert result.note
        assert result.message == "Authorization: <credentials>"

    def test_credentials_in_garbage_are_struck_out(self) -> None:
        assert SECRET not in str(failed(f"Authorization: Bearer {SECRET}\r\n\r\n".encode()))


class TestCutShort:
    """A refusal stays a refusal when its body is not whole, and says so."""

    @pytest.mark.parametrize(
        ("lines", "body"),
        [
            (("Content-Length: 10",), b"hello"),
            (("Transfer-Encoding: chunked",), b"a\r\nhello"),
            (("Transfer-Encoding: chunked",), b"5\r\nhello"),
            (("Transfer-Encoding: chunked",), b"5\r\nhello\r\n0\r\n"),
            (("Transfer-Encoding: chunked",), b"5\r\nhello\r\nzz\r\n"),
            (("Transfer-Encoding: chunked",), b"5\r\nhelloXX"),
        ],
    )
    def test_broken_bodies(self, lines: tuple[str, ...], body: bytes) -> None:
        result = refused(answer("403 Forbidden", *lines, body=body))
        assert (result.status, result.message, result.note) == (403, "hello", "the body broke off after 5 bytes")

    def test_truncated_tls_under_a_body_without_a_length(self) -> None:
        result = refused(answer("403 Forbidden", body=b"hello"), clean=False)
        assert (result.message, result.note) == ("hello", "the connection was cut, and the body may be longer")

    @pytest.mark.parametrize("lines", [(), ("Content-Length: 1000000000",), ("Transfer-Encoding: chunked",)])
    def test_body_larger_than_the_limit(self, lines: tuple[str, ...]) -> None:
        limits = Limits(refusal_body=100)
        body = (b"fffff\r\n" if "chunked" in str(lines) else b"") + b"x" * 101
        result = client(limits=limits).receive_data(answer("403 Forbidden", *lines, body=body))
        assert isinstance(result, UpgradeRefused)  # at once: an endless body is not waited for
        assert (result.body, result.note) == (b"x" * 100, "only the first 100 bytes were read")

    def test_body_of_exactly_the_limit_is_whole(self) -> None:
        result = refused(
            answer("403 X", "Content-Length: 100", body=b"x" * 100), client(limits=Limits(refusal_body=100))
        )
        assert (result.body, result.note) == (b"x" * 100, "")

    def test_framing_that_costs_more_than_the_body(self) -> None:
        upgrade = client(limits=Limits(refusal_body=100))
        result = upgrade.receive_data(answer("403 X", "Transfer-Encoding: chunked"))
        chunks = 0
        while result is None:
            result = upgrade.receive_data(b"1;" + b"e" * 90 + b"\r\nx\r\n")
            chunks += 1
            assert chunks < 20
        assert isinstance(result, UpgradeRefused)
        assert "reading stopped after" in result.note


class TestNotHttp:
    """Whatever comes, the outcome is one UpgradeError and never another exception."""

    @pytest.mark.parametrize(
        "garbage",
        [
            b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
            b"\r\n\r\n",
            b"\n",
            b"\x00" * 100,
            b"\xff" * 100,
            b"HTTP/1.1\r\n\r\n",
            b"HTTP/1.1 99 X\r\n\r\n",
            b"HTTP/1.1 099 X\r\n\r\n",
            b"HTTP/1.1 1000 X\r\n\r\n",
            b"HTTP/1.1 abc X\r\n\r\n",
            b"http/1.1 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\x00\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\n",
            answer("200 OK", "Content-Length: -1"),
            answer("200 OK", "Content-Length: x"),
            answer("200 OK", "Content-Length: " + "9" * 5000),
            answer("200 OK", "Transfer-Encoding: gzip"),
            answer("200 OK", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
            answer("200 OK", "no colon"),
            answer("200 OK", ": no name"),
            answer("200 OK", "Name : space before the colon"),
            answer("200 OK", "Nul: a\x00b"),
        ],
    )
    def test_garbage(self, garbage: bytes) -> None:
        error = failed(garbage)
        assert isinstance(error, RemoteProtocolError)
        assert str(error).isprintable()

    @pytest.mark.parametrize("cut", [0, 1, 20, len(SWITCHING) - 1])
    def test_connection_ends_before_the_head_does(self, cut: int) -> None:
        assert f"ended after {cut} bytes, before the head" in str(failed(SWITCHING[:cut]))

    def test_connection_ends_after_an_interim_answer(self) -> None:
        assert "before the head" in str(failed(answer("100 Continue")))

    @pytest.mark.parametrize(
        "head",
        [
            SWITCHING.replace(b"\r\n", b"\n"),
            SWITCHING.replace(b"\r\nDate", b"\nDate"),
            SWITCHING.replace(b"\r\n\r\n", b"\n\n"),
            SWITCHING.replace(b"\r\n\r\n", b"\r\n\n"),
        ],
    )
    def test_bare_line_feeds(self, head: bytes) -> None:
        assert "CR LF" in str(failed(head))

    @pytest.mark.parametrize("fold", ["\r\n ", "\r\n\t", "\r\n  \t"])
    def test_folded_lines(self, fold: str) -> None:
        error = failed(switching("Connection: Upgrade", f"Upgrade:{fold}SPDY/3.1"))
        assert "folded line" in str(error)

    def test_length_and_chunks_at_once(self) -> None:
        error = failed(answer("403 X", "Content-Length: 5", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"))
        assert "both Content-Length and Transfer-Encoding" in str(error)

    @pytest.mark.parametrize(
        "lines",
        [
            ("Content-Length: 5", "Content-Length: 5"),
            ("Content-Length: 5", "content-length: 6"),
            ("Content-Length: 5, 5",),
        ],
    )
    def test_more_than_one_length(self, lines: tuple[str, ...]) -> None:
        assert "Content-Length" in str(failed(answer("403 X", *lines, body=b"hello")))

    def test_head_without_end(self) -> None:
        upgrade = client(limits=Limits(http_head=1000))
        assert upgrade.receive_data(b"HTTP/1.1 200 OK\r\nX: ") is None
        result = upgrade.receive_data(b"x" * 1000)
        assert isinstance(result, UpgradeFailed)
        assert "1000 are allowed" in str(result.error)

    def test_head_larger_than_the_limit_in_one_piece(self) -> None:
        head = answer("403 X", "X: " + "x" * 1000, "Content-Length: 0")
        assert "1000 are allowed" in str(failed(head, client(limits=Limits(http_head=1000))))

    def test_surplus_does_not_count_towards_the_head(self) -> None:
        result = accepted(SWITCHING + bytes(100_000), client(limits=Limits(http_head=1000)))
        assert len(result.surplus) == 100_000

    def test_interim_answers_without_end(self) -> None:
        assert "interim (1xx)" in str(failed(answer("100 Continue") * 6 + SWITCHING))

    @pytest.mark.parametrize("alert", [b"\x15\x03\x01\x00\x02\x02\x46", b"\x16\x03\x03\x00\x7a"])
    def test_tls_is_recognised(self, alert: bytes) -> None:
        assert "needs https" in str(failed(alert))

    def test_http_2_is_recognised(self) -> None:
        assert "only http/1.1 in ALPN" in str(failed(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00"))

    def test_outcome_is_final(self) -> None:
        upgrade = client()
        assert isinstance(upgrade.receive_data(b"\x00"), UpgradeFailed)
        with pytest.raises(EngineTerminated):
            upgrade.receive_data(SWITCHING)


def request(*lines: tuple[str, str]) -> RawHeaders:
    return [(name.encode(), value.encode()) for name, value in lines]


UPGRADE_LINES = (("Host", "node"), ("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1"), ("Content-Length", "0"))


class TestServer:
    @pytest.mark.parametrize(
        "lines",
        [
            (("X-Stream-Protocol-Version", "v5.channel.k8s.io"), ("X-Stream-Protocol-Version", "v4.channel.k8s.io")),
            (("X-Stream-Protocol-Version", "v5.channel.k8s.io, v4.channel.k8s.io ,channel.k8s.io"),),
            (("x-stream-protocol-version", ""), ("x-stream-protocol-version", " v4.channel.k8s.io")),
        ],
    )
    def test_switching(self, lines: tuple[tuple[str, str], ...]) -> None:
        result = negotiate_upgrade(request(*UPGRADE_LINES, *lines), CRI_SPDY)
        assert (result.status, result.protocol, result.body) == (101, V4, b"")
        assert result.headers == [
            (b"Connection", b"Upgrade"),
            (b"Upgrade", b"SPDY/3.1"),
            (b"X-Stream-Protocol-Version", b"v4.channel.k8s.io"),
        ]

    def test_order_of_the_client_decides(self) -> None:
        lines = (("X-Stream-Protocol-Version", "v3.channel.k8s.io"), ("X-Stream-Protocol-Version", "v4.channel.k8s.io"))
        assert negotiate_upgrade(request(*UPGRADE_LINES, *lines), CRI_SPDY).protocol is V3

    @pytest.mark.parametrize("connection", ["upgrade", "keep-alive, Upgrade", "UPGRADE"])
    @pytest.mark.parametrize("upgrade", ["SPDY/3.1", "spdy/3.1", "websocket, SPDY/3.1"])
    def test_upgrade_headers_are_substrings_without_case(self, connection: str, upgrade: str) -> None:
        lines = (("Connection", connection), ("Upgrade", upgrade), ("X-Stream-Protocol-Version", "channel.k8s.io"))
        assert negotiate_upgrade(request(*lines), CRI_SPDY).status == 101

    @pytest.mark.parametrize("values", [(), ("",), (" ", ",")])
    def test_no_protocol_named(self, values: tuple[str, ...]) -> None:
        lines = [("X-Stream-Protocol-Version", value) for value in values]
        result = negotiate_upgrade(request(*UPGRADE_LINES, *lines), CRI_SPDY)
        count = 3 + bool(values)  # names, without Host
        assert (result.status, result.protocol) == (400, None)
        assert result.body == (
            b"unable to upgrade: header X-Stream-Protocol-Version does not exist in request with %d headers\n" % count
        )

    def test_headers_are_counted_by_name(self) -> None:
        lines = request(("Host", "h"), ("A", "1"), ("a", "2"), ("B", "3"), ("Transfer-Encoding", "chunked"))
        assert b"with 2 headers" in negotiate_upgrade(lines, CRI_SPDY).body

    def test_no_protocol_in_common(self) -> None:
        lines = (("X-Stream-Protocol-Version", "v9.channel.k8s.io"), ("X-Stream-Protocol-Version", "x, y"))
        result = negotiate_upgrade(request(*UPGRADE_LINES, *lines), (V4, V1))
        assert (result.status, result.protocol) == (403, None)
        assert result.headers[:2] == [
            (b"X-Accepted-Stream-Protocol-Versions", b"v4.channel.k8s.io"),
            (b"X-Accepted-Stream-Protocol-Versions", b"channel.k8s.io"),
        ]
        assert result.body == (
            b"unable to upgrade: unable to negotiate protocol: client supports [v9.channel.k8s.io x y], "
            b"server accepts [v4.channel.k8s.io channel.k8s.io]\n"
        )

    @pytest.mark.parametrize(
        "lines",
        [
            (),
            (("Connection", "Upgrade"),),
            (("Upgrade", "SPDY/3.1"),),
            (("Connection", "close"), ("Upgrade", "SPDY/3.1")),
            (("Connection", "Upgrade"), ("Upgrade", "websocket")),
            (("Connection", "keep-alive"), ("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")),  # first line only
        ],
    )
    def test_upgrade_headers_missing(self, lines: tuple[tuple[str, str], ...]) -> None:
        named = (("X-Stream-Protocol-Version", "v4.channel.k8s.io"), ("Authorization", f"Bearer {SECRET}"))
        result = negotiate_upgrade(request(*named, *lines), CRI_SPDY)
        assert (result.status, result.protocol) == (400, None)
        assert result.body.startswith(b"unable to upgrade: missing upgrade headers in request: ")
        assert (b"X-Stream-Protocol-Version", b"v4.channel.k8s.io") in result.headers  # set before the check, as in Go
        assert SECRET.encode() not in result.body

    def test_negotiation_comes_before_the_upgrade_headers(self) -> None:
        assert negotiate_upgrade(request(("X-Stream-Protocol-Version", "x")), CRI_SPDY).status == 403
        assert b"does not exist" in negotiate_upgrade([], CRI_SPDY).body

    def test_refusals_are_complete_for_their_body(self) -> None:
        result = negotiate_upgrade([], CRI_SPDY)
        assert (b"Content-Type", b"text/plain; charset=utf-8") in result.headers
        assert (b"Content-Length", str(len(result.body)).encode()) in result.headers

    def test_head_of_the_101(self) -> None:
        assert upgrade_response(V4) == (
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
            b"X-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n"
        )

    @pytest.mark.parametrize("protocol", ["", "a b", "a\r\nb", "a,b", "ü", "\x7f"])
    def test_101_only_for_a_token(self, protocol: str) -> None:
        with pytest.raises(LocalProtocolError, match="not a subprotocol"):
            upgrade_response(protocol)

    @pytest.mark.parametrize(
        ("lines", "wanted"),
        [
            ((), False),
            ((("Upgrade", "SPDY/3.1"),), False),
            ((("connection", "keep-alive"),), False),
            ((("connection", "keep-alive"), ("CONNECTION", "x, UpGrade")), True),
        ],
    )
    def test_whether_a_request_is_an_upgrade_at_all(self, lines: tuple[tuple[str, str], ...], wanted: bool) -> None:
        assert wants_upgrade(request(*lines)) is wanted
