"""A table of kubeconfig files, ordinary, odd and broken, for kubectl and for us.

``@NAME@`` stands for what ``Place.fill`` knows: the address of a server, a folder, inline data.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from kubeletclient.kubeconfig import Overrides

__all__ = ["ACCEPTED", "DIFFERENT", "LOGIN", "REFUSED", "Case", "document", "one", "plugin"]

PLUGIN = "client.authentication.k8s.io"

LOGIN = r"""#!/bin/sh
# A credential plugin that answers what its arguments ask for: token, certificate, or both; and fails at other words.
set -eu
pem() { awk '{printf "%s\\n", $0}' "$1"; }
status=
for word in "$@"; do
    case "$word" in
        token) status="$status\"token\": \"from-plugin\"," ;;
        certificate)
            status="$status\"clientCertificateData\": \"$(pem "$0.crt")\","
            status="$status\"clientKeyData\": \"$(pem "$0.key")\","
            ;;
        *) exit 3 ;;
    esac
done
version=$(printf '%s' "$KUBERNETES_EXEC_INFO" | sed 's/.*"apiVersion":"\([^"]*\)".*/\1/')
status="$status\"expirationTimestamp\": \"2999-01-01T00:00:00Z\""
printf '%s' "{\"kind\": \"ExecCredential\", \"apiVersion\": \"$version\", \"status\": {$status}}"
"""


@dataclass
class Case:
    """One configuration. ``files`` are texts or documents by name; ``use`` is what KUBECONFIG lists, or the argument
    of --kubeconfig for a single name with ``explicit``; ``flags`` go to kubectl, ``ours`` to ``load``.
    """

    name: str
    files: dict[str, Any]
    use: tuple[str, ...] = ("config",)
    explicit: bool = False
    flags: tuple[str, ...] = ()
    ours: dict[str, Any] = field(default_factory=dict)
    text: str = ""
    """What our error says, of a configuration that is refused."""


def document(
    cluster: dict[str, Any] | None = None,
    user: dict[str, Any] | None = None,
    context: dict[str, Any] | None = None,
    **top: Any,
) -> dict[str, Any]:
    """A kubeconfig of one context ``c`` of cluster ``k`` and user ``u``."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [
            {"name": "k", "cluster": {"server": "@SERVER@", "certificate-authority": "ca.crt", **(cluster or {})}}
        ],
        "users": [{"name": "u", "user": user if user is not None else {"token": "t0ken"}}],
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u", **(context or {})}}],
        **top,
    }


def one(name: str, *arguments: Any, **more: Any) -> Case:
    """A case of one file; the last arguments are those of ``document``."""
    options = {key: more.pop(key) for key in ("flags", "ours", "text", "use", "explicit") if key in more}
    return Case(name, {"config": document(*arguments, **more)}, **options)


def plugin(**fields: Any) -> dict[str, Any]:
    """A user with an exec plugin."""
    said = {"apiVersion": f"{PLUGIN}/v1", "command": "./login", "interactiveMode": "Never", **fields}
    return {"exec": {name: value for name, value in said.items() if value is not None}}


TEXT = """
# A comment
apiVersion: v1
kind: Config
current-context: 2024-01-01
unknown: {a: [1, 2]}
preferences: {colors: true}
clusters:
- name: k
  cluster: &cluster
    server: @SERVER@
    certificate-authority: ca.crt
    tls-server-name: null
    extensions: []
    an-unknown-field: 7
- name: anchored
  cluster:
    <<: *cluster
    tls-server-name: other.test
users:
- name: 1:20
  user: {token: "12345"}
contexts:
- name: 2024-01-01
  context: {cluster: anchored, user: 1:20, namespace: !!str 7}
---
kind: Ignored
"""

TWO = {
    "first/config": {
        **document({"certificate-authority": "../ca.crt"}, {"tokenFile": "token"}),
        "current-context": "",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u", "namespace": "first"}}],
    },
    "first/token": "from-first\n",
    "second/config": document({"server": "https://127.0.0.1:1", "tls-server-name": "second"}, {"token": "second"}),
}

ACCEPTED = [
    one("a token"),
    one("a token file beside the config", None, {"tokenFile": "token"}),
    one("token and token file: the file is stronger", None, {"tokenFile": "token", "token": "stale"}),
    one("a token whose token file is missing", None, {"tokenFile": "none", "token": "spare"}),
    one("certificates in files", None, {"client-certificate": "jane.crt", "client-key": "jane.key"}),
    one(
        "certificates inline",
        {"certificate-authority": "", "certificate-authority-data": "@CA@"},
        {"client-certificate-data": "@CRT@", "client-key-data": "@KEY@"},
    ),
    one(
        "a certificate inline and its key in a file",
        None,
        {"client-certificate-data": "@CRT@", "client-key": "jane.key"},
    ),
    one(
        "a certificate and a token", None, {"client-certificate": "jane.crt", "client-key": "jane.key", "token": "both"}
    ),
    one("user name and password", None, {"username": "jane", "password": "s3cr3t:ü"}),
    one(
        "impersonation",
        None,
        {
            "token": "t",
            "as": "bob",
            "as-uid": "17",
            "as-groups": ["a", "b c"],
            "as-user-extra": {"example.com/Scope": ["v", "w"], "odd key%ü": ["z"]},
        },
    ),
    one("another name in the certificate", {"tls-server-name": "other.test"}),
    one("a path before everything", {"server": "@SERVER@/k8s/clusters/c-1/"}),
    one(
        "no verification",
        {"certificate-authority": None, "insecure-skip-tls-verify": True},
        {"client-certificate": "jane.crt", "client-key": "jane.key"},
    ),
    one("a namespace", context={"namespace": "ours"}),
    one("plain HTTP sends no credentials", {"server": "@PLAIN@", "certificate-authority": ""}),
    one("no scheme is plain HTTP", {"server": "@PLAINHOST@"}),
    one("no apiVersion and no kind", apiVersion=None, kind=None),
    Case("odd YAML", {"config": TEXT}),
    Case("JSON with tabs", {"config": json.dumps(document(), indent="\t")}),
    Case("two files: the first has an entry whole", TWO, ("first/config", "second/config")),
    Case(
        "and in the other order",
        TWO,
        ("second/config", "first/config"),
        flags=("--cluster=k2",),
        ours={"cluster": "k2"},
    )
    if False
    else Case(
        "missing, empty and repeated entries of the list",
        TWO,
        ("none", "", "first/config", "second/config", "first/config"),
    ),
    one("one file by name", explicit=True),
    one(
        "a context by name",
        contexts=[
            {"name": "c", "context": {"cluster": "none"}},
            {"name": "d", "context": {"cluster": "k", "user": "u"}},
        ],
        flags=("--context=d",),
        ours={"context": "d"},
    ),
    one(
        "another user",
        users=[{"name": "u", "user": {"token": "u"}}, {"name": "v", "user": {"token": "v"}}],
        flags=("--user=v",),
        ours={"user": "v"},
    ),
    one(
        "another cluster",
        clusters=[
            {"name": "k", "cluster": {"server": "https://127.0.0.1:1"}},
            {"name": "k2", "cluster": {"server": "@SERVER@", "certificate-authority": "ca.crt"}},
        ],
        flags=("--cluster=k2",),
        ours={"cluster": "k2"},
    ),
    one("another token", None, {"token": "old"}, flags=("--token=new",), ours={"overrides": Overrides(token="new")}),
    one(
        "a token beside the certificate",
        None,
        {"client-certificate": "jane.crt", "client-key": "jane.key"},
        flags=("--token=new",),
        ours={"overrides": Overrides(token="new")},
    ),
    one(
        "another certificate",
        None,
        {"client-certificate-data": "@CRT@", "client-key-data": "@KEY@"},
        flags=("--client-certificate=@DIR@/john.crt", "--client-key=@DIR@/john.key"),
        ours={"overrides": Overrides(client_certificate="@DIR@/john.crt", client_key="@DIR@/john.key")},
    ),
    one(
        "another server forgets the name",
        {"server": "https://127.0.0.1:1", "tls-server-name": "nobody.test"},
        flags=("--server=@SERVER@",),
        ours={"overrides": Overrides(server="@SERVER@")},
    ),
    one(
        "another authority",
        {"certificate-authority": "", "certificate-authority-data": "@OTHERCA@"},
        flags=("--certificate-authority=@DIR@/ca.crt",),
        ours={"overrides": Overrides(certificate_authority="@DIR@/ca.crt")},
    ),
    one(
        "no verification by hand",
        {"certificate-authority": "", "certificate-authority-data": "@OTHERCA@"},
        {"client-certificate": "jane.crt", "client-key": "jane.key"},
        flags=("--insecure-skip-tls-verify",),
        ours={"overrides": Overrides(insecure_skip_tls_verify=True)},
    ),
    one(
        "impersonation by hand",
        None,
        {"token": "t", "as": "alice", "as-groups": ["old"], "as-uid": "1"},
        flags=("--as=bob", "--as-group=v", "--as-group=w"),
        ours={"overrides": Overrides(as_user="bob", as_groups=("v", "w"))},
    ),
    one("a plugin with a token", None, plugin(args=["token"])),
    one("a plugin with a certificate", None, plugin(args=["certificate"])),
    one("a plugin with both", None, plugin(args=["token", "certificate"])),
    one("a plugin of v1beta1", None, plugin(args=["token"], apiVersion=f"{PLUGIN}/v1beta1", interactiveMode=None)),
    one("a plugin beside a token is not asked", None, {**plugin(args=["fail"]), "token": "t"}),
    one(
        "a plugin beside a certificate is not asked",
        None,
        {**plugin(args=["fail"]), "client-certificate": "jane.crt", "client-key": "jane.key"},
    ),
]

REFUSED = [
    one("no such file", use=("none",), explicit=True, text="/none does not exist"),
    Case("not YAML", {"config": "a: [b\n"}, text="cannot be parsed as YAML"),
    Case("a tab in YAML", {"config": "clusters:\n\t- name: x\n"}, text="cannot be parsed as YAML: found character"),
    Case("a list", {"config": "[]"}, text="the document must be a mapping"),
    Case("text", {"config": "hello"}, text="the document must be a mapping"),
    one("another kind", kind="Pod", text="kind must be 'Config'"),
    one("another version", apiVersion="v2", text="apiVersion must be 'v1'"),
    one("a number as token", None, {"token": 12345}, text="user 'u': token must be text, and is a number"),
    one("a truth value as password", None, {"password": True}, text="password must be text"),
    one("a number as namespace", context={"namespace": 7}, text="namespace must be text"),
    one("text as truth value", {"insecure-skip-tls-verify": "yes"}, text="must be true or false"),
    one("clusters that are no list", clusters={"a": 1}, text="clusters must be a list"),
    one("an entry that is no mapping", users=["u"], text="users[0]: must be a mapping"),
    one("a password without a user name", None, {"password": "s3cr3t"}, text="has a password and no username"),
    Case(
        "y is true to YAML", {"config": "current-context: y"}, text="current-context must be text, and is a truth value"
    ),
    one("no base64", {"certificate-authority-data": "!!!"}, text="certificate-authority-data is not base64"),
    one("a name twice", users=[{"name": "u", "user": {}}, {"name": "u", "user": {}}], text="this name stands twice"),
    Case(
        "the second of two files is broken",
        {"config": document(), "bad": "{"},
        ("config", "bad"),
        text="/bad cannot be parsed",
    ),
    one("no such context", flags=("--context=x",), ours={"context": "x"}, text="the context 'x' does not exist"),
    one("no such current-context", **{"current-context": "x"}, text="'x' is the current-context, and does not exist"),
    one(
        "no such user by hand", flags=("--user=x",), ours={"user": "x"}, text="the user 'x' that was asked for does not"
    ),
    one(
        "no such cluster by hand", flags=("--cluster=x",), ours={"cluster": "x"}, text="the cluster 'x' that was asked"
    ),
    one(
        "no CA file",
        {"certificate-authority": "none.crt"},
        text="none.crt as its certificate-authority, which cannot be read",
    ),
    one(
        "a CA twice", {"certificate-authority-data": "@CA@"}, text="has both certificate-authority and certificate-auth"
    ),
    one("a CA and no verification", {"insecure-skip-tls-verify": True}, text="contradict each other"),
    one(
        "a certificate without key",
        None,
        {"client-certificate": "jane.crt"},
        text="has a client certificate and no key",
    ),
    one(
        "no certificate file",
        None,
        {"client-certificate": "x.crt", "client-key": "jane.key"},
        text="x.crt as its client-cert",
    ),
    one("no key file", None, {"client-certificate": "jane.crt", "client-key": "x.key"}, text="x.key as its client-key"),
    one(
        "a certificate twice",
        None,
        {"client-certificate": "jane.crt", "client-certificate-data": "@CRT@", "client-key": "jane.key"},
        text="has both client-certificate and",
    ),
    one(
        "a key twice",
        None,
        {"client-certificate": "jane.crt", "client-key-data": "@KEY@", "client-key": "jane.key"},
        text="has both client-key and client-key-data",
    ),
    one(
        "a token file that is missing", None, {"tokenFile": "none"}, text="/none as its tokenFile, which cannot be read"
    ),
    one(
        "a token and a password", None, {"token": "t", "username": "u", "password": "p"}, text="of which one is allowed"
    ),
    one("groups of nobody", None, {"token": "t", "as-groups": ["a"]}, text="somebody without `as`"),
    one("an auth-provider", None, {"auth-provider": {"name": "gcp"}}, text="uses auth-provider 'gcp'"),
    one(
        "a plugin and an auth-provider",
        None,
        {**plugin(), "auth-provider": {"name": "gcp"}},
        text="uses auth-provider 'gcp'",
    ),
    one("a plugin without command", None, plugin(command=None), text="without a command"),
    one("a plugin without version", None, plugin(apiVersion=None), text="has no apiVersion of exec"),
    one("a plugin of v1alpha1", None, plugin(apiVersion=f"{PLUGIN}/v1alpha1"), text="of apiVersion 'client.auth"),
    one("a plugin of v1 without mode", None, plugin(interactiveMode=None), text="without an interactiveMode"),
    one("a plugin of another mode", None, plugin(interactiveMode="Sometimes"), text="interactiveMode 'Sometimes'"),
    one("a variable without name", None, plugin(env=[{"value": "x"}]), text="a variable that has no name"),
    one(
        "a proxy of another scheme",
        {"proxy-url": "ftp://127.0.0.1"},
        text="has an unusable proxy-url: its scheme is 'ftp'",
    ),
    one("a proxy without scheme", {"proxy-url": "127.0.0.1:3128"}, text="has an unusable proxy-url"),
    one("a server that is no URL", {"server": "https://[::1"}, text="has a server that is no URL"),
]

DIFFERENT = [
    one(
        "a token given by hand is stronger than a token file",
        None,
        {"tokenFile": "token"},
        flags=("--token=new",),
        ours={"overrides": Overrides(token="new")},
        text="new",
    ),
    one(
        "a user that no file has is an error",
        context={"user": "nobody"},
        text="the user 'nobody' that context 'c' names",
    ),
    one(
        "a cluster that no file has is an error",
        context={"cluster": "x"},
        text="the cluster 'x' that context 'c' names",
    ),
    one("a cluster without server is an error", {"server": ""}, text="cluster 'k' in"),
    Case("an empty file is an error, and not localhost:8080", {"config": ""}, text="has no context and no cluster"),
]
"""What is not as in kubectl, on purpose; ``text`` is our error, or our token."""
