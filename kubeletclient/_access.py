"""What a kubeconfig, or a pod's service account, comes to: an apiserver and who is asking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from urllib.parse import SplitResult, urlsplit

from kubeletclient._trust import Trust
from kubeletclient.credentials import Credentials, Impersonation
from spdyproto.pem import PathOrPEM

__all__ = ["Access", "Overrides", "server_url"]


@dataclass(frozen=True, slots=True)
class Access:
    """An apiserver, and who is asking. Its ``repr`` holds no secret; paths stay paths, so that files are read anew.

    - ``server``: its URL, without a slash at the end, with its path prefix if it has one;
    - ``ca``: whom to trust, a path or PEM bytes; None for the system's authorities; ``verify``: False accepts any;
    - ``server_name``: the name to ask for and to verify, if not the URL's host;
    - ``credentials``: None for nobody, as over plain HTTP, where none are sent;
    - ``proxy``: the URL of the proxy that the kubeconfig names; None leaves it to the environment variables;
    - ``namespace``: of the context, else ``"default"``;
    - ``impersonate``: as whom the apiserver shall see us;
    - ``context``, ``cluster``, ``user``: the entries that it was made of, empty where there is none;
    - ``origin``: where it came from, in words; ``files``: the kubeconfig files that were read;
    - ``notes``: what a person may want to know, one sentence each;
    - ``allow_loopback_nodes``: nodes may be on this machine, as the extension ``kubewire`` of the kubeconfig's cluster
      says with ``allow-loopback-nodes: true``; fakes for tests write it.
    """

    server: str
    ca: PathOrPEM | None = field(default=None, repr=False)
    verify: bool = True
    server_name: str | None = None
    credentials: Credentials | None = None
    proxy: str | None = field(default=None, repr=False)
    namespace: str = "default"
    impersonate: Impersonation | None = None
    context: str = ""
    cluster: str = ""
    user: str = ""
    origin: str = ""
    files: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    allow_loopback_nodes: bool = False

    def trust(self, *, allow_unverified_token: bool = False) -> Trust:
        """What connections to the apiserver are made with. Raises CredentialsError, ValueError."""
        return Trust(
            ca=self.ca,
            verify=self.verify,
            credentials=self.credentials,
            server_name=self.server_name,
            allow_unverified_token=allow_unverified_token,
            impersonate=self.impersonate,
            proxy=self.proxy,
        )


@dataclass(frozen=True, slots=True)
class Overrides:
    """What was given by hand, stronger than any file: kubectl's global flags by the same names. Empty is not given.

    They are merged into the entries that the context names: a ``token`` stands beside a client certificate of the
    user, ``server`` clears ``tls-server-name`` of the cluster, ``insecure_skip_tls_verify`` its CA, a CA its insecure
    flag, and a path the inline data that it replaces.
    """

    server: str = ""
    tls_server_name: str = ""
    certificate_authority: str = ""
    insecure_skip_tls_verify: bool = False
    proxy_url: str = field(default="", repr=False)
    client_certificate: str = ""
    client_key: str = ""
    token: str = field(default="", repr=False)
    token_file: str = ""
    username: str = ""
    password: str = field(default="", repr=False)
    as_user: str = ""
    as_uid: str = ""
    as_groups: tuple[str, ...] = ()
    as_user_extra: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def given(self) -> bool:
        """Whether there is any."""
        return any(getattr(self, item.name) for item in fields(self))


def server_url(said: str) -> SplitResult | None:
    """The parts of an apiserver's URL, None for what is none. Without a scheme it is plain HTTP, as for client-go,
    which asks whether there is a CA before it has read the cluster's.
    """
    if not all("!" <= c <= "~" for c in said):
        return None
    try:
        parts = urlsplit(said if "://" in said else f"http://{said}")
        fits = parts.port != 0
    except ValueError:
        return None
    return parts if fits and parts.scheme in ("http", "https") and parts.hostname else None
