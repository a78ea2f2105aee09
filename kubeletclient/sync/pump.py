"""Moves the bytes of one session, in whatever thread needs them moved.

Theory of operation
===================

There is no hidden thread. Whoever waits for something (output, room for stdin, the exit status) *pumps*: sends what
is queued, reads what has come, hands output to its sinks, and polls the socket in between. Rules that make it
correct:

1. One lock guards session, TLS and sinks. It is released only around ``poll``. It is reentrant, so that a callback
   which gets output may write stdin, resize, or close; a callback cannot wait, because it is what others wait for.
2. One thread at a time *leads*: only the leader receives. The others wait on a condition, and are woken when something
   came for anybody, or when the leader leaves and one of them must take over. A writer that finds the socket full while
   another thread leads polls for room by itself.
3. A thread that polls without watching for input (because a pipe is full, or because another one leads) would miss that
   the world has changed, so it watches the *waker* too, and whoever changes the world pokes the waker. A leader that
   watches for input needs no waker, so idle sessions have none.
4. Reading goes on while writing is blocked: a command that echoes would otherwise wait for us while we wait for it.
5. A pipe that nobody reads stops reading of the whole connection at ``HIGH_WATER``, as SPDY here knows no flow control
   for single streams. That is what ``subprocess`` does when both pipes are not drained; ``communicate`` drains both.
6. The session's clock runs only while a leader polls for input. So a deadline that the peer owes counts the time in
   which we listened, and a slow reader, a blocked callback or a program that was busy elsewhere never makes the peer
   look dead. The caller's own ``timeout`` is real time.
7. An exception in the middle of work (a callback that raises, Ctrl-C between decryption and delivery) would lose bytes
   that the engine has already handed out. The session is given up then; it never goes on with a hole in its output.
   Ctrl-C while polling, where nearly all the time is spent, harms nothing.
"""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

from kubeletclient import errors
from kubeletclient._flows import Established
from kubeletclient._policy import BATCH, Deadline, Sink, Source, first_batch
from kubeletclient._sockets import MOMENT
from kubeletclient.results import Context, failure_of, interrupted, process_closed, stdin_closed
from kubeletclient.sync.driver import IN, OUT, Scratch, Transport, milliseconds, scratch
from kubeletclient.sync.pipes import Outputs, Waker
from spdyproto.channels.events import Exited, Lost, Output, OutputEnded, SessionEvent, StdinEnded, StreamKind
from spdyproto.errors import LocalProtocolError

__all__ = ["Pump"]

_ROUNDS: Final = 16
"""Turns of a look that does not wait: a peer that sends as fast as we read must not turn it into a wait."""

_TROUBLE: Final = select.POLLHUP | select.POLLERR | select.POLLNVAL


class Pump:
    """One session on one transport, for any number of threads."""

    def __init__(
        self,
        transport: Transport,
        established: Established,
        sinks: Mapping[StreamKind, Sink],
        source: Source | None,
        context: Context,
        deadline: Deadline,
    ) -> None:
        self.lock = threading.RLock()
        self.session = established.session
        self.outputs = Outputs(sinks)
        self.source = source
        self.context = context
        self.deadline = deadline
        self.failure: BaseException | None = None
        """Why nothing more will come, unless the session ended with an exit code."""
        self.over = False
        """No byte moves any more: the outcome is there, or the session was given up or closed."""
        self.closed = False
        """The caller closed it before its end."""
        self._transport = transport
        self._changed = threading.Condition(self.lock)
        self._leader: int | None = None
        self._followers = 0
        self._polling: set[int] = set()
        self._waker: Waker | None = None
        self._watching_waker = 0
        self._clock = time.monotonic()
        self._due: float | None = None
        self._maybe_more = True
        self._written = 0
        self._source_ready = False
        self._start(established.surplus)

    def _start(self, surplus: bytes) -> None:
        with self.lock:
            try:
                self.session.start(self._clock)
                if surplus:
                    self._deliver(self.session.receive_data(memoryview(surplus), self._clock))
                if self._transport.closed_by_peer and not self.over:  # no more bytes will tell of it
                    self._deliver(self.session.receive_eof(self._clock, clean=True))
            except BaseException as error:
                self.abort(error)
                raise
            self._send_queued()

    # -- waiting -----------------------------------------------------------------------------------------------------

    def wait_for(self, done: Callable[[], bool], deadline: Deadline, what: str) -> None:
        """Pump until ``done()``, which is asked with the lock held and must become true when the session is ``over``.

        Raises DeadlineExceeded, which leaves everything as it is if ``deadline`` passed, and closes the session if
        its own did; and whatever ended the pumping (see ``failure``) when it happens in this thread.
        """
        with self.lock:
            self.wait_locked(done, deadline, what)

    def wait_locked(self, done: Callable[[], bool], deadline: Deadline, what: str) -> None:
        """The same, with the lock held by the caller, once: polling releases it once, and other threads go on then."""
        if self._leader == threading.get_ident():
            raise RuntimeError("an output callback cannot wait on its own process: it may write, resize and close")
        if self.outputs.due and not self.closed:
            self._hand_out()
        while not done():
            if self._leader is None:
                self._lead(done, deadline, what)
            else:
                self._follow(deadline, what)

    def release(self) -> None:
        """From now on callbacks may be called: the caller has the process in hand that they may want to use."""
        with self.lock:
            self.outputs.release()

    def _hand_out(self) -> None:
        """Call the callbacks with what came before ``release``."""
        self._leader = threading.get_ident()
        try:
            self.outputs.hand_out()
        except BaseException as error:
            self.abort(error)
            raise
        finally:
            self._leader = None

    def _lead(self, done: Callable[[], bool], deadline: Deadline, what: str) -> None:
        """Pump until ``done()``, which is not true yet."""
        self._leader = threading.get_ident()
        try:
            with scratch() as buffers:
                idle = self._exchange(buffers)
                while not done():
                    if deadline.at is not None or self.deadline.at is not None:
                        self._check(deadline, what)
                    if idle:
                        self._poll(deadline, buffers)
                    idle = self._exchange(buffers)
        finally:
            self._leader = None
            if self._followers:
                self._changed.notify_all()
            if self._watching_waker:
                self.poke()

    def _follow(self, deadline: Deadline, what: str) -> None:
        self._check(deadline, what)
        self._followers += 1
        try:
            self._changed.wait(deadline.sooner(self.deadline).left())
        finally:
            self._followers -= 1

    def _check(self, deadline: Deadline, what: str) -> None:
        if self.deadline.passed():
            self.give_up(self.deadline.error(self._waiting_for(what)))
        elif deadline.passed():
            raise self.filled(deadline.error(self._waiting_for(what)))

    def _waiting_for(self, what: str) -> str:
        full = self.outputs.full_names()
        return f"{what} (nobody reads {' and '.join(full)}, so nothing more is received)" if full else what

    # -- the work ----------------------------------------------------------------------------------------------------

    def _exchange(self, buffers: Scratch) -> bool:
        """Move what moves without waiting. True when there is nothing left to do but wait.

        What callers queue is sent by ``push``, so that here is only what a full socket left behind.
        """
        if self.over:
            return False
        try:
            idle = True
            if self._transport.blocked:
                self._send_queued()
                # Room again: a source that was held back must be asked before anything is waited for.
                idle = self._transport.blocked
            if self.source is not None and self._feed_stdin(buffers):
                self._send_queued()
                idle = False
            if self._maybe_more and not self.outputs.full() and self._receive(buffers):
                idle = False
            return not self._keep_time() and idle
        except BaseException as error:
            self.abort(error)
            raise

    def _feed_stdin(self, buffers: Scratch) -> bool:
        """Queue one batch of stdin, once the last one has left. The buffer is free again when it was encrypted."""
        source, session = self.source, self.session
        if source is None or not session.ready or self._transport.blocked:
            return False
        if not session.stdin_open:
            self.source = None
            return False
        if source.descriptor is not None and not self._source_ready:
            return False
        self._source_ready = False
        batch = source.next_batch(buffers.stdin_room())
        if batch is None:
            return False
        self._maybe_more = True  # look at the answer to each batch: the command may have stopped reading
        if len(batch):
            session.write_stdin(batch)
        else:
            self.source = None
            self.end_stdin()
        return True

    def end_stdin(self) -> None:
        """Half-close, when stdin is still open; with the lock held. Terminals keep it open: their server would stop
        the output.
        """
        session = self.session
        if session.stdin_open and session.ready and not session.streams.tty:
            session.close_stdin()

    def _send_queued(self) -> None:
        if self.over:
            return
        transport = self._transport
        try:
            # The engine bounds what it holds, the TLS queue does not: it gets nothing while the socket is full.
            if transport.restless and not transport.flush():
                return
            segments = self.session.data_to_send()
            if segments:
                transport.queue(segments)
                transport.flush()
        except BaseException as error:
            self.abort(error)
            raise

    def _receive(self, buffers: Scratch) -> bool:
        """One ``recv`` and everything in it. True when it is worth looking again before anything is waited for."""
        transport, session = self._transport, self.session
        try:
            size = transport.read(buffers.cipher)
        except OSError as error:
            self._cut(error)
            return True
        if size is None:
            self._maybe_more = False
            return False
        # A short read has emptied the socket: the next one would only be told to wait.
        self._maybe_more = size == len(buffers.cipher)
        views = iter(transport.decrypted(buffers.cipher[:size], buffers.plain))
        while size:
            # Not a for loop: only the transport's own errors cut the session, a sink's go to the caller as they are.
            try:
                plain = next(views, None)
            except OSError as error:  # ssl.SSLError is one
                self._cut(error)
                return True
            if plain is None:
                break
            self._deliver(session.receive_data(plain, self._clock))
            if self.over:
                return True
        if session.pending_bytes or transport.restless:
            self._send_queued()
        if not size or transport.closed_by_peer:
            clean = transport.end_of_input() if not size else True
            self._deliver(session.receive_eof(self._clock, clean=clean))
        return self._maybe_more or self.source is not None

    def _cut(self, error: OSError) -> None:
        """The transport failed while receiving."""
        self._deliver(self.session.receive_eof(self._clock, clean=False))
        if self.failure is not None and self.failure.__cause__ is not None:
            self.failure.__cause__.__cause__ = error

    def _deliver(self, events: list[SessionEvent]) -> None:
        sinks = self.outputs.sinks
        for event in events:
            if type(event) is Output:
                sinks[event.kind].feed(event.data)
                if self.over:  # closed by the callback
                    return
            elif isinstance(event, OutputEnded):
                self.outputs.end(event.kind)
            elif isinstance(event, StdinEnded):
                self.source = None
            elif isinstance(event, Exited | Lost):
                self._conclude(event)
        if events and self._followers:
            self._changed.notify_all()

    def _conclude(self, outcome: Exited | Lost) -> None:
        failure = failure_of(outcome, self.session.ledger())
        if failure is not None:
            self.failure = self.filled(failure)
        self._finish(polite=True)

    def _keep_time(self) -> bool:
        """Let the session do what is due by its own clock; True when that was something."""
        self._due = due = self.session.next_deadline()
        if due is None or due > self._clock:
            return False
        events = self.session.handle_timeout(self._clock, output_blocked=self._transport.blocked)
        self._deliver(events)
        if not self.over and self.session.pending_bytes:
            self._send_queued()
        return True

    # -- polling -----------------------------------------------------------------------------------------------------

    def _poll(self, deadline: Deadline, buffers: Scratch) -> None:
        """Wait, without the lock, until there is something to do. The leader's, after ``_exchange`` found nothing."""
        if self.over:  # closed by a signal handler
            return
        transport, source = self._transport, self.source
        listening = not self.outputs.full()
        mask = (IN if listening else 0) | (OUT if transport.blocked else 0)
        waiting = source is not None and self.session.ready and self.session.stdin_open and not transport.blocked
        stdin = source.descriptor if source is not None and waiting else None
        alone = listening and stdin is None
        poller = buffers.poller(transport.fileno(), mask) if alone else select.poll()
        if mask and not alone:
            poller.register(transport.fileno(), mask)
        if stdin is not None:
            poller.register(stdin, IN)
        left = None if deadline.at is self.deadline.at is None else deadline.sooner(self.deadline).left()
        due = self._due if listening else None
        if due is not None:
            left = max(0.0, due - self._clock) if left is None else min(left, max(0.0, due - self._clock))
        if gathering := listening and transport.gathering:
            left = MOMENT if left is None else min(left, MOMENT)
        began = time.monotonic()
        ready = self._poll_unlocked(poller, left, waker=not listening)
        if listening:
            self._clock += time.monotonic() - began
        if socket_ready := gathering and not ready:  # what there is has waited long enough
            transport.stop_gathering()
        for descriptor, happened in ready:
            if descriptor == stdin:
                self._source_ready = True
            elif happened & (IN | _TROUBLE):
                socket_ready = True
        # When stdin alone was ready the socket is known to be empty.
        self._maybe_more = self._maybe_more or socket_ready or not listening

    def _poll_unlocked(self, poller: select.poll, left: float | None, *, waker: bool) -> list[tuple[int, int]]:
        watched = None
        if waker:
            if self._waker is None:
                self._waker = Waker()
            watched = self._waker
            poller.register(watched, IN)
            self._watching_waker += 1
        thread = threading.get_ident()
        self._polling.add(thread)
        self.lock.release()
        try:
            ready = poller.poll(None if left is None else milliseconds(left))
        finally:
            self.lock.acquire()
            self._polling.discard(thread)
            if watched is not None:
                self._watching_waker -= 1
                if not self._watching_waker:
                    watched.quiet()
            if self.over and not self._polling:
                self._release()
                self._changed.notify_all()  # whoever closes waits for the last one to leave the socket
        if watched is None:
            return ready
        number = watched.fileno() if self._waker is not None else -1
        return [pair for pair in ready if pair[0] != number]

    def poke(self) -> None:
        """Something changed, with the lock held: threads that poll without listening shall look again."""
        if self._watching_waker and self._waker is not None:
            self._waker.poke()

    # -- sending for the caller --------------------------------------------------------------------------------------

    def push(self, deadline: Deadline, what: str) -> None:
        """Send what is queued, with the lock held, and wait until the socket has taken it.

        From inside a callback nothing is waited for: the pump that called it goes on sending.
        """
        self._send_queued()
        if self._transport.blocked:
            self._push_blocked(deadline, what)

    def _push_blocked(self, deadline: Deadline, what: str) -> None:
        if self._leader == threading.get_ident():
            return
        while self._transport.blocked and not self.over:
            if self._leader is None:
                self._lead(lambda: self.over or not self._transport.blocked, deadline, what)
            else:
                self._check(deadline, what)
                poller = select.poll()
                poller.register(self._transport.fileno(), OUT)
                self._poll_unlocked(poller, deadline.sooner(self.deadline).left(), waker=True)
                self._send_queued()

    def write_stdin(self, data: memoryview, deadline: Deadline) -> None:
        """Send all of ``data``; its buffer is free on return.

        Raises StdinClosed when nobody takes it any more, and in a callback ``spdyproto.errors.OutputLimitExceeded``
        when the socket is full and ``Limits.queued_bytes`` are waiting already.
        """
        with self.lock:
            while data:
                if self._transport.blocked:
                    self._push_blocked(deadline, "stdin to be taken")
                self._require_stdin()
                # A callback cannot wait, so what a full socket does not take outlives the caller's buffer.
                batch = first_batch(data, BATCH)
                if self._transport.blocked:
                    batch = memoryview(bytes(batch))
                try:
                    self.session.write_stdin(batch)
                    self._send_queued()
                except LocalProtocolError:  # too much is queued: nothing has changed
                    raise
                except BaseException as error:  # Ctrl-C: the engine must not keep a view of the caller's buffer
                    self.abort(error)
                    raise
                data = data[len(batch) :]
                if self._transport.blocked:
                    self._push_blocked(deadline, "stdin to be taken")
                # A writer that is never stopped by a full socket would not notice that the command has ended.
                self._written += len(batch)
                if self._written >= BATCH:
                    self._written = 0
                    self.glance()

    def glance(self) -> None:
        """Read what has come, without waiting; nothing when another thread reads already."""
        with self.lock:
            if self._leader is not None:
                return
            if self.outputs.due:
                self._hand_out()
            self._maybe_more = True
            self._leader = threading.get_ident()
            try:
                with scratch() as buffers:
                    for _ in range(_ROUNDS):
                        if self._exchange(buffers) or self.over:
                            break
            finally:
                self._leader = None

    def _require_stdin(self) -> None:
        if self.closed:
            raise self.filled(process_closed())
        if self.over or not self.session.stdin_open:
            raise self.filled(stdin_closed())

    # -- the end -----------------------------------------------------------------------------------------------------

    def give_up(self, error: errors.ClientError) -> None:
        """End the session because of ``error``, and raise it, completed; with the lock held."""
        self.failure = self.filled(error)
        self._finish(polite=True)
        raise self.failure

    def abort(self, cause: BaseException) -> None:
        """End the session because work was interrupted by ``cause``; with the lock held."""
        if self.over:
            return
        if isinstance(cause, errors.ClientError):
            self.failure = self.filled(cause)
        else:
            self.failure = self.filled(interrupted(cause))
        self._finish(polite=False)

    def close(self) -> None:
        """Leave: the peer is told as far as that needs no waiting, and the socket is closed. Safe at any time, in
        any thread.
        """
        with self.lock:
            if not self.over:
                self.closed = True
                self._finish(polite=True)
            # Not for oneself: a signal handler runs in the middle of its own thread's poll.
            while self._polling - {threading.get_ident()} and self._leader != threading.get_ident():
                self._changed.wait()

    def _finish(self, *, polite: bool) -> None:
        """Nothing moves any more; whoever waits is woken. The last thread to leave the socket closes it."""
        self.over = True
        self.source = None
        if polite:
            self.session.close()
            try:
                self._transport.queue(self.session.data_to_send())
                self._transport.say_goodbye()
            except (LocalProtocolError, OSError):
                pass  # TLS has failed: nobody can be told
        if self._polling:
            self._transport.shutdown()
            self.poke()
        else:
            self._release()
        self._changed.notify_all()

    def _release(self) -> None:
        self._transport.close()
        if self._waker is not None:
            self._waker.close()
            self._waker = None

    # -- telling -----------------------------------------------------------------------------------------------------

    def filled(self, error: errors.ClientError) -> errors.ClientError:
        """``error``, completed with how far this session had come."""
        return self.context.fill(
            error,
            received=self.session.received,
            sent=self.session.sent,
            stdout=self.outputs.partial(StreamKind.STDOUT),
            stderr=self.outputs.partial(StreamKind.STDERR),
        )
