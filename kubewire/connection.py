"""The options that say how to reach a pod and who is asking: the same for every command.

Two ways to say it. ``--kubelet URL`` names one kubelet, and the certificate options are about it. Without it a
kubeconfig says which cluster, the certificate options replace what it says of the apiserver, as kubectl's do, and the
options that begin with ``--kubelet-`` are about the nodes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kubewire.live import completer

if TYPE_CHECKING:
    from kubeletclient import Cluster, Deadlines, Keepalive, KnownNodes, Kubelet, Pod
    from kubeletclient._access import Access, Overrides
    from kubeletclient.credentials import Credentials
    from kubeletclient.routes import Via
    from spdyproto.types import Tracer

_Function = TypeVar("_Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Connection:
    """The values of the connection options."""

    kubelet: str | None
    kubeconfig: str | None
    context: str | None
    cluster: str | None
    user: str | None
    via: Via
    client_certificate: str | None
    client_key: str | None
    certificate_authority: str | None
    token_file: str | None
    tls_server_name: str | None
    insecure: bool
    server: str | None
    proxy_url: str | None
    as_user: str | None
    as_groups: tuple[str, ...]
    as_uid: str | None
    as_user_extra: tuple[str, ...]
    allow_plugins: tuple[str, ...]
    no_plugins: bool
    kubelet_client_certificate: str | None
    kubelet_client_key: str | None
    kubelet_token_file: str | None
    kubelet_certificate_authority: str | None
    kubelet_insecure: bool
    known_nodes: str | None
    address_types: str | None
    allow_loopback_nodes: bool
    allow_unverified_token: bool
    connect_timeout: float | None
    ping_period: float
    ping_deadline: float
    transport: str
    bearer_subprotocol: bool

    # -- one kubelet -------------------------------------------------------------------------------------------------

    def trust(self) -> dict[str, Any]:
        """The keyword arguments that ``Kubelet`` and ``connect_exec`` have in common.

        Raises ``click.UsageError`` for options that do not fit together.
        """
        for option, value in (("--as", self.as_user), ("--context", self.context), ("--cluster", self.cluster)):
            if value:
                raise click.UsageError(f"{option} is about a cluster, and a server was named that is none of its own")
        if self.insecure and self.certificate_authority:
            raise click.UsageError("--insecure-skip-tls-verify makes --certificate-authority meaningless: give one")
        if self.insecure:
            warn_insecure("--insecure-skip-tls-verify", "the server")
        return {
            "ca": self.certificate_authority,
            "credentials": credentials(self.client_certificate, self.client_key, self.token_file),
            "server_name": self.tls_server_name,
            "verify": not self.insecure,
            "proxy": self._proxy(),
            **self.session(),
        }

    def session(self) -> dict[str, Any]:
        """The keyword arguments that all clients have in common."""
        from kubewire import __version__

        return {
            "allow_unverified_token": self.allow_unverified_token,
            "deadlines": self.deadlines(),
            "keepalive": self.keepalive(),
            "transport": self.transport,
            "bearer_subprotocol": self.bearer_subprotocol,
            "user_agent": f"kubewire/{__version__}",
        }

    def open_kubelet(self, tracer: Tracer | None = None) -> Kubelet:
        """The kubelet that ``--kubelet`` names, by its pinned certificate where there is one and no CA was given."""
        from kubeletclient import Kubelet

        assert self.kubelet is not None
        try:
            options = self.trust()
            kubelet = Kubelet(self.kubelet, **options, tracer=tracer)
        except ValueError as error:
            raise as_usage(error) from error
        if options["ca"] is None and options["verify"] and kubelet.endpoint.secure:
            pin = self.nodes().lookup(kubelet.endpoint.host, kubelet.endpoint.port)
            if pin is not None:
                return Kubelet(self.kubelet, **options, tracer=tracer, pinned=pin.pem)
        return kubelet

    # -- a cluster ---------------------------------------------------------------------------------------------------

    def open_cluster(self, tracer: Tracer | None = None) -> Cluster:
        """The cluster of the kubeconfig. Raises KubeconfigError, and ``click.UsageError`` as ``trust`` does."""
        from kubeletclient import Cluster

        if self.kubelet_insecure and self.kubelet_certificate_authority:
            raise click.UsageError("--kubelet-insecure-skip-tls-verify contradicts --kubelet-certificate-authority")
        if self.insecure:
            warn_insecure("--insecure-skip-tls-verify", "the apiserver")
        if self.kubelet_insecure:
            warn_insecure("--kubelet-insecure-skip-tls-verify", "the kubelets")
        options: dict[str, Any] = dict(self.session(), tracer=tracer)
        if self.address_types is not None:
            options["address_types"] = [kind.strip() for kind in self.address_types.split(",")]
        own = credentials(
            self.kubelet_client_certificate, self.kubelet_client_key, self.kubelet_token_file, prefix="--kubelet-"
        )
        access = self.access()
        for note in access.notes:
            click.echo(f"kubewire: note: {note}", err=True)
        return Cluster(
            access,
            via=self.via,
            kubelet_credentials=own,
            kubelet_ca=self.kubelet_certificate_authority,
            kubelet_verify=not self.kubelet_insecure,
            known_nodes=self.nodes(),
            allow_loopback_nodes=True if self.allow_loopback_nodes else None,
            **options,
        )

    def access(self) -> Access:
        """The apiserver that the kubeconfig names, and who is asking. Raises KubeconfigError, ``click.UsageError``."""
        from kubeletclient.kubeconfig import load
        from kubeletclient.plugins import PluginPolicy

        if self.no_plugins and self.allow_plugins:
            raise click.UsageError("--no-plugins contradicts --allow-plugin")
        allow = self.allow_plugins if self.allow_plugins or self.no_plugins else None
        return load(
            self.kubeconfig,
            context=self.context,
            cluster=self.cluster,
            user=self.user,
            overrides=self._overrides(),
            plugins=PluginPolicy(allow),
        )

    def _overrides(self) -> Overrides:
        from kubeletclient._access import Overrides

        return Overrides(
            server=self.server or "",
            tls_server_name=self.tls_server_name or "",
            certificate_authority=self.certificate_authority or "",
            insecure_skip_tls_verify=self.insecure,
            proxy_url=self._proxy() or "",
            client_certificate=self.client_certificate or "",
            client_key=self.client_key or "",
            token_file=self.token_file or "",
            as_user=self.as_user or "",
            as_uid=self.as_uid or "",
            as_groups=self.as_groups,
            as_user_extra=self._extra(),
        )

    def _extra(self) -> dict[str, list[str]]:
        extra: dict[str, list[str]] = {}
        for given in self.as_user_extra:
            key, equals, value = given.partition("=")
            if not key or not equals:
                raise click.UsageError(f"--as-user-extra wants KEY=VALUE, not {given!r}")
            extra.setdefault(key, []).append(value)
        return extra

    def _proxy(self) -> str | None:
        """The proxy given by hand. Every process of this machine may read our arguments, so a password is refused."""
        if self.proxy_url is not None and "@" in self.proxy_url:
            raise click.UsageError(
                "--proxy-url with a user name or password shows it to everyone on this machine: "
                "put it into HTTPS_PROXY or into proxy-url of the kubeconfig"
            )
        return self.proxy_url

    def nodes(self) -> KnownNodes:
        """The file of pinned certificates."""
        from kubeletclient import KnownNodes

        return KnownNodes(self.known_nodes)

    # -- both --------------------------------------------------------------------------------------------------------

    def open(self, tracer: Tracer | None = None) -> Kubelet | Cluster:
        """The kubelet or the cluster that the options name."""
        return self.open_kubelet(tracer=tracer) if self.kubelet else self.open_cluster(tracer=tracer)

    def open_pod(self, name: str, namespace: str | None, tracer: Tracer | None = None) -> Pod:
        """The pod that ``[NS/]POD`` or ``KIND/NAME`` means, at the kubelet or in the cluster that the options name."""
        where, name = split_pod(name, namespace)
        if self.kubelet:
            if "/" in name:
                raise click.UsageError(f"a kubelet knows pods by their own names: {name!r} needs a cluster")
            return self.open_kubelet(tracer=tracer).pod(name, where or "default")
        return self.open_cluster(tracer=tracer).pod(name, where)

    def deadlines(self) -> Deadlines:
        """The steps up to a session; ``--connect-timeout`` replaces each of their defaults."""
        from kubeletclient import Deadlines

        if self.connect_timeout is None:
            return Deadlines()
        seconds = self.connect_timeout
        return Deadlines(dial=seconds, tls=seconds, upgrade=seconds, stream_reply=seconds)

    def keepalive(self) -> Keepalive | None:
        """PINGs; a period of 0 switches them off."""
        from kubeletclient import Keepalive

        return Keepalive(self.ping_period, self.ping_deadline) if self.ping_period > 0 else None


def credentials(
    certificate: str | None, key: str | None, token_file: str | None, prefix: str = "--"
) -> Credentials | None:
    """Who is asking. Raises ``click.UsageError`` for options that do not fit together."""
    if key and not certificate:
        raise click.UsageError(f"{prefix}client-key needs {prefix}client-certificate")
    if certificate and token_file:
        raise click.UsageError(f"give {prefix}client-certificate or {prefix}token-file, and not both")
    if certificate:
        from kubeletclient import ClientCertificate

        return ClientCertificate(certificate, key)
    if token_file:
        from kubeletclient import BearerToken

        return BearerToken(file=token_file)
    return None


def split_pod(pod: str, namespace: str | None) -> tuple[str | None, str]:
    """Namespace, if there is one, and name of ``[NS/]POD``, ``KIND/NAME`` or ``NS/KIND/NAME``.

    A word that is a kind's name (``deploy``, ``job``...) is taken for one; ``--namespace`` says what is none. Raises
    ``click.UsageError`` for two namespaces.
    """
    from kubeletclient.selection import is_kind

    before, slash, name = pod.rpartition("/")
    if not slash:
        return namespace, pod
    above, slash, kind = before.rpartition("/")
    if is_kind(kind):
        name, before = f"{kind}/{name}", above
        if not slash:
            return namespace, name
    if namespace is not None and namespace != before:
        raise click.UsageError(f"two namespaces: {namespace!r} by --namespace and {before!r} in {pod!r}")
    return before, name


def as_usage(error: Exception) -> Exception:
    """A plain ValueError as wrong usage; errors of the client stay what they are."""
    from kubeletclient import ClientError

    return error if isinstance(error, ClientError) else click.UsageError(str(error))


def warn_insecure(option: str, who: str) -> None:
    """Says what that option gives up; it holds for this one call only."""
    click.echo(f"kubewire: warning: {option}: anyone between may pose as {who}, see and change everything", err=True)


_POD = "[NS/]POD | KIND/NAME"
pod_argument = click.argument("pod", metavar=_POD, shell_complete=completer("pod"))
optional_pod_argument = click.argument("pod", metavar=_POD, required=False, shell_complete=completer("pod"))
namespace_option = click.option(
    "-n",
    "--namespace",
    metavar="NS",
    shell_complete=completer("namespace"),
    help="Namespace of the pod.  [default: the context's, or default]",
)
container_option = click.option(
    "-c", "--container", metavar="NAME", shell_complete=completer("container"), help="Container of the pod."
)

_FILE = click.Path(dir_okay=False)
_SECONDS = click.FloatRange(min=0, min_open=True)
_OPTIONS = (
    click.option("--kubeconfig", type=_FILE, metavar="FILE", help="Instead of KUBECONFIG and ~/.kube/config."),
    click.option("--context", metavar="NAME", shell_complete=completer("context"), help="Context of the kubeconfig."),
    click.option("--cluster", metavar="NAME", help="Cluster of the kubeconfig, instead of the context's."),
    click.option("--user", metavar="NAME", help="User of the kubeconfig, instead of the context's."),
    click.option(
        "--via",
        type=click.Choice(["auto", "kubelet", "apiserver"]),
        default="auto",
        show_default=True,
        help="Straight to the pod's kubelet, through the apiserver, or the first that works.",
    ),
    click.option("--kubelet", metavar="URL", help="This kubelet, e.g. https://10.0.0.1:10250, and no cluster at all."),
    click.option("--client-certificate", type=_FILE, metavar="FILE", help="PEM client certificate."),
    click.option("--client-key", type=_FILE, metavar="FILE", help="Its PEM key, when it is in a file of its own."),
    click.option("--certificate-authority", type=_FILE, metavar="FILE", help="PEM CA of the server's certificate."),
    click.option("--token-file", type=_FILE, metavar="FILE", help="File with a bearer token."),
    click.option("--tls-server-name", metavar="NAME", help="Name to expect in the certificate, if not the URL's host."),
    click.option(
        "--insecure-skip-tls-verify", "insecure", is_flag=True, help="Do not verify the server: anyone can pose as it."
    ),
    click.option("-s", "--server", metavar="URL", help="Instead of the kubeconfig's apiserver."),
    click.option("--proxy-url", metavar="URL", help="Proxy to the server."),
    click.option("--as", "as_user", metavar="USER", help="Impersonate, at the apiserver."),
    click.option("--as-group", "as_groups", multiple=True, metavar="GROUP", help="Repeatable."),
    click.option("--as-uid", metavar="UID", help="Impersonate with this uid, too."),
    click.option("--as-user-extra", multiple=True, metavar="KEY=VALUE", help="And with this extra; repeatable."),
    click.option(
        "--allow-plugin",
        "allow_plugins",
        multiple=True,
        metavar="PROGRAM",
        help="Credential plugin that may run, by name or path; repeatable.  [default: any]",
    ),
    click.option("--no-plugins", is_flag=True, help="Run no credential plugin, whatever the kubeconfig says."),
    click.option(
        "--kubelet-certificate-authority", type=_FILE, metavar="FILE", help="PEM CA of the kubelets' certificates."
    ),
    click.option(
        "--kubelet-client-certificate",
        type=_FILE,
        metavar="FILE",
        help="Who asks kubelets, if not who asks the cluster.",
    ),
    click.option("--kubelet-client-key", type=_FILE, metavar="FILE", help="Its PEM key."),
    click.option("--kubelet-token-file", type=_FILE, metavar="FILE", help="File with a bearer token for kubelets."),
    click.option(
        "--kubelet-insecure-skip-tls-verify",
        "kubelet_insecure",
        is_flag=True,
        help="Do not verify kubelets: anyone can pose as one.",
    ),
    click.option(
        "--known-nodes",
        type=_FILE,
        metavar="FILE",
        help="Certificates pinned with kubewire trust.  [default: ~/.kube/kubewire_known_nodes]",
    ),
    click.option(
        "--address-types",
        metavar="LIST",
        help="Which addresses of a node to try, best first.  "
        "[default: InternalIP,ExternalIP,Hostname,InternalDNS,ExternalDNS]",
    ),
    click.option("--allow-loopback-nodes", is_flag=True, help="Go to nodes that say they are on this machine."),
    click.option(
        "--allow-unverified-token", is_flag=True, help="Send the token even to a server that is not verified."
    ),
    click.option("--connect-timeout", type=_SECONDS, metavar="SECONDS", help="Bound for each step up to a session."),
    click.option(
        "--ping-period",
        type=click.FloatRange(min=0),
        default=5.0,
        show_default=True,
        metavar="SECONDS",
        help="Keepalive; 0 for none.",
    ),
    click.option(
        "--ping-deadline",
        type=_SECONDS,
        default=30.0,
        show_default=True,
        metavar="SECONDS",
        help="Silence after which a peer is taken for dead.",
    ),
    click.option(
        "--transport",
        default="auto",
        show_default=True,
        metavar="KIND",
        help="auto: SPDY first at a kubelet, WebSocket first at an apiserver, the other where that does not pass; "
        "spdy; ws; or one subprotocol, spdy:NAME or ws:NAME; ws:none for a WebSocket without one.",
    ),
    click.option(
        "--token-as-subprotocol",
        "bearer_subprotocol",
        is_flag=True,
        help="Hide the token among the subprotocols of a WebSocket request, for proxies that drop the header.",
    ),
)


def connection_options(function: _Function) -> _Function:
    """Adds the connection options to a command; they arrive as keyword arguments named as the fields above."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def take_connection(values: dict[str, Any]) -> Connection:
    """Moves the connection options out of a command's keyword arguments."""
    return Connection(**{name: values.pop(name) for name in Connection.__dataclass_fields__})
