"""The opening handshake in both roles: the answers of real servers written out, and every rule of RFC 6455 section 4.

What holds for every upgrade (bodies of refusals, broken heads, bounds) is in ``channels/test_upgrade.py``.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from spdyproto.errors import EngineTerminated, LocalProtocolError, UpgradeError
from spdyproto.http import (
    ProtocolNotOffered,
    RawHeaders,
    UpgradeAccepted,
    UpgradeFailed,
    UpgradeMissing,
    UpgradeOutcome,
    UpgradeRefused,
)
from spdyproto.limits import Limits
from spdyproto.websocket.handshake import (
    BEARER_PREFIX,
    ClientHandshake,
    accept_key,
    negotiate_websocket,
    take_bearer_token,
    wants_websocket,
)

VECTORS = json.loads((Path(__file__).parents[3] / "vectors" / "websocket.json").read_text())
SAMPLE = VECTORS["handshakes"][0]
KEY, ACCEPT = SAMPLE["key"], SAMPLE["accept"]
V5, V4, BASE64 = "v5.channel.k8s.io", "v4.channel.k8s.io", "base64.channel.k8s.io"
CRI = ("", "channel.k8s.io", BASE64, V4, "v4.base64.channel.k8s.io")
TOKEN = "eyJhbGciOiJSUzI1NiJ9.cGF5bG9hZA.c2lnbmF0dXJl~ü"
ENTRY = BEARER_PREFIX + base64.urlsafe_b64encode(TOKEN.encode()).decode().rstrip("=")


def client(
    *,
    protocols: tuple[str, ...] = (V5, V4),
    headers: tuple[tuple[str, str], ...] = (),
    bearer_token: str | None = None,
    limits: Limits = Limits(),
) -> ClientHandshake:
    handshake = ClientHandshake(
        "10.0.0.1:10250",
        "/exec/ns/pod/c?command=ls",
        protocols=protocols,
        headers=headers,
        key_source=lambda: bytes.fromhex(SAMPLE["key_bytes"]),
        bearer_token=bearer_token,
        limits=limits,
    )
    return handshake


def switching(*lines: str, accept: str = ACCEPT) -> bytes:
    """The 101 of Go's server, with these lines behind it."""
    head = ("Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Accept: {accept}")
    return answer("101 Switching Protocols", *head, *lines)


def answer(status: str, *lines: str, body: bytes = b"") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode() + body


CHOSEN = f"Sec-WebSocket-Protocol: {V4}"


def outcome(wire: bytes, handshake: ClientHandshake | None = None) -> UpgradeOutcome:
    handshake = handshake or client()
    return handshake.receive_data(wire) or handshake.receive_eof()


def accepted(wire: bytes, handshake: ClientHandshake | None = None) -> UpgradeAccepted:
    result = outcome(wire, handshake)
    assert isinstance(result, UpgradeAccepted), result
    return result


def failed(wire: bytes, handshake: ClientHandshake | None = None) -> UpgradeError:
    result = outcome(wire, handshake)
    assert isinstance(result, UpgradeFailed), result
    return result.error


class TestAcceptKey:
    def test_example_of_the_rfc(self) -> None:
        assert accept_key(KEY) == ACCEPT

    @pytest.mark.parametrize("key", ["", "x", "\xff", KEY + " "])
    def test_any_text_has_one(self, key: str) -> None:
        assert len(base64.b64decode(accept_key(key), validate=True)) == 20


class TestRequest:
    def test_head_is_that_of_the_reference_client(self) -> None:
        head = client(headers=(("User-Agent", "kubewire"),)).data_to_send()
        assert head.split(b"\r\n") == [
            b"GET /exec/ns/pod/c?command=ls HTTP/1.1",
            b"Host: 10.0.0.1:10250",
            b"Upgrade: websocket",
            b"Connection: Upgrade",
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            b"Sec-WebSocket-Version: 13",
            b"Sec-WebSocket-Protocol: v5.channel.k8s.io, v4.channel.k8s.io",
            b"User-Agent: kubewire",
            b"",
            b"",
        ]

    def test_no_protocol_offered_no_header(self) -> None:
        assert b"Sec-WebSocket-Protocol" not in client(protocols=()).data_to_send()

    def test_no_extension_is_offered(self) -> None:
        assert b"Extensions" not in client().data_to_send()

    def test_nothing_follows_the_head_before_the_answer(self) -> None:
        handshake = client()
        assert handshake.data_to_send().endswith(b"\r\n\r\n")
        assert handshake.data_to_send() == b""

    def test_the_key_is_16_random_bytes_and_new_for_each_connection(self) -> None:
        keys = set()
        for _ in range(20):
            head = ClientHandshake("h", "/").data_to_send().decode()
            (line,) = [line for line in head.split("\r\n") if line.startswith("Sec-WebSocket-Key: ")]
            keys.add(base64.b64decode(line.split(": ")[1], validate=True))
        assert len(keys) == 20
        assert {len(key) for key in keys} == {16}

    @pytest.mark.parametrize("size", [0, 15, 17])
    def test_a_key_of_another_size_is_refused(self, size: int) -> None:
        with pytest.raises(LocalProtocolError, match=f"16 bytes; the source gave {size}"):
            ClientHandshake("h", "/", key_source=lambda: bytes(size))

    @pytest.mark.parametrize("protocol", ["", "a b", "a,b", "a\r\nX: y", "ü", "\x7f"])
    def test_protocols_that_cannot_stand_in_a_list_are_refused(self, protocol: str) -> None:
        with pytest.raises(LocalProtocolError, match="not a subprotocol"):
            client(protocols=(V4, protocol))

    def test_the_tunnel_of_port_forward_is_a_protocol_name(self) -> None:
        head = client(protocols=("SPDY/3.1+portforward.k8s.io",)).data_to_send()
        assert b"Sec-WebSocket-Protocol: SPDY/3.1+portforward.k8s.io\r\n" in head

    def test_a_protocol_is_offered_once(self) -> None:
        with pytest.raises(LocalProtocolError, match="offered twice"):
            client(protocols=(V4, V5, V4))

    @pytest.mark.parametrize(
        "name",
        ["Host", "upgrade", "Connection", "Content-Length", "Transfer-Encoding", "Sec-WebSocket-Key",
         "sec-websocket-version", "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions", "Sec-WebSocket-Anything"],
    )  # fmt: skip
    @pytest.mark.parametrize("protocols", [(), (V4,)])
    def test_headers_of_the_handshake_itself_cannot_be_given(self, name: str, protocols: tuple[str, ...]) -> None:
        with pytest.raises(LocalProtocolError, match="written by the upgrade itself"):
            client(protocols=protocols, headers=((name, "1"),))

    @pytest.mark.parametrize("host", ["", "a b", "a\r\nX: y", "ü"])
    def test_hosts_that_would_break_the_head_are_refused(self, host: str) -> None:
        with pytest.raises(LocalProtocolError, match="'Host' does not fit"):
            ClientHandshake(host, "/")

    def test_targets_that_would_break_the_head_are_refused(self) -> None:
        with pytest.raises(LocalProtocolError, match="percent-encode"):
            ClientHandshake("h", "/a b")

    def test_repr_shows_neither_headers_nor_target(self) -> None:
        handshake = client(headers=(("Authorization", f"Bearer {TOKEN[:-1]}"),), bearer_token=TOKEN)
        for text in (repr(handshake), repr(handshake.request)):
            assert TOKEN[:20] not in text
            assert ENTRY.removeprefix(BEARER_PREFIX) not in text
            assert "command" not in text
            assert "10.0.0.1:10250" in text


class TestAccepted:
    def test_answer_of_the_reference_server(self) -> None:
        result = accepted(switching(CHOSEN))
        assert (result.protocol, result.surplus) == (V4, b"")

    def test_bytes_after_the_head_are_kept(self) -> None:
        assert accepted(switching(CHOSEN) + b"\x82\x01\x01").surplus == b"\x82\x01\x01"

    def test_byte_by_byte(self) -> None:
        handshake, wire = client(), switching(CHOSEN)
        assert not any(handshake.receive_data(wire[at : at + 1]) for at in range(len(wire) - 1))
        assert isinstance(handshake.receive_data(wire[-1:]), UpgradeAccepted)
        with pytest.raises(EngineTerminated):
            handshake.receive_data(b"\x82")

    @pytest.mark.parametrize("upgrade", ["websocket", "WebSocket", "WEBSOCKET"])
    @pytest.mark.parametrize("connection", ["Upgrade", "upgrade", "keep-alive, Upgrade", "UPGRADE,x"])
    def test_upgrade_and_connection_are_compared_without_case(self, upgrade: str, connection: str) -> None:
        lines = (f"upgrade: {upgrade}", f"CONNECTION: {connection}", f"sec-websocket-accept: {ACCEPT}", CHOSEN)
        assert accepted(answer("101 X", *lines)).protocol == V4

    @pytest.mark.parametrize("lines", [(), ("Sec-WebSocket-Protocol:",), ("Sec-WebSocket-Protocol: ",)])
    def test_none_offered_none_chosen(self, lines: tuple[str, ...]) -> None:
        assert accepted(switching(*lines), client(protocols=())).protocol == ""

    def test_the_chosen_one_is_the_object_that_was_offered(self) -> None:
        offered = "".join(["v4.", "channel.k8s.io"])
        assert accepted(switching(CHOSEN), client(protocols=(offered,))).protocol is offered

    def test_an_empty_list_of_extensions_agrees_on_none(self) -> None:
        assert accepted(switching(CHOSEN, "Sec-WebSocket-Extensions: ")).protocol == V4

    def test_interim_answers_are_skipped(self) -> None:
        assert accepted(answer("100 Continue") + switching(CHOSEN)).protocol == V4

    def test_short_credentials_do_not_change_what_the_judge_sees(self) -> None:
        handshake = client(headers=(("Authorization", f"Bearer {ACCEPT[:4]}"), ("Cookie", "channel")))
        assert accepted(switching(CHOSEN), handshake).protocol == V4


class TestSection4Point1:
    """The client MUST fail the connection, item by item."""

    @pytest.mark.parametrize("status", ["200 OK", "302 Found", "401 Unauthorized", "403 Forbidden", "500 X"])
    def test_item_1_a_status_that_is_not_101(self, status: str) -> None:
        wire = switching(CHOSEN).replace(b"101 Switching Protocols", status.encode())
        result = outcome(wire.replace(b"\r\n\r\n", b"\r\nContent-Length: 0\r\n\r\n"))
        assert isinstance(result, UpgradeRefused)
        assert result.status == int(status[:3])

    @pytest.mark.parametrize(
        "line", ["X: y", "Upgrade: SPDY/3.1", "Upgrade: websocket, x", "Upgrade: websockets", "Upgrade: "]
    )
    def test_item_2_no_upgrade_to_websocket(self, line: str) -> None:
        error = failed(switching(CHOSEN).replace(b"Upgrade: websocket", line.encode(), 1))
        assert isinstance(error, UpgradeMissing)
        assert "not to websocket" in str(error)

    def test_item_2_two_upgrades(self) -> None:
        assert isinstance(failed(switching(CHOSEN, "Upgrade: websocket")), UpgradeMissing)

    @pytest.mark.parametrize("line", ["X: y", "Connection: keep-alive", "Connection: upgraded", "Connection: "])
    def test_item_3_no_upgrade_among_the_connection_tokens(self, line: str) -> None:
        error = failed(switching(CHOSEN).replace(b"Connection: Upgrade", line.encode()))
        assert isinstance(error, UpgradeMissing)

    @pytest.mark.parametrize(
        "accept", ["", "x", ACCEPT.lower(), ACCEPT + "=", ACCEPT[:-1], KEY, f"{ACCEPT}, {ACCEPT}", "\x1b[31m"]
    )
    def test_item_4_an_accept_key_that_does_not_answer_ours(self, accept: str) -> None:
        error = failed(switching(CHOSEN, accept=accept))
        assert "does not answer our key" in str(error)
        assert str(error).isprintable()

    def test_item_4_no_accept_key(self) -> None:
        wire = switching(CHOSEN).replace(b"Sec-WebSocket-Accept", b"X-Sec-WebSocket-Accept")
        assert "Sec-WebSocket-Accept is absent" in str(failed(wire))

    def test_item_4_two_accept_keys(self) -> None:
        assert "does not answer" in str(failed(switching(CHOSEN, f"Sec-WebSocket-Accept: {ACCEPT}")))

    @pytest.mark.parametrize(
        "extension", ["permessage-deflate", "permessage-deflate; client_no_context_takeover", "x, y"]
    )
    def test_item_5_an_extension_that_was_not_asked_for(self, extension: str) -> None:
        error = failed(switching(CHOSEN, f"Sec-WebSocket-Extensions: {extension}"))
        assert f"wants extensions, and the request offered none: '{extension}'" in str(error)

    @pytest.mark.parametrize("protocol", ["v9.channel.k8s.io", V4.upper(), f"{V4}, {V5}", BASE64])
    def test_item_6_a_protocol_that_was_not_offered(self, protocol: str) -> None:
        error = failed(switching(f"Sec-WebSocket-Protocol: {protocol}"))
        assert isinstance(error, ProtocolNotOffered)
        assert f"chose '{protocol}', but the request offered {V5}, {V4}" in str(error)

    def test_item_6_a_protocol_where_none_was_offered(self) -> None:
        error = failed(switching(CHOSEN), client(protocols=()))
        assert isinstance(error, ProtocolNotOffered)
        assert "offered none" in str(error)

    def test_item_6_two_protocols(self) -> None:
        assert isinstance(failed(switching(CHOSEN, CHOSEN)), ProtocolNotOffered)

    @pytest.mark.parametrize("lines", [(), ("Sec-WebSocket-Protocol: ",)])
    def test_offered_and_none_chosen(self, lines: tuple[str, ...]) -> None:
        """The RFC allows it; here nothing could be said on such a connection."""
        error = failed(switching(*lines))
        assert isinstance(error, ProtocolNotOffered)
        assert "named no subprotocol" in str(error)


class TestRefused:
    def test_raw_403_without_a_length_is_read_to_the_end(self) -> None:
        handshake = client()
        assert handshake.receive_data(b"HTTP/1.1 403 Forbidden\r\n\r\n") is None
        result = handshake.receive_eof()
        assert isinstance(result, UpgradeRefused)
        assert (result.status, result.body) == (403, b"")

    def test_raw_400_with_a_text(self) -> None:
        result = outcome(
            b"HTTP/1.1 400 Bad Request\r\nSec-WebSocket-Version: 13\r\n\r\nmissing or bad WebSocket Version"
        )
        assert isinstance(result, UpgradeRefused)
        assert (result.status, result.message) == (400, "missing or bad WebSocket Version")

    def test_bodies_are_bounded(self) -> None:
        result = outcome(answer("403 X", body=b"x" * 200), client(limits=Limits(refusal_body=100)))
        assert isinstance(result, UpgradeRefused)
        assert len(result.body) == 100


class TestBearerOfTheClient:
    def test_it_goes_behind_the_other_protocols_without_padding(self) -> None:
        head = client(bearer_token=TOKEN).data_to_send().decode()
        assert f"Sec-WebSocket-Protocol: {V5}, {V4}, {ENTRY}\r\n" in head
        assert "=" not in ENTRY
        assert "Authorization" not in head

    def test_it_is_sent_only_when_asked_for(self) -> None:
        head = client(headers=(("Authorization", "Bearer sesame-open"),)).data_to_send()
        assert BEARER_PREFIX.encode() not in head

    def test_it_needs_another_protocol(self) -> None:
        with pytest.raises(LocalProtocolError, match="needs another one beside it") as caught:
            client(protocols=(), bearer_token=TOKEN)
        assert TOKEN not in str(caught.value)

    def test_an_empty_one_is_refused(self) -> None:
        with pytest.raises(LocalProtocolError, match="is empty"):
            client(bearer_token="")

    def test_one_that_is_no_text_is_refused_and_not_shown(self) -> None:
        with pytest.raises(LocalProtocolError, match="half a surrogate pair") as caught:
            client(bearer_token="secret\ud800")
        error: BaseException | None = caught.value
        while error is not None:
            assert "secret" not in str(error)
            error = error.__cause__ or error.__context__

    def test_among_the_protocols_it_would_be_shown(self) -> None:
        with pytest.raises(LocalProtocolError, match="give bearer_token") as caught:
            client(protocols=(V4, ENTRY))
        assert ENTRY not in str(caught.value)

    @pytest.mark.parametrize("chosen", [ENTRY, BEARER_PREFIX, BEARER_PREFIX + "eA"])
    def test_it_must_not_come_back_as_the_choice(self, chosen: str) -> None:
        error = failed(switching(f"Sec-WebSocket-Protocol: {chosen}"), client(bearer_token=TOKEN))
        assert isinstance(error, ProtocolNotOffered)
        assert "no subprotocol" in str(error)
        assert ENTRY.removeprefix(BEARER_PREFIX) not in str(error)

    @pytest.mark.parametrize(
        "said", [ENTRY, TOKEN, f"a, {ENTRY}", ENTRY.removeprefix(BEARER_PREFIX), f"Sec-Websocket-Protocol:[{ENTRY}]"]
    )
    def test_a_server_that_shows_it_is_not_heard(self, said: str) -> None:
        wire = answer("400 Bad Request", f"X: {said}", body=said.encode()) if said.isascii() else (
            answer("400 Bad Request", body=said.encode())
        )  # fmt: skip
        result = outcome(wire, client(bearer_token=TOKEN))
        assert isinstance(result, UpgradeRefused)
        for text in (result.message, result.body.decode(), repr(result.headers), repr(result)):
            assert TOKEN not in text
            assert ENTRY.removeprefix(BEARER_PREFIX) not in text
        error = failed(
            switching(f"Sec-WebSocket-Protocol: x{said if said.isascii() else ''}"), client(bearer_token=TOKEN)
        )
        assert ENTRY.removeprefix(BEARER_PREFIX) not in str(error)


def request(*lines: tuple[str, str], key: str = KEY, version: str = "13", drop: str = "") -> RawHeaders:
    standard = [
        ("Host", "node"),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", key),
        ("Sec-WebSocket-Version", version),
    ]
    return [(n.encode(), v.encode()) for n, v in [*standard, *lines] if n != drop]


def asking(*protocols: str) -> RawHeaders:
    return request(*(("Sec-WebSocket-Protocol", protocol) for protocol in protocols))


class TestServer:
    @pytest.mark.parametrize("case", VECTORS["negotiations"], ids=lambda case: case["name"])
    def test_answers_are_those_of_gos_server_to_the_byte(self, case: dict[str, Any]) -> None:
        headers = [(name.encode(), value.encode()) for name, value in case["headers"]]
        result = negotiate_websocket(headers, VECTORS["supported"], method=case["method"])
        assert result.to_bytes() == case["answer"].encode()

    def test_head_of_the_101_has_four_lines_and_nothing_else(self) -> None:
        result = negotiate_websocket(asking(V4), CRI)
        assert (result.status, result.protocol, result.body) == (101, V4, b"")
        assert result.to_bytes() == (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: v4.channel.k8s.io\r\n\r\n"
        )

    @pytest.mark.parametrize("lines", [(), (("Sec-WebSocket-Protocol", ""),), (("Sec-WebSocket-Protocol", " "),)])
    def test_none_asked_and_none_allowed_gives_an_empty_header(self, lines: tuple[tuple[str, str], ...]) -> None:
        result = negotiate_websocket(request(*lines), CRI)
        assert (result.status, result.protocol) == (101, "")
        assert result.to_bytes().endswith(b"\r\nSec-WebSocket-Protocol: \r\n\r\n")

    def test_none_asked_where_one_is_needed(self) -> None:
        assert negotiate_websocket(request(), (V5,)).to_bytes() == b"HTTP/1.1 403 Forbidden\r\n\r\n"

    @pytest.mark.parametrize(
        ("asked", "chosen"),
        [
            (f"{V5}, {V4}, {BASE64}", V4),
            (f"{BASE64},{V4}", BASE64),
            (f" {V4} ,x", V4),
            (f"{V5},,{V4}", ""),
        ],
    )
    def test_the_first_of_the_client_that_the_server_allows(self, asked: str, chosen: str) -> None:
        assert negotiate_websocket(asking(asked), CRI).protocol == chosen

    def test_only_the_first_line_of_protocols_counts(self) -> None:
        assert negotiate_websocket(asking(V5, V4), CRI).status == 403
        assert negotiate_websocket(asking(V4, V5), CRI).protocol == V4

    @pytest.mark.parametrize("asked", [V5, V4.upper(), "v2.channel.k8s.io", "v3.channel.k8s.io", ENTRY, "\x00", "ü"])
    def test_none_acceptable_is_a_raw_403(self, asked: str) -> None:
        result = negotiate_websocket(asking(asked), CRI)
        assert result.to_bytes() == b"HTTP/1.1 403 Forbidden\r\n\r\n"
        assert result.protocol is None

    def test_what_is_chosen_is_the_servers_own_object(self) -> None:
        mine = "".join(["v4.", "channel.k8s.io"])
        assert negotiate_websocket(asking(V4), (mine,)).protocol is mine

    @pytest.mark.parametrize("method", ["POST", "HEAD", "PUT", "get", ""])
    def test_another_method_is_a_raw_405(self, method: str) -> None:
        result = negotiate_websocket(asking(V4), CRI, method=method)
        assert result.to_bytes() == b"HTTP/1.1 405 Method Not Allowed\r\n\r\nbad method"

    @pytest.mark.parametrize("version", ["", "8", "12", "13, 8", "013"])
    def test_another_version_is_a_raw_400_that_names_ours(self, version: str) -> None:
        assert negotiate_websocket(request(version=version), CRI).to_bytes() == (
            b"HTTP/1.1 400 Bad Request\r\nSec-WebSocket-Version: 13\r\n\r\nmissing or bad WebSocket Version"
        )

    @pytest.mark.parametrize(
        ("headers", "text"),
        [
            (request(drop="Upgrade"), b"not websocket protocol"),
            (request(drop="Connection"), b"not websocket protocol"),
            (request(drop="Sec-WebSocket-Key"), b"mismatch challenge/response"),
            (request(key=""), b"mismatch challenge/response"),
            (request(drop="Sec-WebSocket-Version"), b"missing or bad WebSocket Version"),
            ([], b"not websocket protocol"),
        ],
    )
    def test_other_faults_are_a_raw_400(self, headers: RawHeaders, text: bytes) -> None:
        result = negotiate_websocket(headers, CRI)
        assert result.to_bytes().startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert result.to_bytes().endswith(b"\r\n\r\n" + text)
        assert result.protocol is None

    def test_the_key_is_only_required_to_be_there(self) -> None:
        assert negotiate_websocket(request(key="x"), CRI).status == 101

    @pytest.mark.parametrize(
        ("lines", "wanted"),
        [
            ((), False),
            ((("Upgrade", "websocket"),), False),
            ((("Connection", "Upgrade"),), False),
            ((("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")), False),
            ((("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1"), ("Upgrade", "websocket")), False),
            ((("connection", "keep-alive"), ("connection", "x, UPGRADE"), ("upgrade", "WebSocket")), True),
        ],
    )
    def test_whether_a_request_is_for_a_websocket(self, lines: tuple[tuple[str, str], ...], wanted: bool) -> None:
        assert wants_websocket([(n.encode(), v.encode()) for n, v in lines]) is wanted

    def test_our_client_and_our_server_agree(self) -> None:
        handshake = client(bearer_token=TOKEN)
        lines = [line.split(b": ", 1) for line in handshake.data_to_send().split(b"\r\n")[1:-2]]
        headers = [(name, value) for name, value in lines]
        offer = take_bearer_token(headers)
        assert offer.token == TOKEN
        result = negotiate_websocket(offer.headers, CRI)
        assert ENTRY.encode() not in result.to_bytes()
        assert accepted(result.to_bytes() + b"\x82\x01\x01", handshake) == UpgradeAccepted(
            V4, b"\x82\x01\x01", tuple((n.decode().lower(), v.decode()) for n, v in result.headers)
        )


class TestBearerOfTheServer:
    def test_it_is_taken_out_of_the_list(self) -> None:
        offer = take_bearer_token(asking(f"{ENTRY}, {V4}", V5))
        assert (offer.token, offer.fault) == (TOKEN, "")
        assert [value for name, value in offer.headers if name.lower() == b"sec-websocket-protocol"] == [
            f"{V4},{V5}".encode()
        ]
        assert offer.headers[:5] == list(request())

    def test_a_list_without_one_is_as_it_was(self) -> None:
        headers = asking(f"{V4},{V5}", BASE64)
        offer = take_bearer_token(headers)
        assert (offer.token, offer.headers, offer.fault) == (None, headers, "")

    def test_no_list_at_all(self) -> None:
        assert take_bearer_token(request()).token is None

    @pytest.mark.parametrize(
        ("lines", "fault"),
        [
            ((ENTRY,), "missing additional subprotocol"),
            ((f"{ENTRY},{V4},{ENTRY}",), "multiple base64.bearer.authorization tokens specified"),
            ((ENTRY, V4, ENTRY), "multiple base64.bearer.authorization tokens specified"),
            ((f"{BEARER_PREFIX},{V4},{ENTRY}",), "multiple base64.bearer.authorization tokens specified"),
            ((f"{BEARER_PREFIX}eHh4eA==,{V4}",), "invalid base64.bearer.authorization token encoding"),  # padded
            ((f"{BEARER_PREFIX}a+b/,{V4}",), "invalid base64.bearer.authorization token encoding"),  # not base64url
            ((f"{BEARER_PREFIX}eHh4e,{V4}",), "invalid base64.bearer.authorization token encoding"),  # no such length
            ((f"{BEARER_PREFIX}e h,{V4}",), "invalid base64.bearer.authorization token encoding"),
            ((f"{BEARER_PREFIX}ü,{V4}",), "invalid base64.bearer.authorization token encoding"),
            ((f"{BEARER_PREFIX}_w,{V4}",), "invalid base64.bearer.authorization token"),  # no UTF-8
        ],
    )
    def test_faults_are_those_of_the_authenticator(self, lines: tuple[str, ...], fault: str) -> None:
        offer = take_bearer_token(asking(*lines))
        assert (offer.token, offer.fault) == (None, fault)

    def test_an_empty_token_is_left_to_the_negotiation(self) -> None:
        headers = asking(f"{BEARER_PREFIX},{V4}")
        offer = take_bearer_token(headers)
        assert (offer.token, offer.headers, offer.fault) == (None, headers, "")
        assert negotiate_websocket(headers, CRI).protocol == V4

    def test_it_counts_on_a_websocket_request_only(self) -> None:
        headers = request(("Sec-WebSocket-Protocol", f"{ENTRY},{V4}"), drop="Upgrade")
        assert take_bearer_token(headers).token is None

    def test_repr_does_not_show_it(self) -> None:
        shown = repr(take_bearer_token(asking(f"{ENTRY}, {V4}")))
        assert TOKEN not in shown
        assert ENTRY not in shown
