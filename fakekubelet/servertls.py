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
from collections import deque
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

_HEADER: Final = 5
"""Bytes in front of a TLS record."""

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

    def do_handshake(self) -> None:
        try:
            self._connection.do_handshake()
        except self._error as error:
            self._translate(error)

    def read(self, len: int, buffer: memoryview, /) -> int:
        try:
            count: int = self._connection.recv_into(buffer, len)
            self.incoming.record_read()
            return count
        except self._zero_return:
            return 0
        except self._error as error:
            self._translate(error)

    def write(self, data: Buffer, /) -> int:
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
            self.incoming.exhausted()
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


class _Incoming:
    """Ciphertext from the client.

    pyOpenSSL does not tell how much of it is left, and to be asked for a record that is not there costs it as much time
    as decrypting one. So the records are counted: their lengths stand in front of them (RFC 8446, 5.1). A record
    that is read without an answer, as a KeyUpdate is, leaves ``pending`` too high until OpenSSL asks for more.
    """

    def __init__(self, connection: Any) -> None:  # noqa: ANN401 - see above
        self.pending = 0
        self._connection = connection
        self._whole: deque[int] = deque()  # sizes of the records that have come whole
        self._size = 0  # of the one that has not
        self._missing = 0  # of its bytes
        self._head = b""  # or of a header that has not come whole, what there is

    def read(self, size: int = -1, /) -> bytes:
        raise io.UnsupportedOperation("OpenSSL alone reads from this end")

    def write(self, b: Buffer, /) -> int:
        if not b:
            return 0
        written: int = self._connection.bio_write(b)  # a memory BIO takes all
        self.pending += written
        view, position = memoryview(b), 0
        if self._head:
            position = _HEADER - len(self._head)
            head = self._head + view[:position]
            if len(head) < _HEADER:
                self._head = head
                return written
            self._missing = int.from_bytes(head[3:], "big")
            self._size = _HEADER + self._missing
        if self._size:
            position += self._missing
        self._count(view, position)
        return written

    def _count(self, view: memoryview, position: int) -> None:
        """Find the records in ``view``; the one under way ends at ``position``."""
        size, record = len(view), self._size
        self._head = b""
        while position <= size:
            if record:
                self._whole.append(record)
            if size - position < _HEADER:
                self._head = bytes(view[position:])
                self._size = self._missing = 0
                return
            record = _HEADER + (view[position + 3] << 8 | view[position + 4])
            position += record
        self._size, self._missing = record, position - size

    def record_read(self) -> None:
        """OpenSSL has taken a record, or more than one."""
        if self._whole:
            self.pending -= self._whole.popleft()

    def exhausted(self) -> None:
        """OpenSSL has taken every whole record."""
        self.pending -= sum(self._whole)
        self._whole.clear()

    def write_eof(self) -> None:
        self._connection.bio_shutdown()


class _Outgoing:
    """Ciphertext for the client. pyOpenSSL does not tell how much there is: ``pending`` says that there may be some."""

    pending = 1

    def __init__(self, connection: Any, empty: type[Exception]) -> None:  # noqa: ANN401 - see above
        self._take = connection.bio_read
        self._empty = empty

    def read(self, size: int = -1, /) -> bytes:
        limit = _TAKE if size < 0 else size
        try:
            taken: bytes = self._take(limit)
        except self._empty:
            return b""
        if size < 0 and len(taken) == limit:  # a long flight of the handshake
            taken += self.read()
        return taken

    def write(self, b: Buffer, /) -> int:
        raise io.UnsupportedOperation("OpenSSL alone writes to this end")

    def write_eof(self) -> None:
        raise io.UnsupportedOperation("OpenSSL alone writes to this end")
