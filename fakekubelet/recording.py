"""How a transcript comes about: an application, and a session, that hand everything on and tell of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import cast

from fakekubelet.dissect import Dissector, Sender, dissector
from fakekubelet.messages import Answer, Application, RawAnswer, Request, Response, Streaming, Upgrade
from fakekubelet.transcript import Exchange, Transcript
from fakekubelet.upgrades import Carrier, How, Session, SessionHost
from spdyproto.types import Buffer


def recorded(application: Application, transcript: Transcript) -> Application:
    """``application``, and everything that passes it in ``transcript``, unless that keeps nothing."""
    return RecordingApplication(application, transcript) if transcript.keeps_anything else application


class RecordingApplication:
    """An application whose requests, answers and sessions are in a transcript."""

    def __init__(self, application: Application, transcript: Transcript) -> None:
        self._application = application
        self._transcript = transcript

    async def answer(self, request: Request) -> Answer:
        """As ``Application.answer``."""
        exchange = self._transcript.begin(request)
        try:
            answer = await self._application.answer(request)
        except BaseException:
            exchange.end("cut")
            raise
        if isinstance(answer, Upgrade):
            return self._upgraded(exchange, request, answer)
        if isinstance(answer, Streaming):
            self._transcript.answered(exchange, answer.status, answer.headers)
            return replace(answer, body=self._followed(exchange, answer.body))
        if isinstance(answer, Response):
            self._transcript.answered(exchange, answer.status, answer.headers, answer.body)
        elif isinstance(answer, RawAnswer):
            head, _, body = answer.data.partition(b"\r\n\r\n")
            word = head[9:12].decode("latin-1")
            self._transcript.answered(exchange, int(word) if word.isdecimal() else 0, (), body)
        exchange.end("server" if exchange.status is not None else "cut")
        return answer

    async def _followed(self, exchange: Exchange, body: AsyncIterable[Buffer]) -> AsyncIterator[Buffer]:
        where: tuple[Sender, str] = ("server", "body")
        try:
            if hasattr(body, "aclose"):
                async with aclosing(cast("AsyncGenerator[Buffer]", body)) as pieces:
                    async for piece in pieces:
                        self._body(exchange, where, piece)
                        yield piece
            else:
                async for piece in body:
                    self._body(exchange, where, piece)
                    yield piece
            exchange.end("server")
        finally:
            exchange.end("client")

    def _body(self, exchange: Exchange, where: tuple[Sender, str], piece: Buffer) -> None:
        exchange.count(*where, len(piece))
        if len(exchange.body) < self._transcript.payload:
            exchange.body += bytes(piece)[: self._transcript.payload - len(exchange.body)]

    def _upgraded(self, exchange: Exchange, request: Request, upgrade: Upgrade) -> Upgrade:
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in upgrade.headers]
        named = {name.lower(): value for name, value in headers}
        transport = "websocket" if named.get("upgrade", "").lower() == "websocket" else "spdy"
        protocol = named.get("sec-websocket-protocol") or named.get("x-stream-protocol-version", "")
        exchange.protocol = protocol[:300]
        keep = self._transcript.payload
        decoder = dissector(
            transport,
            protocol,
            lambda seen: exchange.note(seen, keep),
            forwarding="portforward" in request.path.lower(),
            payload=keep > 0,
        )
        self._transcript.answered(exchange, 101, headers)

        def open_it(outside: Carrier, host: SessionHost) -> Session:
            return RecordedSession(upgrade, outside, host, decoder, exchange)

        return replace(upgrade, open=open_it)


class RecordedSession:
    """A ``Session`` to the connection, and a ``Carrier`` to the session behind it, that hands everything on and tells
    the decoder of it."""

    def __init__(
        self, upgrade: Upgrade, outside: Carrier, host: SessionHost, decoder: Dissector, exchange: Exchange
    ) -> None:
        self.loop = outside.loop
        self.limits, self.deadlines = host.limits, host.deadlines
        self._outside, self._host = outside, host
        self._decoder, self._exchange = decoder, exchange
        self._leaving = False
        self._session = upgrade.open(self, self)
        self._engine = self._session.engine

    # -- the Session that the connection sees ------------------------------------------------------------------------

    @property
    def engine(self) -> RecordedSession:
        """Itself: output passes through here."""
        return self

    @property
    def pending_bytes(self) -> int:
        """As ``Engine.pending_bytes``."""
        return self._engine.pending_bytes

    def data_to_send(self) -> list[Buffer]:
        """As ``Engine.data_to_send``."""
        segments = self._engine.data_to_send()
        self._tell(segments)
        if self._leaving and not self._engine.pending_bytes:
            self._exchange.end("server")
        return segments

    def next_deadline(self) -> float | None:
        """As ``Engine.next_deadline``."""
        return self._engine.next_deadline()

    @property
    def starved(self) -> bool:
        """As ``Session.starved``."""
        return self._session.starved

    def start(self, now: float) -> None:
        """As ``Session.start``."""
        self._session.start(now)

    def receive(self, plain: Buffer, now: float) -> bool:
        """As ``Session.receive``."""
        self._decoder.feed("client", plain)
        return self._session.receive(plain, now)

    def receive_eof(self, now: float, *, clean: bool) -> None:
        """As ``Session.receive_eof``."""
        self._exchange.end("client")
        self._session.receive_eof(now, clean=clean)

    def handle_timeout(self, now: float) -> None:
        """As ``Session.handle_timeout``."""
        self._session.handle_timeout(now)

    def wrote(self) -> bool:
        """As ``Session.wrote``."""
        return self._session.wrote()

    def hang_up(self) -> None:
        """As ``Session.hang_up``."""
        self._session.hang_up()

    def room(self) -> None:
        """As ``Session.room``."""
        self._session.room()

    async def close(self) -> None:
        """As ``Session.close``."""
        self._exchange.end("server")
        await self._session.close()

    # -- the Carrier and the SessionHost that the session sees -------------------------------------------------------

    def session_over(self, session: Session) -> None:
        """As ``SessionHost.session_over``."""
        self._host.session_over(self)

    def want_flush(self) -> None:
        """As ``Carrier.want_flush``."""
        self._outside.want_flush()

    @property
    def full(self) -> bool:
        """As ``Carrier.full``."""
        return self._outside.full

    def transmit(self, segments: Sequence[Buffer]) -> None:
        """As ``Carrier.transmit``."""
        self._tell(segments)
        self._outside.transmit(segments)

    def pause_reading(self) -> None:
        """As ``Carrier.pause_reading``."""
        self._outside.pause_reading()

    def resume_reading(self) -> None:
        """As ``Carrier.resume_reading``."""
        self._outside.resume_reading()

    def cut(self) -> None:
        """As ``Carrier.cut``."""
        self._exchange.end("cut")
        self._outside.cut()

    def end(self, *, lost: bool) -> None:
        """As ``Carrier.end``."""
        self._leaving = True
        if not self._engine.pending_bytes:
            self._exchange.end("server")
        self._outside.end(lost=lost)

    def break_off(self, how: How) -> None:
        """As ``Carrier.break_off``."""
        self._exchange.end("cut")
        self._outside.break_off(how)

    def _tell(self, segments: Sequence[Buffer]) -> None:
        feed = self._decoder.feed
        for segment in segments:
            feed("server", segment)
