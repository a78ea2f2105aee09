"""``kubewire trust``: pin the certificate of a kubelet that signs its own, as ssh keeps the keys of hosts."""

from __future__ import annotations

import json
import socket
import ssl
from typing import Any

import click

from kubewire.reports import columns, finish

_SECONDS = 10.0


@click.command("trust")
@click.argument("servers", nargs=-1, metavar="[HOST[:PORT]]...")
@click.option("--fingerprint", metavar="SHA256", help="Pin only if this is it, as someone you trust told you.")
@click.option("--replace", is_flag=True, help="Take the place of a pin that there is already.")
@click.option("--remove", is_flag=True, help="Take the pin away.")
@click.option("--yes", is_flag=True, help="Do not ask. Whoever answers now is trusted from now on.")
@click.option("--known-nodes", type=click.Path(dir_okay=False), metavar="FILE", help="Instead of the usual file.")
@click.option("--json", "as_json", is_flag=True, help="One JSON line for each server, on stdout.")
def trust_command(**values: Any) -> None:  # noqa: ANN401 - click hands over what the options above declare
    """Pin the certificates that these kubelets present now; without a server, list what is pinned.

    \b
    On the node:  openssl x509 -in /var/lib/kubelet/pki/kubelet.crt -noout -fingerprint -sha256
    Here:         kubewire trust 10.0.0.1 --fingerprint SHA256

    A pinned certificate is the only one that this server may present, whatever its name and whoever signed it. Nothing
    else ever adds one. The file is ~/.kube/kubewire_known_nodes, or what KUBEWIRE_KNOWN_NODES names.
    """
    finish(_run, failed=1, **values)


def _run(
    servers: tuple[str, ...],
    fingerprint: str | None,
    replace: bool,
    remove: bool,
    yes: bool,
    known_nodes: str | None,
    as_json: bool,
) -> int:
    from kubeletclient import KnownNodes

    known = KnownNodes(known_nodes)
    if not servers:
        _list(known.entries().values(), as_json)
        return 0
    if fingerprint is not None and len(servers) > 1:
        raise click.UsageError("--fingerprint is that of one certificate: name one server")
    for server in servers:
        host, port = _address(server)
        if remove:
            if not known.remove(host, port):
                raise ValueError(f"{server} is not pinned in {known.path}")
            click.echo(f"kubewire: {server} is no longer pinned", err=True)
            continue
        _pin(known, host, port, fingerprint, replace=replace, yes=yes, as_json=as_json)
    return 0


def _list(pins: Any, as_json: bool) -> None:  # noqa: ANN401 - the pins of a KnownNodes
    if as_json:
        for pin in pins:
            click.echo(json.dumps({"server": pin.server, "fingerprint": pin.fingerprint}))
        return
    click.echo(columns(("SERVER", "FINGERPRINT"), [(pin.server, pin.fingerprint) for pin in pins]))


def _address(server: str) -> tuple[str, int]:
    """Host and port of ``HOST[:PORT]``, of an IPv6 address with or without brackets, or of a URL."""
    from kubeletclient.endpoints import KUBELET_PORT, parse_endpoint

    if server.count(":") > 1 and "[" not in server and "/" not in server:
        server = f"[{server}]"
    endpoint = parse_endpoint(server if "://" in server else f"https://{server}", default_port=KUBELET_PORT)
    return endpoint.host, endpoint.port


def _pin(known: Any, host: str, port: int, wanted: str | None, *, replace: bool, yes: bool, as_json: bool) -> None:  # noqa: ANN401 - a KnownNodes
    from kubeletclient.known_nodes import fingerprint_of

    certificate = fetch_certificate(host, port)
    found = fingerprint_of(certificate)
    old = known.lookup(host, port)
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if wanted is not None and normalized(wanted) != found:
        raise ValueError(f"{where} presents {found}, and not the certificate with the fingerprint given: not pinned")
    if old is not None and old.certificate != certificate and not replace:
        raise ValueError(
            f"{where} is pinned with {old.fingerprint} and presents {found}: someone may be posing as it; if its "
            "certificate was renewed, pin it with --replace"
        )
    if wanted is None and not yes and (old is None or old.certificate != certificate):
        click.echo(f"{where} presents {describe(certificate)}", err=True)
        if not click.confirm("Is this the node's certificate, and shall it be trusted from now on?", err=True):
            raise ValueError("not pinned")
    pin = known.add(host, port, certificate)
    if as_json:
        click.echo(json.dumps({"server": pin.server, "fingerprint": pin.fingerprint}))
    else:
        click.echo(f"kubewire: {pin.server} is pinned with {pin.fingerprint} in {known.path}", err=True)


def normalized(fingerprint: str) -> str:
    """A SHA-256 fingerprint as openssl and others write it, in our form."""
    digits = fingerprint.strip().lower().removeprefix("sha256").lstrip(":= ").removeprefix("fingerprint=")
    return f"sha256:{digits.replace(':', '')}"


def fetch_certificate(host: str, port: int) -> bytes:
    """The certificate (DER) that this server presents now, whoever it is. Nothing is sent to it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((host, port), timeout=_SECONDS) as sock,
            context.wrap_socket(sock, server_hostname=host) as tls,
        ):
            certificate = tls.getpeercert(binary_form=True)
    except OSError as error:
        raise OSError(f"the certificate of {host}:{port} cannot be had: {error.strerror or error}") from error
    assert certificate is not None
    return certificate


def describe(certificate: bytes) -> str:
    """Fingerprint, names and dates of a certificate, for a person."""
    from cryptography import x509

    from kubeletclient.known_nodes import fingerprint_of
    from spdyproto.text import printable

    parsed = x509.load_der_x509_certificate(certificate)
    own = " (self-signed)" if parsed.issuer == parsed.subject else ""
    return (
        f"{fingerprint_of(certificate)}\n"
        f"  subject {printable(parsed.subject.rfc4514_string(), limit=200)}\n"
        f"  issuer  {printable(parsed.issuer.rfc4514_string(), limit=200)}{own}\n"
        f"  names   {printable(', '.join(names_of(parsed)), limit=400)}\n"
        f"  valid   {parsed.not_valid_before_utc:%Y-%m-%d} to {parsed.not_valid_after_utc:%Y-%m-%d}"
    )


def names_of(certificate: Any) -> list[str]:  # noqa: ANN401 - an x509.Certificate
    """The names and addresses that a certificate is for."""
    from cryptography import x509

    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    return [*extension.get_values_for_type(x509.DNSName), *map(str, extension.get_values_for_type(x509.IPAddress))]
