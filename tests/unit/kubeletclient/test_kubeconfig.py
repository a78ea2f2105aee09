"""What kubectl cannot judge of kubeconfig: a pod's service account, files in any combination, and what is shown."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kubeletclient import BearerToken, ClientError, KubeconfigError, kubeconfig
from kubeletclient._kubefiles import default_paths, read_kubefiles
from kubeletclient.kubeconfig import Overrides, in_cluster, load

POD = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}
CA = trustme.CA().cert_pem.bytes()


@pytest.fixture
def account(tmp_path: Path) -> str:
    (tmp_path / "token").write_text("s3cr3t\n")
    (tmp_path / "ca.crt").write_bytes(CA)
    (tmp_path / "namespace").write_text("apps\n")
    return str(tmp_path)


def test_inside_a_pod(account: str) -> None:
    access = in_cluster(environ=POD, folder=account)
    assert (access.server, access.namespace, access.ca) == ("https://10.96.0.1:443", "apps", f"{account}/ca.crt")
    assert isinstance(access.credentials, BearerToken)
    assert access.credentials.header() == "Bearer s3cr3t"
    assert access.notes == ()
    assert "s3cr3t" not in repr(access)


def test_inside_a_pod_the_token_is_read_again(account: str) -> None:
    credentials = in_cluster(environ=POD, folder=account).credentials
    assert credentials is not None
    Path(account, "token").write_text("next")
    assert not credentials.fresh(float("inf"))


def test_inside_a_pod_with_ipv6_and_a_namespace_of_its_own(account: str) -> None:
    environ = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443", "POD_NAMESPACE": "mine"}
    access = in_cluster(environ=environ, folder=account)
    assert (access.server, access.namespace) == ("https://[fd00::1]:6443", "mine")


def test_inside_a_pod_without_namespace(account: str) -> None:
    Path(account, "namespace").unlink()
    assert in_cluster(environ=POD, folder=account).namespace == "default"


def test_inside_a_pod_options_hold_too(account: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above all impersonation: without it the call would be made by somebody who may more."""
    monkeypatch.setattr(kubeconfig, "in_pod", lambda environ: True)
    monkeypatch.setattr(kubeconfig, "in_cluster", lambda environ: in_cluster(environ=environ, folder=account))
    environ = {**POD, "HOME": str(tmp_path)}
    access = load(environ=environ)
    assert (access.namespace, access.impersonate, access.origin) == ("apps", None, "the pod's service account")
    assert load(environ=environ, namespace="other").namespace == "other"
    access = load(environ=environ, overrides=Overrides(as_user="bob", tls_server_name="api"))
    assert access.impersonate is not None
    assert (access.impersonate.user, access.server_name) == ("bob", "api")
    assert (access.server, access.namespace, access.ca) == ("https://10.96.0.1:443", "apps", f"{account}/ca.crt")
    assert access.credentials is not None
    assert access.credentials.header() == "Bearer s3cr3t"
    with pytest.raises(KubeconfigError, match="the user asks for the uid, groups or extra of somebody"):
        load(environ=environ, overrides=Overrides(as_groups=("x",)))


@pytest.mark.parametrize("content", [None, b"no certificate"])
def test_inside_a_pod_without_authority(account: str, content: bytes | None) -> None:
    Path(account, "ca.crt").unlink() if content is None else Path(account, "ca.crt").write_bytes(content)
    access = in_cluster(environ=POD, folder=account)
    assert access.ca is None
    assert "the system's authorities are trusted" in access.notes[0]


@pytest.mark.parametrize(
    ("environ", "token", "text"),
    [
        ({}, "t", "this is not a pod"),
        ({"KUBERNETES_SERVICE_HOST": "10.96.0.1"}, "t", "this is not a pod"),
        ({**POD, "KUBERNETES_SERVICE_PORT": "tcp://1"}, "t", "make no URL"),
        (POD, None, "token cannot be used: the token file"),
        (POD, "", "token cannot be used: the bearer token is empty"),
    ],
)
def test_no_pod(account: str, environ: Mapping[str, str], token: str | None, text: str) -> None:
    Path(account, "token").unlink() if token is None else Path(account, "token").write_text(token)
    with pytest.raises(KubeconfigError) as caught:
        in_cluster(environ=environ, folder=account)
    assert text in str(caught.value)
    assert caught.value.hint


def test_where_files_are_looked_for() -> None:
    assert default_paths({"HOME": "/home/jane"}) == ("/home/jane/.kube/config",)
    assert default_paths({"HOME": "/h", "KUBECONFIG": ""}) == ("/h/.kube/config",)
    assert default_paths({"KUBECONFIG": os.pathsep.join(["b", "", "a", "b"])}) == ("b", "a")


def write(path: Path, document: Any) -> Path:
    path.write_text(yaml.safe_dump(document))
    return path


def test_without_any_kubeconfig(tmp_path: Path) -> None:
    with pytest.raises(
        KubeconfigError, match=r"there is no kubeconfig: looked for .*/\.kube/config, and this is not"
    ) as e:
        load(environ={"HOME": str(tmp_path)})
    assert "--kubeconfig" in e.value.hint


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError, match="cannot be read: Is a directory") as caught:
        load(tmp_path)
    assert caught.value.file == str(tmp_path)


def test_a_file_beyond_all_measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kubeletclient._kubefiles.FILE_LIMIT", 10)
    with pytest.raises(KubeconfigError, match="larger than 10 bytes"):
        load(write(tmp_path / "c", {"kind": "Config"}))


def test_no_current_context_names_those_that_there_are(tmp_path: Path) -> None:
    path = write(tmp_path / "c", {"contexts": [{"name": n, "context": {"cluster": "k"}} for n in "ba"]})
    with pytest.raises(KubeconfigError, match="no current-context is set in") as caught:
        load(path)
    assert "the contexts there: a, b" in str(caught.value)


def test_options_alone_make_an_access(tmp_path: Path) -> None:
    access = load(environ={"HOME": str(tmp_path)}, overrides=Overrides(server="https://10.0.0.1:6443", token="t0p"))
    assert (access.server, access.origin, access.context) == ("https://10.0.0.1:6443", "options", "")
    assert "t0p" not in repr(access) + repr(Overrides(token="t0p", password="t0p", proxy_url="http://u:t0p@p"))


def test_all_that_is_wrong_is_told(tmp_path: Path) -> None:
    document = {
        "current-context": "c",
        "clusters": [{"name": "k", "cluster": {"server": "ftp://x", "proxy-url": "ftp://u:s3cr3t@p"}}],
        "users": [{"name": "u", "user": {"token": "a b", "client-certificate": "x"}}],
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
    }
    with pytest.raises(KubeconfigError) as caught:
        load(write(tmp_path / "c", document))
    assert len(caught.value.problems) == 5
    assert (caught.value.file, caught.value.entry) == (str(tmp_path / "c"), "cluster 'k'")
    assert "4 more: " in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


def test_a_line_that_cannot_be_parsed_is_not_repeated(tmp_path: Path) -> None:
    (tmp_path / "c").write_text("users:\n- name: u\n  user: {token: s3cr3t: x}\n")
    with pytest.raises(KubeconfigError, match=r"in line 3, column \d+") as caught:
        load(tmp_path / "c")
    assert "s3cr3t" not in str(caught.value)
    assert caught.value.__suppress_context__, "nor by the error beneath"


NAMES = st.sampled_from(["a", "b", "c"])
ENTRIES = st.dictionaries(NAMES, st.text("abc", min_size=1, max_size=3), max_size=3)


@given(files=st.lists(st.tuples(ENTRIES, st.sampled_from(["", "a", "b"])), min_size=1, max_size=4))
def test_the_first_file_that_has_a_name_has_it_whole(
    tmp_path_factory: pytest.TempPathFactory, files: list[tuple[dict[str, str], str]]
) -> None:
    folder = tmp_path_factory.getbasetemp() / "merge"
    folder.mkdir(exist_ok=True)
    paths = []
    for number, (entries, current) in enumerate(files):
        users = [
            {"name": name, "user": {"token": token} if number % 2 else {"username": token}}
            for name, token in entries.items()
        ]
        paths.append(str(write(folder / str(number), {"users": users, "current-context": current})))
    merged = read_kubefiles([*paths[:1], str(folder / "none"), *paths[1:]], must_exist=False)
    assert merged.missing == (str(folder / "none"),)
    assert merged.current_context == next((current for _, current in files if current), "")
    assert set(merged.users) == {name for entries, _ in files for name in entries}
    for name, entry in merged.users.items():
        first = next(number for number, (entries, _) in enumerate(files) if name in entries)
        assert entry.file == paths[first]
        assert entry.fields == {"token" if first % 2 else "username": files[first][0][name]}


FIELDS = st.sampled_from(
    "apiVersion kind clusters users contexts current-context name cluster user context server token exec env args"
    " extensions certificate-authority-data as-groups as-user-extra proxy-url".split()
)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS | st.text(max_size=4), inner, max_size=4),
    max_leaves=25,
)


@given(document=st.dictionaries(FIELDS, JSON, max_size=6))
def test_no_document_ends_in_anything_but_our_error(
    tmp_path_factory: pytest.TempPathFactory, document: dict[str, Any]
) -> None:
    with contextlib.suppress(KubeconfigError):
        load(write(tmp_path_factory.getbasetemp() / "any", document), overrides=Overrides(server="https://x"))


@given(content=st.binary(max_size=200) | st.text("{}[]:,-&*! \n\t'\"|>%@`#ab1~<?", max_size=60).map(str.encode))
def test_no_bytes_end_in_anything_but_our_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes"
    path.write_bytes(content)
    with contextlib.suppress(KubeconfigError):
        load(path, overrides=Overrides(server="https://x"))


def test_errors_are_what_callers_catch() -> None:
    assert issubclass(KubeconfigError, ClientError)
    assert issubclass(KubeconfigError, ValueError)
    assert kubeconfig.Access.__module__
