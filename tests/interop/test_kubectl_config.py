"""kubeconfig files as kubectl reads them: the same entries, the same identity on the wire, the same refusals.

Every configuration of the table is given to the real kubectl, once to print it (``config view --raw --minify
--flatten``) and once to use it (``get --raw``, at a server that records who asks), and to ours.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kubeletclient import KubeconfigError
from kubeletclient.credentials import BasicAuth, BearerToken, ClientCertificate, CombinedCredentials, Credentials
from kubeletclient.kubeconfig import Access
from kubeletclient.plugins import ExecPlugin
from support.kubeconfigs import ACCEPTED, DIFFERENT, REFUSED, Case
from support.kubeplace import Place, laid_out

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with laid_out(tmp_path_factory.mktemp("kubeconfig")) as place:
        yield place


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
    if case.text == "nobody":
        place.ask(place.load(case, folder))
        (request,) = place.taken()
        assert (request.identity, request.certificate) == ((), None)
        return
    with pytest.raises(KubeconfigError) as caught:
        place.load(case, folder)
    assert case.text in str(caught.value)
