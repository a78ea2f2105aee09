"""kubeconfig files as kubectl reads them: the same entries, the same identity on the wire, the same refusals.

Every configuration of the table is given to the real kubectl, once to print it (``config view --raw --minify
--flatten``) and once to use it (``get --raw``, at a server that records who asks), and to ours.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from kubeletclient import KubeconfigError, kubeconfig
from kubeletclient._plainhttp import Route
from kubeletclient.credentials import BasicAuth, BearerToken, ClientCertificate, CombinedCredentials, Credentials
from kubeletclient.endpoints import Target, parse_endpoint
from kubeletclient.kubeconfig import Access, Overrides
from kubeletclient.plugins import ExecPlugin
from kubeletclient.sync.plain import plain_client
from spdyproto.limits import Deadlines
from support.kubeconfigs import ACCEPTED, DIFFERENT, LOGIN, REFUSED, Case
from support.kubectl import find
from support.recorder import Recorder, Request

pytestmark = pytest.mark.interop


@dataclass
class Place:
    """A folder with the files that the cases name, and the server that they lead to."""

    folder: Path
    authority: trustme.CA
    server: Recorder
    plain: Recorder
    kubectl: Path

    def lay(self, case: Case) -> Path:
        """The folder with this case's files."""
        folder = self.folder / "case"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.folder / "common", folder)
        for name, content in case.files.items():
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            text = content if isinstance(content, str) else yaml.safe_dump(content, allow_unicode=True)
            path.write_text(self.fill(text, folder))
        return folder

    def fill(self, text: str, folder: Path) -> str:
        def inline(name: str) -> str:
            return base64.b64encode((folder / name).read_bytes()).decode()

        values: dict[str, Callable[[], str]] = {
            "SERVER": lambda: self.server.url,
            "PLAINHOST": lambda: self.plain.url.removeprefix("http://"),
            "PLAIN": lambda: self.plain.url,
            "DIR": lambda: str(folder),
            "CA": lambda: inline("ca.crt"),
            "OTHERCA": lambda: inline("other-ca.crt"),
            "CRT": lambda: inline("jane.crt"),
            "KEY": lambda: inline("jane.key"),
        }
        for name, value in values.items():
            if f"@{name}@" in text:
                text = text.replace(f"@{name}@", value())
        return text

    def run(self, case: Case, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        """kubectl on that case."""
        listed = os.pathsep.join(str(folder / name) if name else "" for name in case.use)
        chosen = ["--kubeconfig", listed] if case.explicit else []
        flags = [self.fill(flag, folder) for flag in case.flags]
        environment = {"HOME": str(self.folder), "PATH": os.environ["PATH"]}
        if not case.explicit:
            environment["KUBECONFIG"] = listed
        return subprocess.run(
            [str(self.kubectl), *chosen, *flags, *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )

    def load(self, case: Case, folder: Path) -> Access:
        """Ours on that case."""
        listed = os.pathsep.join(str(folder / name) if name else "" for name in case.use)
        ours = dict(case.ours)
        if "overrides" in ours:
            given: Overrides = ours["overrides"]
            filled: dict[str, Any] = {
                item.name: self.fill(value, folder)
                for item in dataclasses.fields(given)
                if isinstance(value := getattr(given, item.name), str)
            }
            ours["overrides"] = dataclasses.replace(given, **filled)
        environ = {"HOME": str(self.folder)} if case.explicit else {"HOME": str(self.folder), "KUBECONFIG": listed}
        return kubeconfig.load(listed if case.explicit else None, environ=environ, **ours)

    def ask(self, access: Access) -> None:
        """What ``kubectl get --raw /probe`` does, by ours."""
        endpoint = parse_endpoint(access.server)
        trust = access.trust()
        target = Target(endpoint, "/probe", f"{access.server}/probe", "apiserver")
        headers = trust.headers(endpoint, 0.0)
        if callable(headers):
            headers = headers(30)
        extensions = {"sni_hostname": trust.server_name} if trust.server_name else {}
        with plain_client(Route(target, trust, Deadlines(), "test")) as client:
            client.get(f"{access.server}/probe", headers=list(headers), extensions=extensions).raise_for_status()

    def taken(self) -> list[Request]:
        return self.server.taken() + self.plain.taken()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder, authority = tmp_path_factory.mktemp("kubeconfig"), trustme.CA()
    common = folder / "common"
    common.mkdir()
    authority.cert_pem.write_to_path(common / "ca.crt")
    trustme.CA().cert_pem.write_to_path(common / "other-ca.crt")
    for name in ("jane", "john", "login"):
        certificate = authority.issue_cert(f"{name}.test", common_name=name)
        certificate.cert_chain_pems[0].write_to_path(common / f"{name}.crt")
        certificate.private_key_pem.write_to_path(common / f"{name}.key")
    (common / "token").write_text("from-file\n")
    (common / "login").write_text(LOGIN)
    (common / "login").chmod(0o755)
    with Recorder(authority) as server, Recorder(authority, secure=False) as plain:
        yield Place(folder, authority, server, plain, find("built"))


def view_of(said: dict[str, Any]) -> dict[str, Any]:
    """What kubectl prints, in the words of ``summary_of``."""
    (context,) = said["contexts"]
    (cluster,) = said["clusters"]
    (user,) = said["users"]
    k, u = cluster["cluster"], user["user"]
    token_file = u.get("tokenFile")
    return {
        "context": said["current-context"],
        "cluster": cluster["name"],
        "user": user["name"],
        "namespace": context["context"].get("namespace", "default"),
        "server": k["server"],
        "ca": k.get("certificate-authority-data"),
        "insecure": k.get("insecure-skip-tls-verify", False),
        "server_name": k.get("tls-server-name"),
        "proxy": k.get("proxy-url"),
        "certificate": u.get("client-certificate-data"),
        "key": u.get("client-key-data"),
        "token": u.get("token") if not token_file else None,
        "token_file": token_file and Path(token_file).name,
        "username": u.get("username", ""),
        "password": u.get("password", ""),
        "as": (u.get("as"), u.get("as-uid"), u.get("as-groups"), u.get("as-user-extra")),
        "plugin": "exec" in u and not (u.get("token") or u.get("client-certificate-data")),
    }


def summary_of(access: Access) -> dict[str, Any]:
    """The same of an Access."""

    def inline(source: Any) -> str | None:
        if source is None:
            return None
        return base64.b64encode(source if isinstance(source, bytes) else Path(source).read_bytes()).decode()

    parts: list[Credentials] = []
    if access.credentials is not None:
        combined = isinstance(access.credentials, CombinedCredentials)
        parts = list(access.credentials.parts) if combined else [access.credentials]  # type: ignore[attr-defined]
    by_kind = {type(part): part for part in parts}
    certificate: Any = by_kind.get(ClientCertificate)
    token: Any = by_kind.get(BearerToken)
    basic: Any = by_kind.get(BasicAuth)
    said = base64.b64decode(basic.header().split()[1]).decode().partition(":") if basic else ("", "", "")
    who = access.impersonate
    return {
        "context": access.context,
        "cluster": access.cluster,
        "user": access.user,
        "namespace": access.namespace,
        "server": access.server,
        "ca": inline(access.ca),
        "insecure": not access.verify,
        "server_name": access.server_name,
        "proxy": access.proxy,
        "certificate": inline(certificate._cert) if certificate else None,
        "key": inline(certificate._key) if certificate else None,
        "token": token._token if token and token._file is None else None,
        "token_file": Path(token._file).name if token and token._file else None,
        "username": said[0],
        "password": said[2],
        "as": (
            (who.user, who.uid or None, list(who.groups) or None, {k: list(v) for k, v in who.extra.items()} or None)
            if who
            else (None, None, None, None)
        ),
        "plugin": ExecPlugin in by_kind,
    }


VIEWED = [case for case in ACCEPTED if all(flag.startswith("--context") for flag in case.flags)]
"""``config view`` knows no overrides but the context."""


@pytest.mark.parametrize("case", VIEWED, ids=lambda case: case.name)
def test_the_entries_are_those_that_kubectl_prints(place: Place, case: Case) -> None:
    folder = place.lay(case)
    printed = place.run(case, folder, "config", "view", "--raw", "--minify", "--flatten", "-o", "json")
    assert printed.returncode == 0, printed.stderr
    expected, ours = view_of(json.loads(printed.stdout)), summary_of(place.load(case, folder))
    if not expected["server"].startswith("https://"):  # nothing that is secret is used then
        expected |= {"token": None, "ca": None}
        expected["server"] = f"http://{expected['server'].removeprefix('http://')}"
    expected["server"] = expected["server"].rstrip("/")
    assert ours == expected


@pytest.mark.parametrize("case", ACCEPTED, ids=lambda case: case.name)
def test_the_server_sees_the_same_caller(place: Place, case: Case) -> None:
    folder = place.lay(case)
    asked = place.run(case, folder, "get", "--raw", "/probe")
    expected = place.taken()
    assert (asked.returncode, len(expected)) == (0, 1), asked.stderr
    place.ask(place.load(case, folder))
    assert place.taken() == expected


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_what_kubectl_refuses_is_refused(place: Place, case: Case) -> None:
    folder = place.lay(case)
    asked = place.run(case, folder, "get", "--raw", "/probe")
    assert (asked.returncode, place.taken()) == (1, []), asked.stdout
    with pytest.raises(KubeconfigError) as caught:
        place.load(case, folder)
    error = caught.value
    assert case.text in str(error)
    assert error.hint
    assert str(folder) in str(error), "the file is named"
    for secret in ("t0ken", "12345", "PRIVATE KEY", "s3cr3t"):
        assert secret not in f"{error} {error!r} {error.problems}"


@pytest.mark.parametrize("case", DIFFERENT, ids=lambda case: case.name)
def test_where_we_differ(place: Place, case: Case) -> None:
    """kubectl goes another way than ours; should that change, ours can follow."""
    folder = place.lay(case)
    asked = place.run(case, folder, "get", "--raw", "/probe")
    theirs = place.taken()
    if "overrides" in case.ours:
        place.ask(place.load(case, folder))
        assert theirs
        assert theirs != place.taken()
        assert case.text not in str(theirs)
        return
    assert "localhost:8080" in asked.stderr or "EOF" in asked.stderr
    with pytest.raises(KubeconfigError) as caught:
        place.load(case, folder)
    assert case.text in str(caught.value)
