"""TLS without sockets: a pump over ``ssl.MemoryBIO``, and the contexts that go with it.

Theory of operation
===================

OpenSSL stands between two byte queues (BIOs). Ciphertext from the network is written to *incoming*; ``read`` takes
plaintext out of it one record (at most 16 KiB) at a time. ``write`` encrypts into *outgoing*. The owner of the pipe
moves ciphertext between the queues and its socket; nothing here blocks or performs I/O, so one pump serves the
blocking driver, the asyncio driver and the fake kubelet, in both roles::

    network --> do_handshake(ciphertext), receive(ciphertext, plain) --> plaintext views --> engine
    network <-- take(), take_segments() <-- send(segments) <-- data_to_send() <-- engine

Invariants:

1. *Ciphertext leaves in the order in which it was made.* Whatever OpenSSL wrote (records, alerts, session tickets, the
   answer to a KeyUpdate) is moved at the end of every method from the outgoing BIO to one FIFO, and ``take`` alone
   empties it. What was taken must be written completely before what is taken next. **Every** method may have made
   ciphertext, ``receive`` and a failed handshake too: look at ``pending`` after each call.
2. *After ``receive`` is exhausted, nothing that can be decrypted is left behind.* The last thing it does is to read
   until OpenSSL asks for more. The one exception is the handshake: the peer's first data may have come with the end
   of it, so ``receive(b"", plain)`` follows a completed handshake, before anybody waits for the network.
3. *The end is told by the peer, inside TLS.* Only close_notify is a clean end (``closed_by_peer``, and ``receive_eof``
   answers True). An end of the transport without it is a truncation, by accident or by an attacker (RFC 8446, 6.1).
   What follows a close_notify is ignored, as that section says.
4. *Memory stays small on idle connections.* A ``MemoryBIO`` never shrinks. The incoming one is never filled beyond
   ``FEED`` bytes; the outgoing one is emptied after each record, so it holds one. Plaintext goes to a scratch buffer
   that the caller owns and may share between all connections of a thread.
5. *Records are full.* ``send`` regards its segments as one stream and cuts it every 16 KiB. Header and payload of a
   frame share a record: 32768 bytes of payload behind an 8-byte header cost a third record of 8 bytes and 20% more
   CPU, so the engine prefers payloads of k * 16384 - 8 and the pump never adds a boundary of its own within one call.

Errors of TLS are ``ssl.SSLError`` and its subclasses (``SSLCertVerificationError``, ``SSLEOFError``) and leave as
they are: the drivers translate them at one seam, where the address and what was sent are known. They are the peer's
or the network's fault; misuse by the caller is ``LocalProtocolError``. After an ``SSLError`` the alert that tells the
peer why may be waiting in ``pending``; send it if that is possible without waiting, and close.

A pipe is not safe for use by several threads at once (neither is OpenSSL's object under it): hold one lock around its
methods, and none around the socket calls between them.
"""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, Literal, Protocol

from spdyproto.errors import LocalProtocolError
from spdyproto.pem import PathOrPEM, naming, pem_file
from spdyproto.types import Buffer

__all__ = ["FEED", "RECORD", "TLSBIO", "PathOrPEM", "TLSObject", "TLSPipe", "client_context", "server_context"]

RECORD: Final = 16384
"""Plaintext of a full TLS record (RFC 8446, 5.1). OpenSSL reads one record per call, never more."""

FEED: Final = 20 * 1024
"""Most ciphertext in the incoming BIO, which never shrinks. Decrypting costs the same with 32 KiB (7 % less with
records of 1 KiB), and each connection that was ever busy would hold 18 KiB more; below a record and a half it costs
more."""

_SEALED: Final = RECORD + 256 + 5
"""A full record on the wire in TLS 1.3. Only a hint when to feed again; longer records are read all the same."""


class TLSBIO(Protocol):
    """One byte queue beside the TLS object. ``ssl.MemoryBIO`` is one."""

    @property
    def pending(self) -> int:
        """Bytes in the queue. May be too high, never too low: zero means that there is nothing to read."""

    def read(self, size: int = -1, /) -> bytes:
        """Take up to ``size`` bytes, all by default; ``b""`` when the queue is empty."""

    def write(self, b: Buffer, /) -> int:
        """Append all of ``b``, whose buffer is free again on return."""

    def write_eof(self) -> None:
        """Nothing more will be written: reading beyond the end is an error now."""


class TLSObject(Protocol):
    """What the pump needs of a TLS connection. ``ssl.SSLObject`` is one; errors are those of ``ssl``."""

    def do_handshake(self) -> None:
        """Go on; SSLWantReadError when the peer's turn has come."""

    def read(self, len: int, buffer: memoryview, /) -> Any:  # noqa: ANN401 - typeshed says bytes; it is an int
        """Decrypt one record into ``buffer`` and return how many bytes; 0 after close_notify."""

    def write(self, data: Buffer, /) -> int:
        """Encrypt ``data``, or the first part of it, and return how many bytes."""

    def unwrap(self) -> object:
        """Queue close_notify, then wait for the peer's by SSLWantReadError."""

    def getpeercert(self, binary_form: Literal[True], /) -> bytes | None:
        """The peer's certificate, DER."""

    def version(self) -> str | None:
        """Such as ``"TLSv1.3"``."""

    def selected_alpn_protocol(self) -> str | None:
        """Such as ``"http/1.1"``."""


class TLSPipe:
    """One TLS connection between a caller that moves bytes and an engine that makes them; either role.

    ``incoming`` and ``outgoing`` are the BIOs that ``tls`` was made with. ``TLSPipe.client`` and ``TLSPipe.server``
    build all three. The object holds no socket and needs no closing.
    """

    __slots__ = (
        "_closed_by_peer",
        "_early",
        "_eof",
        "_established",
        "_incoming",
        "_outgoing",
        "_over",
        "_queue",
        "_size",
        "_tls",
    )

    def __init__(self, tls: TLSObject, incoming: TLSBIO, outgoing: TLSBIO) -> None:
        self._tls = tls
        self._incoming = incoming
        self._outgoing = outgoing
        self._queue: list[bytes] = []
        self._size = 0
        self._early = b""  # came with the last flight of the handshake, beyond what the BIO may hold
        self._established = False
        self._over = False  # we sent close_notify, or TLS failed: nothing more can be encrypted
        self._closed_by_peer = False
        self._eof = False

    @classmethod
    def client(
        cls, context: ssl.SSLContext, server_hostname: str | None, *, session: ssl.SSLSession | None = None
    ) -> TLSPipe:
        """The client's end. ``server_hostname`` is a DNS name or an IP address, and is sent as SNI if it is a name.

        It may be None only if ``context`` does not check names. ``session`` is the ``session`` of an earlier pipe
        with the same context and server, to be resumed. Raises ValueError for a missing or impossible name.
        """
        if context.check_hostname and not server_hostname:  # wrap_bio would go on and check nothing
            raise ValueError("server_hostname is needed: the context checks it against the server's certificate")
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname=server_hostname, session=session)
        return cls(tls, incoming, outgoing)

    @classmethod
    def server(cls, context: ssl.SSLContext) -> TLSPipe:
        """The server's end."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        return cls(context.wrap_bio(incoming, outgoing, server_side=True), incoming, outgoing)

    # The handshake

    def do_handshake(self, ciphertext: Buffer = b"") -> bool:
        """Go on with the handshake, with ``ciphertext`` from the peer. True when it is complete.

        Send what is ``pending`` after each call, also after the last and after a failed one. False means that more
        must come from the peer. Once True, drain ``receive(b"", plain)`` before waiting for the network: data may
        have come already.

        With TLS 1.3 a client is done before the server has judged its certificate: a refusal is raised by ``receive``
        later.

        Raises ssl.SSLError: SSLCertVerificationError for a certificate that we do not trust, SSLEOFError after
        ``receive_eof``.
        """
        view = memoryview(ciphertext)
        fed = 0
        try:
            while not self._established:
                if fed < len(view):
                    self._incoming.write(view[fed : fed + FEED])
                    fed += FEED
                try:
                    self._tls.do_handshake()
                except ssl.SSLWantReadError:
                    if fed >= len(view):
                        return False
                else:
                    self._established = True
        except ssl.SSLError:
            self._over = True
            raise
        finally:
            self._drain()
        self._early += bytes(view[fed:])
        return True

    # The peer's bytes

    def receive(self, ciphertext: Buffer, plain: memoryview) -> Iterator[memoryview]:
        """Decrypt ``ciphertext`` into ``plain`` and yield the filled part of it, as few times as it takes.

        ``plain`` is scratch space of the caller, a writable memoryview of bytes, at least two records long; 256 KiB
        takes a whole read of the network in one view. **A yielded view is overwritten when the iterator goes on**,
        and is the caller's again when it ends. The iterator must be run to its end: ciphertext that it has not
        reached yet would be lost.

        ``ciphertext`` may be of any length, cut anywhere. Between two yields ``send`` may be called; ``receive`` may
        not. Afterwards look at ``closed_by_peer`` (the end of the stream, reported once all data before it was
        yielded) and ``pending``.

        Raises ssl.SSLError, after all good data was yielded: a forged or damaged record, a fatal alert of the peer.
        Raises LocalProtocolError before the handshake is complete, and after ``receive_eof``.
        """
        if not self._established or self._eof:
            when = "after receive_eof()" if self._eof else "before the handshake is complete: call do_handshake()"
            raise LocalProtocolError(f"receive() {when}")
        if len(plain) < 2 * RECORD:
            raise LocalProtocolError(f"receive() needs a buffer of at least {2 * RECORD} bytes, got {len(plain)}")
        if self._early:
            ciphertext, self._early = self._early + bytes(ciphertext), b""
        return self._receive(memoryview(ciphertext), plain)

    def _receive(self, ciphertext: memoryview, plain: memoryview) -> Iterator[memoryview]:
        incoming, read = self._incoming, self._tls.read
        size, fed = len(ciphertext), 0
        filled, full = 0, len(plain) - RECORD  # OpenSSL is never given less room than a record needs
        fault: ssl.SSLError | None = None
        while not self._closed_by_peer:
            if fed < size:
                # A read that finds no whole record costs an exception, 3 us. Topping up the BIO while it still holds
                # less than a record avoids that, except where the ciphertext ends within one.
                room = FEED - incoming.pending
                incoming.write(ciphertext[fed : fed + room])
                fed += room
            try:
                while incoming.pending >= _SEALED or (fed >= size and incoming.pending):
                    count = read(RECORD, plain[filled:])
                    if not count:
                        self._closed_by_peer = True
                        break
                    filled += count
                    if filled > full:
                        yield plain[:filled]
                        filled = 0
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLZeroReturnError:  # close_notify, when we have sent ours
                self._closed_by_peer = True
            except ssl.SSLError as error:
                fault = error
                self._over = True
                break
            if fed >= size:
                break
        self._drain()
        if filled:
            yield plain[:filled]
        if fault is not None:
            raise fault

    def receive_eof(self) -> bool:
        """The transport has ended. True if the peer had said so inside TLS (close_notify), False for a truncation.

        A handshake that is not complete fails with ``ssl.SSLEOFError`` at the next ``do_handshake``. Exhaust
        ``receive`` before.
        """
        if not self._eof:
            self._eof = True
            self._incoming.write_eof()
        return self._closed_by_peer

    # Our bytes

    def send(self, segments: Iterable[Buffer]) -> None:
        """Encrypt ``segments``, one stream of bytes, into as few records as it takes; ``take`` has the ciphertext.

        All of it is encrypted now, so the caller bounds what it passes: batches of 128 to 256 KiB are fastest, as one
        system call then carries many records. The buffers are free again on return.

        Raises LocalProtocolError, before any change: handshake not complete, after ``close_notify`` or a TLS error.
        """
        if not self._established or self._over:
            why = "after close_notify() or a TLS error" if self._over else "before the handshake is complete"
            raise LocalProtocolError(f"send() {why}")
        write, read, queue = self._tls.write, self._outgoing.read, self._queue
        parts: list[Buffer] = []  # of a record that is not full yet
        room = RECORD
        for segment in segments:
            size = len(segment)
            if size < room:
                parts.append(segment)
                room -= size
                continue
            view = memoryview(segment)
            start = 0
            if parts:
                parts.append(view[:room])
                self._encrypt(b"".join(parts))
                parts = []
                start = room
            while size - start >= RECORD:  # `_encrypt` without its call: a fifth fewer CPU seconds for bulk data
                done = write(view[start : start + RECORD])
                if done < RECORD:
                    self._encrypt(view[start + done : start + RECORD])
                else:
                    sealed = read()
                    queue.append(sealed)
                    self._size += len(sealed)
                start += RECORD
            room = RECORD - (size - start)
            if start < size:
                parts.append(view[start:])
        if parts:
            self._encrypt(parts[0] if len(parts) == 1 else b"".join(parts))

    def _encrypt(self, plaintext: Buffer) -> None:
        size = len(plaintext)
        if not size:
            return
        done = self._tls.write(plaintext)
        while done < size:  # where the peer asked for short records (RFC 6066, 4), some bindings write one at a time
            done += self._tls.write(memoryview(plaintext)[done:])
        sealed = self._outgoing.read()
        self._queue.append(sealed)
        self._size += len(sealed)

    def close_notify(self) -> None:
        """Tell the peer that our data ends here. Nothing can be sent after it; the peer's data can still be received.

        Does nothing before the handshake is complete, when called again, and after a TLS error, which has its own
        alert. Exhaust ``receive`` before: OpenSSL gives up plaintext that waits unread at this point.
        """
        if self._over or not self._established:
            return
        self._over = True
        try:
            self._tls.unwrap()
        except ssl.SSLError:
            pass  # the peer has not answered yet, or sent data that the caller left behind; the alert is queued
        finally:
            self._drain()

    def take(self, limit: int | None = None) -> bytes:
        """Remove up to ``limit`` bytes of ciphertext (default: all) from the queue, in one piece, maybe ``b""``.

        The caller owes the peer all of it, in order: write it completely before the next ``take``. For bulk data prefer
        ``take_segments``, or a limit below 128 KiB: a larger piece is given to and taken from the system anew each time
        (glibc's ``M_MMAP_THRESHOLD``), and its page faults cost as much as the encryption.
        """
        queue = self._queue
        count = size = 0
        for piece in queue:
            if limit is not None and size + len(piece) > limit:
                break
            count += 1
            size += len(piece)
        if not count and queue and limit:
            taken, queue[0] = queue[0][:limit], queue[0][limit:]
        else:
            taken = queue[0] if count == 1 else b"".join(queue[:count])
            del queue[:count]
        self._size -= len(taken)
        return taken

    def take_segments(self) -> list[bytes]:
        """Remove all ciphertext as it is queued, one piece for each record, for ``socket.sendmsg``: the cheapest way.

        The same duty as for ``take``. POSIX promises no more than 16 pieces to a call, Linux and macOS take 1024.
        """
        segments, self._queue, self._size = self._queue, [], 0
        return segments

    def _drain(self) -> None:
        if self._outgoing.pending:
            made = self._outgoing.read()
            if made:
                self._queue.append(made)
                self._size += len(made)

    # What is known

    @property
    def pending(self) -> int:
        """Bytes of ciphertext that wait for ``take``."""
        return self._size

    @property
    def established(self) -> bool:
        """The handshake is complete."""
        return self._established

    @property
    def closed_by_peer(self) -> bool:
        """The peer's close_notify was received; there is no data after it."""
        return self._closed_by_peer

    @property
    def peer_certificate_der(self) -> bytes | None:
        """The peer's own certificate, or None if it showed none."""
        return self._tls.getpeercert(True)

    @property
    def peer_chain_der(self) -> list[bytes]:
        """The peer's certificates as it sent them, its own first, none of them vouched for. Empty if it showed none.

        The standard library tells only the first before Python 3.13, and of a resumed session.
        """
        leaf = self.peer_certificate_der
        if leaf is None:  # asked first: a server's SSLObject of Python 3.13.0 raises at the chain of nobody
            return []
        tell = getattr(self._tls, "get_unverified_chain", None)
        chain = tell() if tell is not None else None
        return list(chain or [leaf])

    @property
    def version(self) -> str | None:
        """``"TLSv1.3"`` or ``"TLSv1.2"``; None before the handshake."""
        return self._tls.version()

    @property
    def alpn(self) -> str | None:
        """The application protocol agreed on, or None if the other side takes no part in ALPN."""
        return self._tls.selected_alpn_protocol()

    @property
    def session(self) -> ssl.SSLSession | None:
        """Client: what a later pipe needs to resume. With TLS 1.3 complete only after something was received."""
        session = getattr(self._tls, "session", None)
        return session if isinstance(session, ssl.SSLSession) else None

    @property
    def session_reused(self) -> bool:
        """The handshake resumed an earlier session."""
        return bool(getattr(self._tls, "session_reused", False))


def client_context(
    *,
    ca: PathOrPEM | None = None,
    certificate: PathOrPEM | None = None,
    key: PathOrPEM | None = None,
    password: str | bytes | None = None,
    verify: bool = True,
    check_hostname: bool = True,
    alpn: Sequence[str] = ("http/1.1",),
) -> ssl.SSLContext:
    """A context for clients: TLS 1.2 or newer, the server's chain and name verified.

    ``ca`` is a path, or certificates as PEM or DER bytes; None stands for the system's store, which takes 44 ms to
    load, so it is not touched when a CA is given, nor with ``verify=False``. Every certificate in ``ca`` is trusted
    as it stands, as Go does it: it may be a root, an intermediate, or the server's own (pinned; that then vouches for
    nothing else).

    ``certificate`` and ``key`` authenticate the client: PEM, leaf first; ``key=None`` if both are in one place. Bytes
    never stay on disk (``pem_file``). An encrypted key needs ``password``; without it the context is not built, and
    nobody is asked on the terminal.

    ``verify=False`` accepts any server: no protection against one that pretends. ``check_hostname=False`` verifies
    the chain alone. ``alpn`` empty leaves the extension out. The default suits connections to be upgraded: a server
    that picks h2 cannot be (``apimachinery: pkg/util/proxy/dial.go``).

    A context is safe to share between threads, and is meant to be: build one for each client.
    Raises OSError (with the file's name) for files that cannot be read, ssl.SSLError for content that is not what it
    should be.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _common(context, alpn)
    context.check_hostname = verify and check_hostname
    if not verify:
        context.verify_mode = ssl.CERT_NONE
    elif ca is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        _load_ca(context, ca)
    if certificate is not None:
        _load_certificate(context, certificate, key, password)
    return context


def server_context(
    certificate: PathOrPEM,
    key: PathOrPEM | None = None,
    *,
    password: str | bytes | None = None,
    client_ca: PathOrPEM | None = None,
    alpn: Sequence[str] = ("http/1.1",),
    tickets: int = 0,
) -> ssl.SSLContext:
    """A context for servers: TLS 1.2 or newer. Arguments and errors as for ``client_context``.

    With ``client_ca`` a client certificate is asked for, not required; one that does not verify ends the handshake,
    because the ``ssl`` module cannot accept it and judge it later. ``tickets`` is how many TLS 1.3 session tickets
    follow the handshake: none by default, for a client that never reads would have them lie in its socket and reset
    the connection when it closes.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _common(context, alpn)
    context.num_tickets = tickets
    if client_ca is not None:
        _load_ca(context, client_ca)
        context.verify_mode = ssl.CERT_OPTIONAL
    _load_certificate(context, certificate, key, password)
    return context


def _common(context: ssl.SSLContext, alpn: Sequence[str]) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    if alpn:
        context.set_alpn_protocols(list(alpn))


def _load_ca(context: ssl.SSLContext, ca: PathOrPEM) -> None:
    # Without the flag OpenSSL accepts self-signed anchors only; Go takes whatever its pool holds for an anchor.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if not isinstance(ca, bytes):
        with naming(ca):
            context.load_verify_locations(cafile=os.fspath(ca))
    elif not ca:
        raise _error("the CA is empty", "NO_CERTIFICATE_OR_CRL_FOUND")
    else:  # text is PEM to this method, bytes are DER
        context.load_verify_locations(cadata=ca.decode("ascii", "replace") if b"-----BEGIN" in ca else ca)


def _load_certificate(
    context: ssl.SSLContext, certificate: PathOrPEM, key: PathOrPEM | None, password: str | bytes | None
) -> None:
    def answer() -> str | bytes:
        # OpenSSL's own question would go to the terminal and wait there.
        if password is None:
            raise _error("the private key is encrypted and no password was given", "BAD_PASSWORD_READ")
        return password

    with contextlib.ExitStack() as files:
        paths = [files.enter_context(pem_file(source)) for source in (certificate, key) if source is not None]
        files.enter_context(naming(*paths))
        context.load_cert_chain(paths[0], paths[-1], answer)


def _error(text: str, reason: str) -> ssl.SSLError:
    error = ssl.SSLError(ssl.SSLErrorNumber.SSL_ERROR_SSL, text)
    error.library, error.reason = "PEM", reason  # as on those that OpenSSL makes
    return error
