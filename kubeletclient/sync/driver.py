"""One socket for one connection, and the runner of the flows that set it up.

The socket is non-blocking, raw TCP; TLS happens in memory (``spdyproto.tls``). So no thread ever waits inside
OpenSSL, one ``recv`` takes in many records, and one ``send`` carries a whole batch of them. Nothing here is safe
for two threads at once: ``pump`` holds a lock around it.

Receive buffers belong to threads, not to connections: a thousand idle sessions share one pair.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import ssl
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, Final, TypeVar

from kubeletclient._commands import Address, Command, Connect, Disconnect, Load, Receive, Resolve, StartTLS
from kubeletclient._policy import BATCH, SCRATCH, Deadline
from kubeletclient._sockets import Gatherer, tls_pipe, tune
from kubeletclient.endpoints import is_address
from spdyproto.tls import TLSPipe
from spdyproto.types import Buffer

__all__ = ["Scratch", "Transport", "establish", "scratch"]

Answer = TypeVar("Answer")

IN: Final = select.POLLIN
OUT: Final = select.POLLOUT

_PIECES: Final = 1024
"""Buffers that one ``sendmsg`` takes (``IOV_MAX`` of Linux and macOS)."""


class Scratch:
    """The buffers that one pump uses from one wait to the next."""

    __slots__ = ("_poller", "_watched", "cipher", "plain", "stdin")

    def __init__(self) -> None:
        self.cipher = memoryview(bytearray(SCRATCH))
        self.plain = memoryview(bytearray(SCRATCH))
        self.stdin: memoryview | None = None
        self._poller = select.poll()
        self._watched = (-1, 0)

    def poller(self, descriptor: int, events: int) -> select.poll:
        """What waits for one descriptor. It is kept, as the next wait of a thread is mostly for the same events."""
        if self._watched != (descriptor, events):
            self._poller = select.poll()
            self._poller.register(descriptor, events)
            self._watched = descriptor, events
        return self._poller

    def stdin_room(self) -> memoryview:
        """Room for one batch of stdin; made when first needed."""
        if self.stdin is None:
            self.stdin = memoryview(bytearray(BATCH))
        return self.stdin


class _Spares(threading.local):
    def __init__(self) -> None:
        self.free: list[Scratch] = []


_spares = _Spares()


class scratch:
    """Lends the calling thread's buffers. A pump inside a callback of another pump gets a second pair."""

    __slots__ = ("_lent",)

    def __enter__(self) -> Scratch:
        free = _spares.free
        self._lent = free.pop() if free else Scratch()
        return self._lent

    def __exit__(self, *_: object) -> None:
        if not _spares.free:
            _spares.free.append(self._lent)


class Transport:
    """A TCP socket, with TLS over it once ``start_tls`` was done."""

    __slots__ = ("_gatherer", "_left", "_sock", "_unsent", "blocked", "broken", "eof", "tls")

    def __init__(self) -> None:
        self._sock: socket.socket | None = None
        self.tls: TLSPipe | None = None
        self._gatherer = Gatherer()
        self.blocked = False
        """The socket did not take all that the last ``flush`` had for it."""
        self._unsent: list[Buffer] = []
        self._left = b""  # plaintext that the handshake or the upgrade brought along and nobody has read yet
        self.eof = False
        self.broken: OSError | None = None
        """What ended sending; receiving may go on, for what the peer sent before is still to be read."""

    # -- setting up --------------------------------------------------------------------------------------------------

    def perform(self, command: Command, deadline: Deadline) -> object:
        """Do what a flow asks for. Raises OSError, which includes TimeoutError and ssl.SSLError."""
        if isinstance(command, Load):
            return command.function(deadline.left())
        if isinstance(command, Disconnect):
            self._start_over()
            return None
        step = Deadline.after(command.timeout).sooner(deadline)
        if isinstance(command, Resolve):
            return _resolve(command, step)
        if isinstance(command, Receive):
            return self._receive_some(step)
        if isinstance(command, Connect):
            self._connect(command.address, step)
        elif isinstance(command, StartTLS):
            self._start_tls(command, step)
        else:
            self._send_all(command.data, step)
        return None

    def _start_over(self) -> None:
        self.close()
        self.tls = self.broken = None
        self._unsent, self._left, self.eof = [], b"", False

    def _connect(self, address: Address, step: Deadline) -> None:
        family, kind, protocol, _, where = address
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            tune(sock)
            code = sock.connect_ex(where)
            if code not in (0, errno.EINPROGRESS):
                raise OSError(code, os.strerror(code))
            if code:
                _wait(sock.fileno(), OUT, step)
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if code:
                    raise OSError(code, os.strerror(code))
        except BaseException:
            sock.close()
            raise
        self._sock = sock

    def _start_tls(self, command: StartTLS, step: Deadline) -> None:
        self.tls = tls = tls_pipe(self.tls, command)
        with scratch() as buffers:
            data = memoryview(b"")
            while True:
                try:
                    done = tls.do_handshake(data)
                except ssl.SSLError:
                    self._send_alert()
                    raise
                if done:
                    break  # our last flight leaves with the request behind it: one packet, one wake-up of the server
                self._flush_all(step)
                size = self._wait_and_read(buffers.cipher, step)
                if not size:
                    tls.receive_eof()
                data = buffers.cipher[:size]
            self._left = b"".join(bytes(view) for view in tls.receive(b"", buffers.plain))

    def _send_alert(self) -> None:
        """Tell the peer why, if that needs no waiting."""
        try:
            self.flush()
        except OSError:
            pass

    def _send_all(self, data: Buffer, step: Deadline) -> None:
        self.queue([data])
        self._flush_all(step)
        if self.broken is not None:
            raise self.broken

    def _flush_all(self, step: Deadline) -> None:
        while not self.flush():
            _wait(self.fileno(), OUT, step)

    def _receive_some(self, step: Deadline) -> bytes:
        if self._left:
            data, self._left = self._left, b""
            return data
        with scratch() as buffers:
            while not self.eof:
                size = self._wait_and_read(buffers.cipher, step)
                views = self.decrypted(buffers.cipher[:size], buffers.plain)
                data = b"".join([bytes(view) for view in views])
                self.eof = not size or self.closed_by_peer
                if data:
                    return data
        return b""

    def _wait_and_read(self, room: memoryview, step: Deadline) -> int:
        while True:
            size = self.read(room)
            if size is not None:
                return size
            _wait(self.fileno(), IN, step)

    # -- carrying data -----------------------------------------------------------------------------------------------

    def fileno(self) -> int:
        """The socket's descriptor; -1 once closed."""
        return -1 if self._sock is None else self._sock.fileno()

    def queue(self, segments: Sequence[Buffer]) -> None:
        """Take over ``segments``; their buffers are free again on return. Nothing is sent before ``flush``."""
        if self.broken is not None:
            return
        if self.tls is not None:
            self.tls.send(segments)
        else:
            self._unsent.append(b"".join(segments))

    @property
    def restless(self) -> bool:
        """Whether bytes wait for ``flush``: TLS answers some of what it receives by itself."""
        return self.blocked or (self.tls is not None and self.tls.pending > 0)

    def flush(self) -> bool:
        """Hand the socket what it takes without waiting. True when nothing is left (also when sending has failed)."""
        tls, sock = self.tls, self._sock
        if sock is None or self.broken is not None:
            self._unsent = []
            self.blocked = False
            if tls is not None:
                tls.take_segments()
            return True
        try:
            while True:
                if not self._unsent:
                    if tls is None or not tls.pending:
                        self.blocked = False
                        return True
                    self._unsent = list(tls.take_segments())
                self._unsent = _after(self._unsent, sock.sendmsg(self._unsent[:_PIECES]))
        except (BlockingIOError, InterruptedError):
            self.blocked = True
            return False
        except OSError as error:
            self.broken = error
            return self.flush()

    def read(self, room: memoryview) -> int | None:
        """One ``recv`` of raw bytes: how many came, 0 at the end, None when there is nothing now. Raises OSError."""
        if self._sock is None:  # closed meanwhile, by a signal handler
            return None
        try:
            size = self._sock.recv_into(room)
        except (BlockingIOError, InterruptedError):
            return None
        self._gatherer.came(size, self._sock)
        return size

    @property
    def gathering(self) -> bool:
        """The socket is called readable late, for bulk's sake: a wait may last ``MOMENT``, then ``stop_gathering``."""
        return self._gatherer.on

    def stop_gathering(self) -> None:
        """Look at any byte again."""
        if self._gatherer.on and self._sock is not None:
            self._gatherer.stop(self._sock)

    def decrypted(self, raw: memoryview, plain: memoryview) -> Iterator[memoryview] | tuple[memoryview, ...]:
        """The plaintext of ``raw``, in views that die with the next one. Raises ssl.SSLError after all that was
        good.
        """
        if self.tls is None:
            return (raw,) if raw else ()
        return self.tls.receive(raw, plain)

    @property
    def closed_by_peer(self) -> bool:
        """Whether the peer said inside TLS that nothing more comes."""
        return self.tls is not None and self.tls.closed_by_peer

    def end_of_input(self) -> bool:
        """The socket has ended. True for a clean end: always on plain TCP, after close_notify in TLS."""
        self.eof = True
        return self.tls is None or self.tls.receive_eof()

    # -- leaving -----------------------------------------------------------------------------------------------------

    def shutdown(self) -> None:
        """End the connection in both directions; wakes every thread that waits for the socket."""
        if self._sock is not None:
            try:
                self._sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def say_goodbye(self) -> None:
        """Send what is queued and close_notify, as far as that needs no waiting."""
        if self._sock is not None and self.broken is None:
            if self.tls is not None:
                self.tls.close_notify()
            self.flush()

    def detach(self) -> tuple[socket.socket, TLSPipe | None, bool | None]:
        """Hand the connection over to somebody else: socket, TLS, and whether it has ended in good order behind what
        was received, None if it goes on."""
        assert self._sock is not None
        self.stop_gathering()
        sock, self._sock = self._sock, None
        return sock, self.tls, True if self.closed_by_peer else None

    def close(self) -> None:
        """Close the socket at once; safe to call again."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None


def establish(flow: Generator[Command, Any, Answer], deadline: Deadline) -> tuple[Transport, Answer]:
    """Run ``flow`` to its end. Raises what the flow raises, or DeadlineExceeded; nothing stays open then."""
    transport = Transport()
    try:
        command = next(flow)
        while True:
            try:
                answer = transport.perform(command, deadline)
            except OSError as error:
                if isinstance(error, TimeoutError) and deadline.passed():
                    raise deadline.error(f"the connection to be set up ({type(command).__name__})") from None
                command = flow.throw(error)
            else:
                command = flow.send(answer)
    except StopIteration as done:
        answered: Answer = done.value
        return transport, answered
    except BaseException:
        flow.close()
        transport.close()
        raise


def _wait(descriptor: int, events: int, step: Deadline) -> None:
    """Until the descriptor is ready. Raises TimeoutError."""
    poller = select.poll()
    poller.register(descriptor, events)
    left = step.left()
    if not poller.poll(None if left is None else milliseconds(left)):
        raise TimeoutError("timed out")


def _after(pieces: list[Buffer], sent: int) -> list[Buffer]:
    """What is left of ``pieces`` when the first ``sent`` bytes have gone."""
    for index, piece in enumerate(pieces):
        if sent < len(piece):
            return [memoryview(piece)[sent:], *pieces[index + 1 :]]
        sent -= len(piece)
    return []


def milliseconds(seconds: float) -> int:
    """For ``poll``, rounded up, so that a wait never ends before its time and spins; at most its 32 bits."""
    return min(int(seconds * 1000) + 1, 0x7FFFFFFF) if seconds > 0 else 0


def _resolve(command: Resolve, step: Deadline) -> list[Address]:
    """``getaddrinfo``, which takes no timeout: names are resolved in a thread of their own, so that the wait can end.

    Literal addresses, the common case with kubelets, need no thread.
    """

    def look_up() -> list[Address]:
        return list(socket.getaddrinfo(command.host, command.port, type=socket.SOCK_STREAM))

    if is_address(command.host) or step.at is None:
        return look_up()
    return _in_time(look_up, step)


def _in_time(function: Callable[[], list[Address]], step: Deadline) -> list[Address]:
    done: list[Any] = []

    def call() -> None:
        try:
            done.append(function())
        except BaseException as error:
            done.append(error)

    thread = threading.Thread(target=call, name="kubewire-resolver", daemon=True)
    thread.start()
    thread.join(step.left())
    if not done:
        raise TimeoutError("timed out")
    if isinstance(done[0], BaseException):
        raise done[0]
    addresses: list[Address] = done[0]
    return addresses
