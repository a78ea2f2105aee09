"""Credential plugins are run by us as kubectl runs them, and called again when kubectl calls them again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kubeletclient import ExecPluginError, ExecPluginNotFound
from support.kubeconfigs import Case, one, plugin
from support.kubeplace import Place, laid_out
from support.proxies import http_proxy

pytestmark = pytest.mark.interop

WITNESS = r"""#!/usr/bin/env python3
# Writes down how it was run, and answers a token.
import json, os, stat, sys
seen = {
    "info": json.loads(os.environ["KUBERNETES_EXEC_INFO"]),
    "args": sys.argv,
    "environment": {name: os.environ.get(name) for name in ("FROM_OUTSIDE", "FROM_CONFIG", "BOTH")},
    "stdin": "null" if os.fstat(0).st_rdev == os.stat("/dev/null").st_rdev else "other",
    "folder": os.getcwd(),
}
with open(os.path.join(os.path.dirname(__file__), "seen"), "a") as file:
    file.write(json.dumps(seen) + "\n")
print(json.dumps({"kind": "ExecCredential", "apiVersion": seen["info"]["apiVersion"], "status": {"token": "t"}}))
"""

OUTSIDE = {"FROM_OUTSIDE": "o", "BOTH": "outside"}
VARIABLES = [{"name": "FROM_CONFIG", "value": "c"}, {"name": "BOTH", "value": "config"}]
EXTENSION = {
    "name": "client.authentication.k8s.io/exec",
    "extension": {"audience": "x", "n": 3, "list": [1.5, None, True]},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with laid_out(tmp_path_factory.mktemp("plugins")) as place:
        yield place


def witness(name: str, cluster: dict[str, Any] | None = None, **fields: Any) -> Case:
    case = one(name, cluster, plugin(command="./witness", **fields))
    case.files["witness"] = WITNESS
    return case


CASES = [
    witness("bare"),
    witness("arguments and variables", args=["a", "b c", ""], env=VARIABLES),
    witness("v1beta1", apiVersion="client.authentication.k8s.io/v1beta1", interactiveMode=None),
    witness("if available, where there is no terminal", interactiveMode="IfAvailable"),
    witness("with the cluster, whose CA is a file", provideClusterInfo=True),
    witness(
        "with all of the cluster",
        {
            "certificate-authority": "",
            "certificate-authority-data": "@CA@",
            "tls-server-name": "other.test",
            "disable-compression": True,
            "extensions": [EXTENSION, {"name": "other", "extension": {"a": 1}}],
        },
        provideClusterInfo=True,
    ),
    witness(
        "without verification",
        {"certificate-authority": "", "insecure-skip-tls-verify": True},
        provideClusterInfo=True,
        apiVersion="client.authentication.k8s.io/v1beta1",
    ),
    witness("with a path", {"server": "@SERVER@/k8s/"}, provideClusterInfo=True),
]


def seen(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "seen").read_text().splitlines()
    (folder / "seen").unlink()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_plugin_is_run_as_kubectl_runs_it(place: Place, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = place.lay(case)
    (folder / "witness").chmod(0o755)
    asked = place.run(case, folder, "get", "--raw", "/probe", environment=OUTSIDE)
    (expected,) = seen(folder)
    for name, value in OUTSIDE.items():
        monkeypatch.setenv(name, value)
    with open(os.devnull) as nothing:
        stdin = os.dup(0)
        os.dup2(nothing.fileno(), 0)
        try:
            place.load(case, folder).trust(allow_unverified_token=True).context(30)
        finally:
            os.dup2(stdin, 0)
            os.close(stdin)
    (ours,) = seen(folder)
    place.taken()
    if case.name == "with a path":  # a slash at the end of the server is one that nobody needs
        expected["info"]["spec"]["cluster"]["server"] = expected["info"]["spec"]["cluster"]["server"].rstrip("/")
    assert ours == expected, asked.stderr


def test_the_proxy_is_told_to_the_plugin(place: Place, tmp_path: Path) -> None:
    with http_proxy(tmp_path, authenticated=False) as proxy:
        case = witness("proxy", {"proxy-url": proxy.url}, provideClusterInfo=True)
        folder = place.lay(case)
        (folder / "witness").chmod(0o755)
        assert place.run(case, folder, "get", "--raw", "/probe").returncode == 0
        (expected,) = seen(folder)
        access = place.load(case, folder)
        place.ask(access)
        (ours,) = seen(folder)
    assert ours["info"] == expected["info"]
    assert expected["info"]["spec"]["cluster"]["proxy-url"] == proxy.url
    theirs, us = place.taken()
    assert theirs == us


def saying(status: dict[str, Any] | None, version: str = "v1") -> dict[str, Any]:
    """A plugin that answers so."""
    answer = {"kind": "ExecCredential", "apiVersion": f"client.authentication.k8s.io/{version}"}
    return plugin(command="echo", args=[json.dumps(answer if status is None else {**answer, "status": status})])


REFUSED = [
    (plugin(command="none-such", installHint="get\n\x1b[31mit"), ExecPluginNotFound, "such program; get \\x1b[31mit"),
    (plugin(command="./none"), ExecPluginNotFound, "is not installed"),
    (plugin(args=["fail"]), ExecPluginError, "it failed with exit code 3"),
    (plugin(interactiveMode="Always", args=["token"]), ExecPluginError, "it needs a terminal"),
    (plugin(command="true"), ExecPluginError, "what it wrote to stdout is not JSON"),
    (plugin(command="echo", args=["{}"]), ExecPluginError, "did not answer an ExecCredential"),
    (saying({"token": "t"}, "v1beta1"), ExecPluginError, "is configured for client.authentication.k8s.io/v1, and"),
    (saying(None), ExecPluginError, "has no status"),
    (saying({}), ExecPluginError, "neither a token nor a certificate"),
    (saying({"clientKeyData": "k"}), ExecPluginError, "a certificate or a key, and not both"),
    (saying({"token": 1}), ExecPluginError, "status.token is not text"),
    (saying({"token": "t", "expirationTimestamp": "tomorrow"}), ExecPluginError, "not a time of RFC 3339"),
    (saying({"clientKeyData": "k", "clientCertificateData": "c"}), ExecPluginError, "its certificate cannot be used"),
]


@pytest.mark.parametrize(("user", "kind", "text"), REFUSED, ids=lambda value: value if isinstance(value, str) else "")
def test_what_kubectl_refuses_of_a_plugin(place: Place, user: dict[str, Any], kind: type[Exception], text: str) -> None:
    case = one("refused", None, user)
    folder = place.lay(case)
    asked = place.run(case, folder, "get", "--raw", "/probe")
    assert (asked.returncode, place.taken()) == (1, []), asked.stdout
    access = place.load(case, folder)
    with pytest.raises(kind) as caught:
        place.ask(access)
    assert text in str(caught.value)
    assert "user 'u'" in str(caught.value)
    assert place.taken() == []
