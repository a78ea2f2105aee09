"""Moves the bytes of one session on an event loop.

Theory of operation
===================

Everything runs in callbacks of one loop, so nothing is locked. The wire calls up with plaintext; the session turns it
into events; output goes to its sink while it still lies in the loop's shared buffer. Rules that make it correct:

1. Reading never waits for writing: a command that echoes would otherwise wait for us while we wait for it.
2. Stdin is pulled, a batch at a time, when the last batch has left. A batch is framed and encrypted in the call that
   pulled it, so the buffers of sources are free again at once, and all that can wait is one batch of ciphertext.
3. What cannot be handed on at once waits in front of its consumer (a pipe, a coroutine, a thread), up to ``HIGH_WATER``
   bytes. Then the socket is not read any more, for the whole connection: SPDY here knows no flow control for single
   streams. That is what ``subprocess`` does when both pipes are not drained; ``communicate`` drains both.
4. The session's clock is one timer, set again when it fires and not each time that something comes. While we do not
   read, or have not because the loop was busy elsewhere, nothing that the peer owes is late. The caller's own
   ``timeout`` is real time.
5. An exception in the middle of work (a callback that raises) would lose bytes that the engine has already handed out.
   The session is given up then; it never goes on with a hole in its output. The caller gets the exception as it is,
   once; whoever asks again gets ``ConnectionLost`` with it as the cause.
6. Leaving is immediate: last words leave if the kernel takes them at once, and the socket is closed. There is nothing
   to linger for: a session that ended has nothing to say, and one that was left is not waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Final, TypeVar

from kubeletclient import errors
from kubeletclient._flows import Established
from kubeletclient._policy import BATCH, NEVER, Deadline, FileSink, Sink, Source
from kubeletclient._wire import Scratch, Wire
from kubeletclient.aio.background import AsyncSource, Background, PolledSource
from kubeletclient.aio.driver import Connection
from kubeletclient.aio.pipes import InputPipe, PipeSink, Signal
from kubeletclient.results import Context, closed_before_its_end, failure_of, interrupted, process_closed, stdin_closed
from spdyproto.channels.events import Exited, Lost, Output, OutputEnded, Ready, SessionEvent, StdinEnded, StreamKind
from spdyproto.errors import PeerClosed

__all__ = ["Exchange"]

Result = TypeVar("Result")

_ROUNDS: Final = 4
"""Batches of stdin that one callback may send: a peer as fast as we are would otherwise keep the loop for itself."""

_BURST: Final = 50e-6
"""Seconds. Writes closer together than this are gathered. A callback of the loop for each write, to see whether others
follow, would cost a round trip of small pieces a tenth more."""

_BUSY: Final = 0.05
"""Seconds. A timer this late tells that the loop was busy elsewhere, and that we have not listened: the peer gets as
much time again before it is judged, once.
"""


class Exchange:
    """One session on one connection, whose socket it owns. Made on the loop that it then lives on; no method may be
    called elsewhere.
    """

    def __init__(
        self,
        connection: Connection,
        established: Established,
        sinks: Mapping[StreamKind, Sink],
        source: Source | None,
        context: Context,
        deadline: Deadline,
    ) -> None:
        self._loop = loop = asyncio.get_running_loop()
        self.session = established.session
        self.sinks = dict(sinks)
        self.context = context
        self.deadline = deadline
        self.failure: BaseException | None = None
        """Why nothing more will come, unless the session ended with an exit code."""
        self.over = False
        """No byte moves any more: the outcome is there, or the session was given up or closed."""
        self.closed = False
        """The caller closed it before its end."""
        self._raw: BaseException | None = None
        self._ended = Signal()
        self._ready = Signal()
        self._source = source
        self._leftover = source if isinstance(source, AsyncSource) else None
        self._waits_for = "the command to end"
        self._flushing_soon = False
        self._written_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._excused = False
        self._pipes = [sink for sink in self.sinks.values() if isinstance(sink, PipeSink)]
        self._queues = [sink for sink in self.sinks.values() if isinstance(sink, PipeSink | Background)]
        assert connection.sock is not None
        self._wire = Wire(loop, connection.sock, connection.tls, self)
        self._room = Scratch.of(loop).stdin
        self._alarm: asyncio.TimerHandle | None = None
        self._behind = established.surplus, connection.end

    def start(self) -> None:
        """Open the streams, and begin to move bytes. What it raises must be followed by ``aclose``, as any end."""
        left = self.deadline.left()
        self._alarm = None if left is None else self._loop.call_later(left, self._on_deadline)
        for sink in self._queues:
            if isinstance(sink, PipeSink):
                sink.start(self.on_room)
            else:
                sink.start(self, self.on_room)
        if isinstance(self._source, InputPipe | PolledSource | AsyncSource):
            self._source.start(self)
        opened = self.session.start(self._loop.time())
        self._wire.resume()
        self._deliver(opened)  # over WebSocket it is ready at once
        surplus, end = self._behind
        if surplus:
            self.on_data(memoryview(surplus))
        self.on_batch()
        if end is not None:  # no more bytes will tell of it
            self._wire.pause()
            self.on_end(clean=end)

    # -- receiving ---------------------------------------------------------------------------------------------------

    def on_data(self, data: memoryview) -> None:
        """The wire: plaintext has come."""
        if self.over:
            return
        events = self.session.receive_data(data, self._loop.time())
        if events:
            self._deliver(events)

    def on_batch(self) -> None:
        """The wire: that was all for now."""
        if self.over:
            return
        for pipe in self._pipes:
            pipe.look()
        for sink in self._queues:
            if sink.full:
                self._wire.pause()
        if self.session.pending_bytes:
            self.flush()
        self._set_timer()

    def on_end(self, *, clean: bool) -> None:
        """The wire: nothing more comes."""
        if self.over:
            return
        self._deliver(self.session.receive_eof(self._loop.time(), clean=clean))
        if not self.over:  # an engine always ends with its transport
            self._conclude(Lost(PeerClosed("the connection ended")))

    def _deliver(self, events: list[SessionEvent]) -> None:
        sinks = self.sinks
        try:
            for event in events:
                if type(event) is Output:
                    sinks[event.kind].feed(event.data)
                    if self.over:  # closed by the callback
                        return
                else:
                    self._on_event(event)
        except BaseException as error:
            self.abort(error)
            if not isinstance(error, Exception):
                raise

    def _on_event(self, event: SessionEvent) -> None:
        if isinstance(event, OutputEnded):
            sink = self.sinks[event.kind]
            if isinstance(sink, PipeSink):
                sink.ended = True
                sink.wake()
            elif isinstance(sink, FileSink):
                sink.flush()
        elif isinstance(event, Ready):
            self._ready.set()
            self.flush_soon()
        elif isinstance(event, StdinEnded):
            self._drop_source()
        elif isinstance(event, Exited | Lost):
            self._conclude(event)

    def _conclude(self, outcome: Exited | Lost) -> None:
        failure = failure_of(outcome, self.session.ledger())
        if failure is not None:
            self.failure = self.filled(failure)
        self._finish(polite=True)

    def on_room(self) -> None:
        """A consumer has caught up: read the socket again, if no other is behind."""
        if self._wire.paused and not self.over and not any(sink.full for sink in self._queues):
            self._wire.resume()

    # -- sending -----------------------------------------------------------------------------------------------------

    def flush_soon(self) -> None:
        """``flush`` once the callbacks that are due now have run."""
        if not self._flushing_soon:
            self._flushing_soon = True
            self._loop.call_soon(self._flush_now)

    def flush_written(self) -> None:
        """``flush`` at once for a piece that a caller writes alone, so that an answer is not waited for longer than
        need be; pieces that follow closely upon another go together when the loop comes round.
        """
        if self._flushing_soon:
            return
        now = self._loop.time()
        if now - self._written_at < _BURST:
            self.flush_soon()
        else:
            self.flush()
        self._written_at = now

    def _flush_now(self) -> None:
        self._flushing_soon = False
        self.flush()

    def flush(self) -> None:
        """Send what is queued, and stdin for as long as the kernel takes it."""
        wire, session = self._wire, self.session
        for _ in range(_ROUNDS):
            if wire.blocked or wire.closed:
                return
            more = self._source is not None and self._feed_stdin()
            if self.over:
                return
            if session.pending_bytes:
                wire.send(session.data_to_send())
            if not more:
                return
        self.flush_soon()

    def on_writable(self) -> None:
        """The wire: what was sent has left."""
        self.flush()

    def _feed_stdin(self) -> bool:
        """Queue up to one batch of stdin. True when the source may have more at once."""
        session, source = self.session, self._source
        assert source is not None
        if not session.ready:
            return False
        if not session.stdin_open or self._wire.broken:
            self._drop_source()
            return False
        room, used = self._room, 0
        try:
            while used < BATCH:
                batch = source.next_batch(room[used:])
                if batch is None:
                    return False
                size = len(batch)
                if not size:
                    self._drop_source()
                    # The server of a terminal would stop the output, too; a caller who closes the pipe wants that.
                    if not session.streams.tty or isinstance(source, InputPipe):
                        session.close_stdin()
                    return False
                session.write_stdin(batch)
                used += size
        except BaseException as error:
            self.abort(error)
            if not isinstance(error, Exception):
                raise
            return False
        return True

    def _drop_source(self) -> None:
        source, self._source = self._source, None
        if isinstance(source, InputPipe | PolledSource | AsyncSource):
            source.stop()

    def require_stdin(self) -> None:
        """Raises ProcessClosed or StdinClosed when nothing can be written any more."""
        if self.closed:
            raise self.filled(process_closed())
        if self.over or not self.session.stdin_open or self._wire.broken:
            raise self.filled(stdin_closed())

    # -- time --------------------------------------------------------------------------------------------------------

    def _set_timer(self) -> None:
        """Lazily: a timer that fires too early sets itself again, which is rare; moving it back each time is not."""
        due = self.session.next_deadline()
        timer = self._timer
        if due is None or (timer is not None and timer.when() <= due):
            return
        if timer is not None:
            timer.cancel()
        self._timer = self._loop.call_at(due, self._on_timer)

    def _on_timer(self) -> None:
        timer, self._timer = self._timer, None
        if self.over or timer is None:
            return
        wire = self._wire
        now = self._loop.time()
        late = now - timer.when()
        if late > _BUSY and not self._excused:
            self._excused = True
            self._timer = self._loop.call_at(now + late, self._on_timer)
            return
        self._excused = False
        self._deliver(self.session.handle_timeout(now, output_blocked=wire.blocked, input_paused=wire.paused))
        if not self.over:
            self.flush()
            self._set_timer()

    def _on_deadline(self) -> None:
        if not self.over:
            self._give_up(self.deadline.error(self._waiting_for(self._waits_for)))

    def _waiting_for(self, what: str) -> str:
        full = [str(kind) for kind, sink in self.sinks.items() if isinstance(sink, PipeSink) and sink.full]
        return f"{what} (nobody reads {' and '.join(full)}, so nothing more is received)" if full else what

    # -- waiting -----------------------------------------------------------------------------------------------------

    async def wait(self, awaitable: Awaitable[Result], deadline: Deadline, what: str) -> Result:
        """``awaitable``, within ``deadline``. Raises DeadlineExceeded, which leaves everything as it is."""
        self._waits_for = what
        if deadline.at is None:
            return await awaitable
        try:
            async with asyncio.timeout(deadline.left()) as scope:
                return await awaitable
        except TimeoutError:
            if not scope.expired():
                raise
            raise self.filled(deadline.error(self._waiting_for(what))) from None

    async def until_ready(self) -> None:
        """Until the server has accepted every stream; raises why that will not be."""
        await self.wait(self._ready.wait(), NEVER, "the server to accept the streams")
        if not self.session.ready:
            self.raise_failure()

    async def until_over(self, deadline: Deadline = NEVER) -> None:
        """Until the outcome is there and every sink has got all output; does not raise it."""
        await self.wait(self._ended.wait(), deadline, "the command to end")
        for sink in self._queues:
            if isinstance(sink, Background):
                await self.wait(sink.drained(), deadline.sooner(self.deadline), "the output to be consumed")

    def raise_failure(self) -> None:
        """Raise why nothing more comes; returns when an exit code is known."""
        raw, self._raw = self._raw, None
        if raw is not None:
            raise raw
        if self.failure is not None:
            raise self.failure
        if self.closed:
            raise closed_before_its_end(self.context.url)

    # -- the end -----------------------------------------------------------------------------------------------------

    def _give_up(self, error: errors.ClientError) -> None:
        self.failure = self.filled(error)
        self._finish(polite=True)

    def abort(self, cause: BaseException) -> None:
        """End the session because work was interrupted by ``cause``."""
        if self.closed or self.failure is not None:
            return
        if isinstance(cause, errors.ClientError):
            self.failure = self.filled(cause)
        else:
            self.failure = self.filled(interrupted(cause))
            self._raw = cause
        if not self.over:
            self._finish(polite=True)

    def close(self) -> None:
        """Leave: the peer is told as far as that needs no waiting, and the socket is closed. Safe at any time."""
        if not self.over:
            self.closed = True
            self._finish(polite=True)
        for sink in self._queues:
            if isinstance(sink, Background):
                sink.stop()

    async def aclose(self) -> None:
        """``close``, and wait until the caller's iterators and coroutines that were running for it have ended."""
        self.close()
        if self._leftover is not None:
            await self._leftover.stopped()
        for sink in self._queues:
            if isinstance(sink, Background):
                await sink.drained()

    def _finish(self, *, polite: bool) -> None:
        self.over = True
        self._drop_source()
        for handle in (self._timer, self._alarm):
            if handle is not None:
                handle.cancel()
        self._timer = self._alarm = None
        if polite:
            self.session.close()
            self._wire.close(self.session.data_to_send())
        else:
            self._wire.close()
        for pipe in self._pipes:
            pipe.wake()
        self._ready.set()
        self._ended.set()

    # -- telling -----------------------------------------------------------------------------------------------------

    def filled(self, error: errors.ClientError) -> errors.ClientError:
        """``error``, completed with how far this session had come."""
        out, err = self.sinks.get(StreamKind.STDOUT), self.sinks.get(StreamKind.STDERR)
        return self.context.fill(
            error,
            received=self.session.received,
            sent=self.session.sent,
            stdout=None if out is None else out.partial(),
            stderr=None if err is None else err.partial(),
        )
