"""Access to the apiserver from inside a pod, by its service account (``client-go: rest/config.go``)."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from typing import Final

from kubeletclient._access import Access, server_url
from kubeletclient._kubefiles import fault
from kubeletclient.credentials import BearerToken
from kubeletclient.errors import CredentialsError
from spdyproto.text import printable

__all__ = ["SERVICE_ACCOUNT", "in_cluster", "in_pod"]

SERVICE_ACCOUNT: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where a pod finds its token, CA and namespace."""


def in_pod(environ: Mapping[str, str], folder: str = SERVICE_ACCOUNT) -> bool:
    """Whether a service account can be found here."""
    named = environ.get("KUBERNETES_SERVICE_HOST") and environ.get("KUBERNETES_SERVICE_PORT")
    return bool(named) and os.path.isfile(os.path.join(folder, "token"))


def in_cluster(*, environ: Mapping[str, str] = os.environ, folder: str = SERVICE_ACCOUNT) -> Access:
    """The access that a pod's service account gives (``client-go: rest/config.go``). Raises KubeconfigError.

    The server comes from ``KUBERNETES_SERVICE_HOST`` and ``KUBERNETES_SERVICE_PORT``; token and CA from ``folder``,
    each read again when it changes; the namespace from ``POD_NAMESPACE``, else from ``folder``.
    """
    host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT")
    if not host or not port:
        raise fault(
            "this is not a pod: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set", "give a kubeconfig"
        )
    server = f"https://{f'[{host}]' if ':' in host else host}:{port}"
    if server_url(server) is None:
        raise fault(
            f"KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT make no URL: {printable(server, limit=200)}",
            "correct these variables",
        )
    credentials = BearerToken(file=os.path.join(folder, "token"))
    try:
        credentials.header()
    except CredentialsError as error:
        raise fault(
            f"the service account's token cannot be used: {error.cause}",
            "check that the pod mounts it (automountServiceAccountToken)",
            file=os.path.join(folder, "token"),
        ) from error
    ca = os.path.join(folder, "ca.crt")
    problem = _ca_problem(ca)
    return Access(
        server=server,
        ca=None if problem else ca,
        credentials=credentials,
        namespace=environ.get("POD_NAMESPACE") or _namespace(folder) or "default",
        origin="the pod's service account",
        notes=(f"{ca} cannot be used ({problem}), so the system's authorities are trusted",) if problem else (),
    )


def _ca_problem(path: str) -> str:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except ssl.SSLError:
        return "it holds no certificate"
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _namespace(folder: str) -> str:
    try:
        with open(os.path.join(folder, "namespace"), encoding="utf-8") as stream:
            return stream.read(1024).strip()
    except (OSError, UnicodeDecodeError):
        return ""
