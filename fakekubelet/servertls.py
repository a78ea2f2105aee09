"""The server's end of TLS as a kubelet has it: it asks for a client certificate and takes any.

A kubelet judges the certificate when a request comes (``fakekubelet.pki.verify_client``), so that a bad one is answered
by HTTP 401 and not by a TLS alert (Go: ``tls.RequestClientCert``). The standard ``ssl`` module has no such mode: it
refuses in the handshake what it cannot verify. pyOpenSSL has a verification callback, so with it (the extra ``fake``)
the fake does the same as the kubelet. Without it the fake falls back to ``ssl``: good and missing certificates behave
alike, but one that is expired or signed by somebody else ends the handshake with an alert.
``ServerTLS.accepts_any_certificate`` tells which it is.

The adapters below give pyOpenSSL's connection the shape that ``spdyproto.tls.TLSPipe`` asks for. ``benchmarks/micro``
has what they cost beside ``ssl``.
"""

from __future__ import annotations

import io
import ssl
import threading
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, Final, Literal, NoReturn

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from fakekubelet.pki import IssuedCertificate
from spdyproto.tls import TLSPipe, server_context
from spdyproto.types import Buffer

__all__ = ["ServerTLS"]

_TLS12_CIPHERS: Final = b"ECDHE+AESGCM:ECDHE+CHACHA20"
_TLS13_CIPHERS: Final = b"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
"""Go's order on machines with AES instructions, so that a transfer costs what it costs against a kubelet."""

_OVERHEAD: Final = 21
"""Bytes of a record beside its plaintext, at least: 5 of header, 16 that prove it."""

_SEALED: Final = 16384 + 256 + 5
"""The longest record on the wire in TLS 1.3."""

_TAKE: Final = 32 * 1024
"""Ciphertext taken out of OpenSSL at once: at least one whole record."""


class ServerTLS:
    """The serving certificate and the terms; ``pipe`` makes the server's end of one connection.

    ``client_ca`` (PEM) is who may sign client certificates; pyOpenSSL tells the client its names, by which Go's client
    chooses a certificate or none. None: no client certificate is asked for. ``alpn`` in order of preference; a client
    that offers none of them is served without. ``use_pyopenssl``: None takes it where it is installed.

    Safe to share between threads. Raises ValueError for a certificate or key that is none, or that do not belong
    together; ImportError if pyOpenSSL is demanded and missing.
    """

    accepts_any_certificate: bool
    """A client certificate that is not good passes the handshake, as it does at a kubelet."""

    def __init__(
        self,
        certificate: IssuedCertificate,
        *,
        client_ca: bytes | None = None,
        alpn: Sequence[str] = ("http/1.1",),
        use_pyopenssl: bool | None = None,
    ) -> None:
        if use_pyopenssl is None:
            use_pyopenssl = find_spec("OpenSSL") is not None
        self.accepts_any_certificate = use_pyopenssl
        _check(certificate)
        self._make: Callable[[], TLSPipe]
        if use_pyopenssl:
            self._make = _pyopenssl(certificate, client_ca, alpn)
        else:
            context = server_context(certificate.cert_pem, certificate.key_pem, client_ca=client_ca, alpn=alpn)
            self._make = lambda: TLSPipe.server(context)

    def pipe(self) -> TLSPipe:
        """The server's end of a new connection, its handshake not begun.

        Its ``peer_chain_der`` is the chain to judge: whole with pyOpenSSL and from Python 3.13 on, else the leaf alone.
        """
        return self._make()


def _check(certificate: IssuedCertificate) -> None:
    key = serialization.load_pem_private_key(certificate.key_pem, password=None)
    if key.public_key() != certificate.certificate.public_key():
        raise ValueError("the private key does not belong to the serving certificate")


def _pyopenssl(certificate: IssuedCertificate, client_ca: bytes | None, alpn: Sequence[str]) -> Callable[[], TLSPipe]:
    from OpenSSL import SSL

    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION | SSL.OP_CIPHER_SERVER_PREFERENCE)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)  # 37 KiB less once data has passed; ``ssl`` does it by itself
    context.set_cipher_list(_TLS12_CIPHERS)
    if hasattr(context, "set_tls13_ciphersuites"):  # pyOpenSSL 25.2
        context.set_tls13_ciphersuites(_TLS13_CIPHERS)
    # Tickets are sealed with a key of this context, so nothing is kept per client; a server that asks for certificates
    # must name its sessions, else a client that resumes one is cut off.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_session_id(b"kubewire")
    leaf, *intermediates = x509.load_pem_x509_certificates(certificate.cert_pem)
    context.use_certificate(leaf)
    for intermediate in intermediates:
        context.add_extra_chain_cert(intermediate)
    key: Any = serialization.load_pem_private_key(certificate.key_pem, password=None)
    context.use_privatekey(key)
    if client_ca is not None:
        for authority in x509.load_pem_x509_certificates(client_ca):
            context.add_client_ca(authority)
        context.set_verify(SSL.VERIFY_PEER, lambda *_: True)  # any certificate, or none
    offered = [name.encode("ascii") for name in alpn]
    if offered:
        context.set_alpn_select_callback(
            lambda _, theirs: next((name for name in offered if name in theirs), SSL.NO_OVERLAPPING_PROTOCOLS)
        )

    def make() -> TLSPipe:
        tls = _Connection(context)
        return TLSPipe(tls, tls.incoming, tls.outgoing)

    return make


class _Connection:
    """``spdyproto.tls.TLSObject`` over a server's ``OpenSSL.SSL.Connection``, with the errors of ``ssl``."""

    def __init__(self, context: Any) -> None:  # noqa: ANN401 - OpenSSL.SSL.Context; pyOpenSSL is not always there
        from OpenSSL import SSL

        connection = SSL.Connection(context)
        connection.set_accept_state()
        self._connection = connection
        self._want_read = SSL.WantReadError
        self._zero_return = SSL.ZeroReturnError
        self._system_call = SSL.SysCallError
        self._error = SSL.Error
        self.incoming = _Incoming(connection)
        self.outgoing = _Outgoing(connection, SSL.WantReadError)
        direct = _Direct.of(connection)
        if direct is not None:
            self.incoming.direct = self.outgoing.direct = direct
            self._direct: _Direct | None = direct
        else:
            self._direct = None

    def do_handshake(self) -> None:
        try:
            self._connection.do_handshake()
        except self._error as error:
            self._translate(error)

    def read(self, len: int, buffer: memoryview, /) -> int:
        direct, incoming = self._direct, self.incoming
        if direct is not None:
            count, wants_more = direct.read(incoming, len, buffer)
            if count:
                return count
            if wants_more:
                raise ssl.SSLWantReadError(ssl.SSLErrorNumber.SSL_ERROR_WANT_READ, "more ciphertext is needed")
        try:  # what went wrong is told once more
            count = self._connection.recv_into(buffer, len)
            incoming.consumed(count)
            return count
        except self._zero_return:
            return 0
        except self._error as error:
            self._translate(error)

    def write(self, data: Buffer, /) -> int:
        direct = self._direct
        if direct is not None:
            done: int = direct.ssl_write(direct.ssl, direct.from_buffer(data), len(data))
            if done > 0:
                return done
        try:
            return self._connection.send(data)
        except self._error as error:
            self._translate(error)

    def unwrap(self) -> None:
        try:
            self._connection.shutdown()  # the first call never waits for the peer's answer
        except self._error as error:
            self._translate(error)

    def _translate(self, error: Exception) -> NoReturn:
        """Raise the error of ``ssl`` that says the same."""
        if isinstance(error, self._want_read):
            self.incoming.emptied()  # OpenSSL took all of it before it asked for more
            raise ssl.SSLWantReadError(ssl.SSLErrorNumber.SSL_ERROR_WANT_READ, "more ciphertext is needed") from None
        if isinstance(error, self._zero_return):
            raise ssl.SSLZeroReturnError(
                ssl.SSLErrorNumber.SSL_ERROR_ZERO_RETURN, "close_notify was received"
            ) from None
        if isinstance(error, self._system_call):
            raise ssl.SSLEOFError(ssl.SSLErrorNumber.SSL_ERROR_EOF, "the transport ended within TLS") from None
        # Its argument is OpenSSL's error queue: triples of library, function, reason.
        queue = error.args[0] if error.args and isinstance(error.args[0], list) else []
        library, _, reason = queue[0] if queue else ("", "", "unknown error")
        library, reason = (library.upper().replace(" ROUTINES", "") or "SSL"), reason.upper().replace(" ", "_")
        translated = ssl.SSLError(ssl.SSLErrorNumber.SSL_ERROR_SSL, f"[{library}: {reason}]")
        translated.library, translated.reason = library, reason
        raise translated from error

    def getpeercert(self, binary_form: Literal[True], /) -> bytes | None:
        leaf = self._connection.get_peer_certificate(as_cryptography=True)
        return None if leaf is None else leaf.public_bytes(serialization.Encoding.DER)

    def get_unverified_chain(self) -> list[bytes]:
        """All certificates of the client, its own first; the name is that of ``ssl.SSLObject`` since Python 3.13."""
        leaf = self.getpeercert(True)
        if leaf is None:
            return []
        # A server is not given the leaf in the chain (SSL_get_peer_cert_chain(3)).
        others = self._connection.get_peer_cert_chain(as_cryptography=True) or []
        chain = [certificate.public_bytes(serialization.Encoding.DER) for certificate in others]
        return chain if chain[:1] == [leaf] else [leaf, *chain]

    def version(self) -> str | None:
        return self._connection.get_protocol_version_name()

    def selected_alpn_protocol(self) -> str | None:
        return self._connection.get_alpn_proto_negotiated().decode("ascii") or None


_thread = threading.local()


class _Direct:
    """OpenSSL's functions under a pyOpenSSL connection, without the wrappers around them.

    These allocate, copy and check what is known here: twice the processor time for each record, of which a GiB has
    65,536 or more. The names are private, so they are looked for and not relied on.
    """

    __slots__ = (
        *("bio_in", "bio_out", "bio_read", "bio_write", "buffer", "from_buffer", "get_error", "ssl"),
        *("_new", "ssl_read", "ssl_write", "want_read"),
    )

    def __init__(self, connection: Any, lib: Any, ffi: Any) -> None:  # noqa: ANN401 - pyOpenSSL is not always there
        self.ssl, self.bio_in, self.bio_out = connection._ssl, connection._into_ssl, connection._from_ssl
        self.ssl_read, self.ssl_write, self.get_error = lib.SSL_read, lib.SSL_write, lib.SSL_get_error
        self.bio_read, self.bio_write = lib.BIO_read, lib.BIO_write
        self.want_read: int = lib.SSL_ERROR_WANT_READ
        self.from_buffer, self.buffer = ffi.from_buffer, ffi.buffer
        self._new = ffi.new

    def room(self) -> Any:  # noqa: ANN401 - a char[] of cffi
        """Scratch space of this thread, of ``_TAKE`` bytes."""
        try:
            return _thread.room
        except AttributeError:
            _thread.room = room = self._new("char[]", _TAKE)
            return room

    def read(self, incoming: _Incoming, size: int, buffer: memoryview) -> tuple[int, bool]:
        """Decrypt into ``buffer``, records of up to ``size`` bytes, as many as there are for sure and fit: a call less
        for each. Answers the bytes, and whether OpenSSL asks for more.

        Nothing is raised here: a view of cffi that a traceback keeps alive is freed in an order that CPython does not
        survive.
        """
        ssl_read, handle = self.ssl_read, self.ssl
        room, filled, last = self.from_buffer(buffer), 0, buffer.nbytes - size
        while True:
            done: int = ssl_read(handle, room + filled, size)
            if done <= 0:
                break
            filled += done
            incoming.consumed(done)
            if incoming.pending < _SEALED or filled > last:
                return filled, False
        wants_more = self.get_error(handle, done) == self.want_read
        if wants_more:
            incoming.emptied()
        return filled, wants_more

    @classmethod
    def of(cls, connection: Any) -> _Direct | None:  # noqa: ANN401 - see above
        """None where pyOpenSSL is not what it was."""
        from OpenSSL import SSL

        try:
            return cls(connection, SSL._lib, SSL._ffi)  # type: ignore[attr-defined] # private: see above
        except AttributeError:
            return None


class _Incoming:
    """Ciphertext from the client.

    pyOpenSSL does not tell how much of it is left, so ``pending`` is reckoned: what was written, less the records that
    came out as plaintext, of which each is at least ``_OVERHEAD`` longer. It may be too high, by what was no data and
    by the beginning of a record that OpenSSL has taken already, but never too low.
    """

    def __init__(self, connection: Any) -> None:  # noqa: ANN401 - see above
        self.pending = 0
        self._begun = 0  # bytes of a record that OpenSSL has taken, at most
        self.direct: _Direct | None = None
        self._connection = connection

    def read(self, size: int = -1, /) -> bytes:
        raise io.UnsupportedOperation("OpenSSL alone reads from this end")

    def write(self, b: Buffer, /) -> int:
        if not b:
            return 0
        direct = self.direct
        written: int  # a memory BIO takes all
        if direct is not None:
            written = direct.bio_write(direct.bio_in, direct.from_buffer(b), len(b))
        else:
            written = self._connection.bio_write(b)
        self.pending += written
        return written

    def consumed(self, plain: int) -> None:
        """A record of so many bytes of plaintext was read."""
        size, begun = plain + _OVERHEAD, self._begun
        if begun:
            self._begun = max(0, begun - size)
            size = max(0, size - begun)
        self.pending -= size

    def emptied(self) -> None:
        """OpenSSL asks for more: at most the beginning of a record is in it."""
        self._begun = min(self._begun + self.pending, _SEALED)
        self.pending = 0

    def write_eof(self) -> None:
        self._connection.bio_shutdown()


class _Outgoing:
    """Ciphertext for the client. pyOpenSSL does not tell how much there is: ``pending`` says that there may be some."""

    pending = 1

    def __init__(self, connection: Any, empty: type[Exception]) -> None:  # noqa: ANN401 - see above
        self._take = connection.bio_read
        self._empty = empty
        self.direct: _Direct | None = None

    def read(self, size: int = -1, /) -> bytes:
        direct = self.direct
        if direct is not None and size < 0:
            room = direct.room()
            count: int = direct.bio_read(direct.bio_out, room, _TAKE)
            taken: bytes = direct.buffer(room, count)[:] if count > 0 else b""
            return taken + self.read() if count == _TAKE else taken
        limit = _TAKE if size < 0 else size
        try:
            taken = self._take(limit)
        except self._empty:
            return b""
        if size < 0 and len(taken) == limit:  # a long flight of the handshake
            taken += self.read()
        return taken

    def write(self, b: Buffer, /) -> int:
        raise io.UnsupportedOperation("OpenSSL alone writes to this end")

    def write_eof(self) -> None:
        raise io.UnsupportedOperation("OpenSSL alone writes to this end")
