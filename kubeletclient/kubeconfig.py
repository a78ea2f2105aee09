"""From kubeconfig files, or from inside a pod, to one ``Access``: which apiserver, and who is asking.

The rules are those of client-go (``tools/clientcmd/client_config.go``, ``validation.go``, ``overrides.go``; ``rest``),
and kubectl judges them in the tests. Where they differ it is said in ``docs/kubeconfig.md``: there is no
``http://localhost:8080`` to fall back to, nobody is asked for a password, ``auth-provider`` is gone here as it is from
kubectl, and a context that names what no file has is an error.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urlsplit

from kubeletclient._access import Access, Overrides, server_url
from kubeletclient._incluster import in_cluster, in_pod
from kubeletclient._kubefiles import Entry, Kubefiles, default_paths, fault, read_kubefiles
from kubeletclient._proxies import parse_proxy
from kubeletclient.credentials import (
    BasicAuth,
    BearerToken,
    ClientCertificate,
    CombinedCredentials,
    Credentials,
    Impersonation,
)
from kubeletclient.errors import CredentialsError, KubeconfigError
from kubeletclient.plugins import API_VERSIONS, ExecPlugin, PluginPolicy, PluginSettings, cluster_info
from spdyproto.pem import PathOrPEM
from spdyproto.text import printable

__all__ = ["Access", "Impersonation", "Overrides", "in_cluster", "load"]

EXTENSION: Final = "client.authentication.k8s.io/exec"
"""The extension of a cluster that is handed to credential plugins."""

OWN_EXTENSION: Final = "kubewire"
"""The extension of a cluster that says what only this project wants to know."""


def load(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    *,
    context: str | None = None,
    cluster: str | None = None,
    user: str | None = None,
    namespace: str | None = None,
    overrides: Overrides = Overrides(),
    plugins: PluginPolicy = PluginPolicy(),
    environ: Mapping[str, str] = os.environ,
) -> Access:
    """The access that kubeconfig files give.

    - ``paths``: one file, which must exist; or several, of which missing ones are passed over and the first is the
      strongest; None for the list in ``KUBECONFIG``, else ``~/.kube/config``; and where none of these exists, inside a
      pod, what the pod's service account gives (``in_cluster``).
    - ``context``: its name, else the files' ``current-context``; ``cluster``, ``user``, ``namespace`` replace what it
      says.
    - ``plugins``: which credential plugins may run. None runs before a connection needs it.

    Reads the kubeconfig files, and looks whether the files that they name can be read. Raises KubeconfigError.
    """
    if paths is None:
        files = read_kubefiles(default_paths(environ), must_exist=False)
    elif isinstance(paths, str | os.PathLike):
        files = read_kubefiles([os.fspath(paths)], must_exist=True)
    else:
        files = read_kubefiles(list(dict.fromkeys(os.fspath(path) for path in paths if path)), must_exist=False)
    chosen = _choose(files, context, cluster, user, overrides)
    if chosen is None:
        if paths is not None or not in_pod(environ):
            raise _nothing(files)
        return _pod_access(files, in_cluster(environ=environ), namespace, overrides, plugins)
    return _Builder(files, chosen, overrides, plugins).access(namespace)


def _pod_access(
    files: Kubefiles, pod: Access, namespace: str | None, overrides: Overrides, plugins: PluginPolicy
) -> Access:
    """A pod's service account, with what was given by hand instead of it or beside it."""
    if not overrides.given:
        return replace(pod, namespace=namespace) if namespace else pod
    assert isinstance(pod.credentials, BearerToken)
    cluster = Entry("cluster", "", "", {"server": pod.server, "certificate-authority": pod.ca or ""})
    user = Entry("user", "", "", {"tokenFile": pod.credentials.file})
    access = _Builder(files, _Chosen("", cluster, user, pod.namespace), overrides, plugins).access(namespace)
    return replace(access, origin=pod.origin, notes=(*pod.notes, *access.notes))


# -- which entries ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Chosen:
    context: str
    cluster: Entry
    user: Entry
    namespace: str


def _choose(
    files: Kubefiles, context: str | None, cluster: str | None, user: str | None, overrides: Overrides
) -> _Chosen | None:
    """The entries of the context; None if nothing says which apiserver."""
    name = context or files.current_context
    entry = files.contexts.get(name) if name else None
    if name and entry is None:
        why = "does not exist" if context else "is the current-context, and does not exist"
        raise fault(
            f"the context {_quoted(name)} {why} in {_all(files)}",
            _known("contexts", files.contexts, "kubectl config use-context, or --context"),
            entry=f"context {_quoted(name)}",
        )
    said = entry.fields if entry is not None else {}
    found = {}
    for kind, entries, given in (("cluster", files.clusters, cluster), ("user", files.users, user)):
        wanted = given or said.get(kind) or ""
        if wanted and wanted not in entries:
            by = f"that {entry} names" if not given and entry is not None else "that was asked for"
            raise fault(
                f"the {kind} {_quoted(wanted)} {by} does not exist in {_all(files)}",
                _known(f"{kind}s", entries, f"correct the context, or --{kind}"),
                file=entry.file if entry is not None and not given else "",
                entry=str(entry) if entry is not None and not given else f"{kind} {_quoted(wanted)}",
            )
        found[kind] = entries.get(wanted) or Entry(kind, wanted, "", {})
    if not found["cluster"].fields and not overrides.server and not found["cluster"].file:
        if entry is not None:
            raise fault(
                f"{entry} in {entry.file} names no cluster", "add `cluster:` to it", file=entry.file, entry=str(entry)
            )
        return None
    return _Chosen(name, found["cluster"], found["user"], said.get("namespace") or "")


def _nothing(files: Kubefiles) -> KubeconfigError:
    if files.contexts:
        return fault(
            f"no current-context is set in {_all(files)}, and none was asked for",
            _known("contexts", files.contexts, "choose one with --context or kubectl config use-context"),
        )
    if files.files:
        return fault(f"{_all(files)} has no context and no cluster", "check that it is the right file")
    looked = " and ".join(files.missing) or "an empty list of files"
    return fault(
        f"there is no kubeconfig: looked for {looked}, and this is not a pod with a service account",
        "give --kubeconfig, set KUBECONFIG, or name a kubelet with --kubelet",
    )


def _all(files: Kubefiles) -> str:
    return ", ".join(files.files) or "any kubeconfig file"


def _known(what: str, entries: Mapping[str, Entry], how: str) -> str:
    names = ", ".join(sorted(entries)[:20]) + (", ..." if len(entries) > 20 else "")
    return f"{how}; the {what} there: {printable(names, limit=500) or 'none'}"


def _quoted(name: str) -> str:
    return printable(repr(name), limit=200)


# -- from entries to an access -----------------------------------------------------------------------------------------


class _Builder:
    """Checks the chosen entries, merged with the overrides, and builds the access from them."""

    def __init__(self, files: Kubefiles, chosen: _Chosen, overrides: Overrides, plugins: PluginPolicy) -> None:
        self.files = files
        self.chosen = chosen
        self.plugins = plugins
        self.cluster = _merged_cluster(chosen.cluster, overrides)
        self.user = _merged_user(chosen.user, overrides)
        self.problems: list[tuple[Entry, str, str]] = []
        self.notes: list[str] = []

    def access(self, namespace: str | None) -> Access:
        server = self._server()
        proxy = self._proxy()
        ca = self._pem(self.cluster, "certificate-authority")
        if ca is not None and self.cluster.fields.get("insecure-skip-tls-verify"):
            self._problem(
                self.cluster, "has a CA and insecure-skip-tls-verify, which contradict each other", "remove one of them"
            )
        verify = not self.cluster.fields.get("insecure-skip-tls-verify")
        impersonate = self._impersonation()
        credentials = self._credentials(ca, server, proxy)
        if self.problems:
            raise self._error()
        if urlsplit(server).scheme == "http":
            if credentials is not None:
                self.notes.append(f"{server} is plain HTTP, so the credentials of {self.user} are not used")
            credentials, ca, verify = None, None, True
        return Access(
            server=server,
            ca=ca,
            verify=verify,
            server_name=self.cluster.fields.get("tls-server-name") or None,
            credentials=credentials,
            proxy=proxy,
            namespace=namespace or self.chosen.namespace or "default",
            impersonate=impersonate,
            context=self.chosen.context,
            cluster=self.cluster.name,
            user=self.user.name,
            origin=self._origin(),
            files=self.files.files,
            notes=tuple(self.notes),
            allow_loopback_nodes=self._allows_loopback(),
        )

    def _allows_loopback(self) -> bool:
        own = (self.cluster.fields.get("extensions") or {}).get(OWN_EXTENSION)
        return isinstance(own, Mapping) and own.get("allow-loopback-nodes") is True

    def _origin(self) -> str:
        if not self.chosen.context:
            return "options" if not self.cluster.file else f"{self.cluster} of {self.cluster.file}"
        return f"context {_quoted(self.chosen.context)} of {self.files.contexts[self.chosen.context].file}"

    # -- the cluster -------------------------------------------------------------------------------------------------

    def _server(self) -> str:
        said = self.cluster.fields.get("server") or ""
        if not said:
            self._problem(self.cluster, "has no server", "add `server: https://HOST:PORT`")
            return ""
        parts = server_url(said)
        if parts is None:
            self._problem(self.cluster, "has a server that is no URL", "write it as `server: https://HOST[:PORT]`")
            return ""
        if "@" in parts.netloc:
            self._problem(
                self.cluster, "has a user name or password in its server's URL", "put them into the user's entry"
            )
            return ""
        return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"

    def _proxy(self) -> str | None:
        said: str = self.cluster.fields.get("proxy-url") or ""
        if not said:
            return None
        try:
            parse_proxy(said)
        except ValueError as error:
            self._problem(
                self.cluster, f"has an unusable proxy-url: {error}", "write http://HOST:PORT, https or socks5"
            )
        return said

    # -- the user ----------------------------------------------------------------------------------------------------

    def _credentials(self, ca: PathOrPEM | None, server: str, proxy: str | None) -> Credentials | None:
        user = self.user.fields
        parts: list[Credentials] = []
        token, token_file = user.get("token") or "", self.user.path("tokenFile")
        basic = bool(user.get("username") or user.get("password"))
        if user.get("token") and basic:
            self._problem(self.user, "has a token and a user name, of which one is allowed", "remove one of them")
        certificate = self._pair()
        if certificate is not None:
            parts.append(certificate)
        if token or token_file:
            if token_file and not token:
                self._readable(self.user, "tokenFile", token_file)
            try:
                parts.append(BearerToken(token or None, file=token_file or None))
            except CredentialsError as error:
                self._problem(self.user, f"has an unusable token: {error.cause}", "correct it")
        if user.get("password") and not user.get("username"):
            self._problem(self.user, "has a password and no username", "add `username` to it")
        if basic:
            parts.append(BasicAuth(user.get("username") or "", user.get("password") or ""))
        plugin = self._plugin(ca, server, proxy)
        if plugin is not None and not parts:
            parts.append(plugin)
        if user.get("auth-provider"):
            name = printable(str(user["auth-provider"].get("name") or ""), limit=80)
            self._problem(
                self.user,
                f"uses auth-provider {name!r}, which client-go has removed",
                "use the exec credential plugin that replaces it",
            )
        if not parts:
            return None
        return parts[0] if len(parts) == 1 else CombinedCredentials(parts)

    def _pair(self) -> ClientCertificate | None:
        user = self.user.fields
        if not (user.get("client-certificate") or user.get("client-certificate-data")):
            return None
        certificate = self._pem(self.user, "client-certificate")
        key = self._pem(self.user, "client-key")
        if key is None and not (user.get("client-key") or user.get("client-key-data")):
            self._problem(
                self.user, "has a client certificate and no key", "add `client-key` or `client-key-data` to it"
            )
        if certificate is None or key is None:
            return None
        return ClientCertificate(certificate, key)

    def _impersonation(self) -> Impersonation | None:
        user = self.user.fields
        name, uid = user.get("as") or "", user.get("as-uid") or ""
        groups, extra = tuple(user.get("as-groups") or ()), user.get("as-user-extra") or {}
        if not name:
            if uid or groups or extra:
                self._problem(
                    self.user, "asks for the uid, groups or extra of somebody without `as`", "add `as: NAME` (--as)"
                )
            return None
        try:
            return Impersonation(name, uid, groups, {key: tuple(values) for key, values in extra.items()})
        except ValueError as error:
            self._problem(self.user, f"asks for an impossible impersonation: {error}", "correct it")
            return None

    def _plugin(self, ca: PathOrPEM | None, server: str, proxy: str | None) -> ExecPlugin | None:
        said = self.user.fields.get("exec")
        if said is None:
            return None
        before = len(self.problems)
        if not said.get("command"):
            self._problem(self.user, "has an exec plugin without a command", "add `command` to it")
        version = said.get("apiVersion") or ""
        if version not in API_VERSIONS:
            self._problem(
                self.user,
                f"has an exec plugin of apiVersion {_quoted(version)}" if version else "has no apiVersion of exec",
                f"write one that is spoken here: {' or '.join(API_VERSIONS)}",
            )
        mode = said.get("interactiveMode") or ("IfAvailable" if version == API_VERSIONS[1] else "")
        if mode not in ("Never", "IfAvailable", "Always"):
            self._problem(
                self.user,
                f"has an exec plugin with the interactiveMode {_quoted(mode)}"
                if mode
                else "has an exec plugin without an interactiveMode",
                "write Never, IfAvailable or Always",
            )
        if any(not name for name, _ in said.get("env") or ()):
            self._problem(self.user, "has an exec plugin with a variable that has no name", "give it one")
        if len(self.problems) > before:
            return None
        command = said["command"]
        if os.path.basename(command) != command:
            command = os.path.join(os.path.abspath(os.path.dirname(self.user.file)), command)
        info = ""
        if said.get("provideClusterInfo"):
            cluster = self.cluster.fields
            info = cluster_info(
                server=server,
                server_name=cluster.get("tls-server-name") or None,
                verify=not cluster.get("insecure-skip-tls-verify"),
                ca=_contents(ca),
                proxy=proxy,
                disable_compression=bool(cluster.get("disable-compression")),
                config=(cluster.get("extensions") or {}).get(EXTENSION),
            )
        settings = PluginSettings(
            command,
            tuple(said.get("args") or ()),
            tuple(said.get("env") or ()),
            version,
            mode,
            said.get("installHint") or "",
            info,
            f"{self.user} in {self.user.file}",
        )
        return ExecPlugin(settings, self.plugins)

    # -- files and faults ----------------------------------------------------------------------------------------------

    def _pem(self, entry: Entry, name: str) -> PathOrPEM | None:
        """Inline data, or a path that can be read, or None."""
        data, path = entry.fields.get(f"{name}-data"), entry.path(name)
        if data and path:
            self._problem(entry, f"has both {name} and {name}-data", "remove one of them")
        if data:
            return bytes(data)
        if not path:
            return None
        return path if self._readable(entry, name, path) else None

    def _readable(self, entry: Entry, name: str, path: str) -> bool:
        try:
            with open(path, "rb") as stream:
                stream.read(1)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            self._problem(entry, f"names {path} as its {name}, which cannot be read: {why}", "check the path")
            return False
        return True

    def _problem(self, entry: Entry, text: str, hint: str) -> None:
        where = f" in {entry.file}" if entry.file else ""
        self.problems.append((entry, f"{entry}{where} {text}" if entry.name else f"the {entry.kind} {text}", hint))

    def _error(self) -> KubeconfigError:
        entry, cause, hint = self.problems[0]
        more = len(self.problems) - 1
        if more:
            others = "; ".join(text for _, text, _ in self.problems[1:])
            hint += f"; {more} more: {others}"
        error = fault(cause, hint, file=entry.file, entry=str(entry))
        error.problems = tuple(text for _, text, _ in self.problems)
        return error


def _merged_cluster(entry: Entry, overrides: Overrides) -> Entry:
    merged = dict(entry.fields)
    if overrides.insecure_skip_tls_verify or overrides.certificate_authority:
        for name in ("certificate-authority", "certificate-authority-data", "insecure-skip-tls-verify"):
            merged.pop(name, None)
    if overrides.server or overrides.tls_server_name:
        merged.pop("tls-server-name", None)
    merged |= _given(
        {
            "server": overrides.server,
            "tls-server-name": overrides.tls_server_name,
            "certificate-authority": _absolute(overrides.certificate_authority),
            "insecure-skip-tls-verify": overrides.insecure_skip_tls_verify,
            "proxy-url": overrides.proxy_url,
        }
    )
    return replace(entry, fields=merged)


def _merged_user(entry: Entry, overrides: Overrides) -> Entry:
    merged = dict(entry.fields)
    for path, data in (
        (overrides.client_certificate, "client-certificate-data"),
        (overrides.client_key, "client-key-data"),
    ):
        if path:
            merged.pop(data, None)
    if overrides.token or overrides.token_file:
        merged.pop("token", None)
        merged.pop("tokenFile", None)
    merged |= _given(
        {
            "client-certificate": _absolute(overrides.client_certificate),
            "client-key": _absolute(overrides.client_key),
            "token": overrides.token,
            "tokenFile": _absolute(overrides.token_file),
            "username": overrides.username,
            "password": overrides.password,
            "as": overrides.as_user,
            "as-uid": overrides.as_uid,
            "as-groups": tuple(overrides.as_groups),
        }
    )
    if overrides.as_user_extra:
        merged["as-user-extra"] = {**(merged.get("as-user-extra") or {}), **overrides.as_user_extra}
    return replace(entry, fields=merged)


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value}


def _absolute(path: str) -> str:
    """Paths given by hand are relative to the current folder, not to that of the file they are merged into."""
    return os.path.abspath(path) if path else ""


def _contents(source: PathOrPEM | None) -> bytes | None:
    if source is None or isinstance(source, bytes):
        return source
    try:
        with open(source, "rb") as stream:
            return stream.read()
    except OSError:  # told by the check of that file
        return None
