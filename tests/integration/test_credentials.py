"""Credentials that live: changed on disk or answered anew by a plugin, while the client and its sessions go on."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from fakekubelet import CertificateAuthority, FakeKubelet, User
from kubeletclient import BearerToken, ClientCertificate, DeadlineExceeded, ExecPluginError, Unauthorized
from kubeletclient.plugins import ExecPlugin, PluginPolicy, PluginSettings
from support.flavours import Flavour, flavour_fixture
from support.recorder import Recorder

flavour = flavour_fixture()

PLUGIN = """#!/bin/sh
# Counts its runs, and answers what lies beside it.
echo run >>"$0.runs"
cat "$0.answer"
"""


@pytest.fixture
def kubelet() -> Iterator[FakeKubelet]:
    with FakeKubelet(tokens={"first": User("first"), "second": User("second")}) as kubelet:
        yield kubelet


def replace(path: Path, content: bytes | str) -> None:
    """As Kubernetes writes what it rotates: a new file in the old one's place."""
    fresh = path.with_suffix(".fresh")
    fresh.write_bytes(content if isinstance(content, bytes) else content.encode())
    os.replace(fresh, path)


class Plugin:
    """A plugin in a folder, its answer, and how often it ran."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "plugin"
        self.path.write_text(PLUGIN)
        self.path.chmod(0o755)
        self.settings = PluginSettings(str(self.path), interactive="Never", user="user 'u'")

    @property
    def runs(self) -> int:
        runs = self.path.with_name("plugin.runs")
        return len(runs.read_text().splitlines()) if runs.exists() else 0

    def answer(self, **status: str) -> None:
        document = {"kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1", "status": status}
        replace(self.path.with_name("plugin.answer"), json.dumps(document))


@pytest.fixture
def plugin(tmp_path: Path) -> Plugin:
    return Plugin(tmp_path)


def rotated(monkeypatch: pytest.MonkeyPatch) -> None:
    """No second passes between two looks at the files."""
    monkeypatch.setattr("kubeletclient._trust._RECHECK", 0.0)


def test_a_client_certificate_is_read_again_and_open_sessions_go_on(
    flavour: Flavour, kubelet: FakeKubelet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rotated(monkeypatch)
    ca, crt, key = (tmp_path / name for name in ("ca.crt", "crt", "key"))
    ca.write_bytes(kubelet.ca)
    stranger = CertificateAuthority.create().issue_client("stranger", [])
    good = kubelet.credentials("jane")
    crt.write_bytes(good.cert_pem)
    key.write_bytes(good.key_pem)
    node = flavour.node(kubelet.url, ca=ca, credentials=ClientCertificate(crt, key))
    with node.popen("cat", stdin=-1) as open_session:
        open_session.write(b"before")
        assert open_session.read(6) == b"before"
        replace(crt, stranger.cert_pem)
        replace(key, stranger.key_pem)
        with pytest.raises(Unauthorized):
            node.run("true", timeout=30)
        for container in ("main", None):
            replace(crt, stranger.cert_pem)
            replace(key, stranger.key_pem)
            with pytest.raises(Unauthorized):
                node.run("true", container=container, timeout=30)
            replace(crt, good.cert_pem)
            replace(key, good.key_pem)
            assert node.run("true", container=container, timeout=30).returncode == 0
        open_session.write(b"behind")
        assert open_session.read(6) == b"behind"
        open_session.end_stdin()
        assert open_session.wait(30) == 0


def test_the_authority_is_read_again(
    flavour: Flavour, kubelet: FakeKubelet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kubeletclient import UnknownAuthorityError

    rotated(monkeypatch)
    ca = tmp_path / "ca.crt"
    ca.write_bytes(trustme.CA().cert_pem.bytes())
    pair = kubelet.credentials()
    node = flavour.node(kubelet.url, ca=ca, credentials=ClientCertificate(pair.cert_pem, pair.key_pem))
    with pytest.raises(UnknownAuthorityError):
        node.run("true", timeout=30)
    replace(ca, kubelet.ca)
    assert node.run("true", timeout=30).returncode == 0


@pytest.mark.parametrize("container", ["main", None], ids=["stream", "plain request first"])
def test_a_token_file_that_changed_is_read_when_the_old_token_is_refused(
    flavour: Flavour, kubelet: FakeKubelet, tmp_path: Path, container: str | None
) -> None:
    token = tmp_path / "token"
    token.write_text("first")
    node = flavour.node(kubelet.url, ca=kubelet.ca, credentials=BearerToken(file=token))
    assert node.run("true", timeout=30).returncode == 0
    token.write_text("none")
    node = flavour.node(kubelet.url, ca=kubelet.ca, credentials=(credentials := BearerToken(file=token)))
    assert credentials.header() == "Bearer none"
    token.write_text("second")
    assert node.run("true", container=container, timeout=30).returncode == 0
    token.write_text("none-again")
    with pytest.raises(Unauthorized):
        flavour.node(kubelet.url, ca=kubelet.ca, credentials=BearerToken(file=token)).run("true", timeout=30)


def test_a_plugin_runs_once_for_all_connections(flavour: Flavour, kubelet: FakeKubelet, plugin: Plugin) -> None:
    plugin.answer(token="first")
    node = flavour.node(kubelet.url, ca=kubelet.ca, credentials=ExecPlugin(plugin.settings))
    other = flavour.node(kubelet.url, ca=kubelet.ca, credentials=ExecPlugin(plugin.settings))
    answers = flavour.together([each.call("echo", "x", timeout=30) for each in (node, other) * 4])
    assert [answer.stdout for answer in answers] == [b"x\n"] * 8
    assert plugin.runs == 1


def test_a_plugin_runs_again_when_its_answer_has_expired(
    flavour: Flavour, kubelet: FakeKubelet, plugin: Plugin
) -> None:
    node = flavour.node(kubelet.url, ca=kubelet.ca, credentials=ExecPlugin(plugin.settings))
    plugin.answer(token="first", expirationTimestamp="2020-01-01T00:00:00Z")
    node.run("true", timeout=30)
    ran = plugin.runs
    plugin.answer(token="second", expirationTimestamp="2999-01-01T00:00:00+01:00")
    for _ in range(3):
        node.run("true", timeout=30)
    assert plugin.runs == ran + 1


@pytest.mark.parametrize("container", ["main", None], ids=["stream", "plain request first"])
def test_a_plugin_runs_again_when_its_token_is_refused(
    flavour: Flavour, kubelet: FakeKubelet, plugin: Plugin, container: str | None
) -> None:
    plugin.answer(token="first")
    node = flavour.node(kubelet.url, ca=kubelet.ca, credentials=(credentials := ExecPlugin(plugin.settings)))
    plugin.answer(token="revoked")
    assert credentials.header() == "Bearer revoked"
    plugin.answer(token="second")
    assert node.run("true", container=container, timeout=30).returncode == 0
    assert plugin.runs == 2
    plugin.answer(token="revoked")
    assert credentials.rejected(time.monotonic())
    with pytest.raises(Unauthorized):
        node.run("true", container=container, timeout=30)
    assert plugin.runs == 4, "asked once more, and not for ever"


def test_a_plugin_answers_another_certificate_and_open_sessions_go_on(
    flavour: Flavour, kubelet: FakeKubelet, plugin: Plugin
) -> None:
    def pair(name: str) -> dict[str, str]:
        made = kubelet.credentials(name)
        return {"clientCertificateData": made.cert_pem.decode(), "clientKeyData": made.key_pem.decode()}

    plugin.answer(**pair("jane"), expirationTimestamp="2999-01-01T00:00:00Z")
    credentials = ExecPlugin(plugin.settings)
    node = flavour.node(kubelet.url, ca=kubelet.ca, credentials=credentials)
    with node.popen("cat", stdin=-1) as open_session:
        plugin.answer(**pair("john"))
        credentials.rejected(time.monotonic())
        assert node.run("true", timeout=30).returncode == 0
        open_session.write(b"on")
        assert open_session.read(2) == b"on"
    assert plugin.runs == 2


def test_a_plugin_that_hangs_is_killed_at_the_callers_deadline(
    flavour: Flavour, kubelet: FakeKubelet, tmp_path: Path
) -> None:
    slow = tmp_path / "slow"
    slow.write_text('#!/bin/sh\necho $$ >"$0.pid"\nexec sleep 3600\n')
    slow.chmod(0o755)
    settings = PluginSettings(str(slow), interactive="Never")
    node = flavour.node(kubelet.url, ca=kubelet.ca, credentials=ExecPlugin(settings))
    with pytest.raises((DeadlineExceeded, ExecPluginError)):
        node.run("true", timeout=1.0)
    pid, ends = int((tmp_path / "slow.pid").read_text()), time.monotonic() + 30
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < ends, "it goes on"
        time.sleep(0.01)


def test_an_event_loop_turns_while_a_plugin_runs(kubelet: FakeKubelet, tmp_path: Path) -> None:
    import asyncio

    from kubeletclient.aio import Kubelet

    fifo = tmp_path / "go"
    os.mkfifo(fifo)
    waiting = tmp_path / "waiting"
    waiting.write_text(f"#!/bin/sh\ncat '{fifo}'\n")
    waiting.chmod(0o755)
    answer = {"kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1", "status": {"token": "first"}}

    async def main() -> None:
        credentials = ExecPlugin(PluginSettings(str(waiting), interactive="Never"))
        async with Kubelet(kubelet.url, ca=kubelet.ca, credentials=credentials) as node:
            task = asyncio.ensure_future(node.pod("demo").run(["true"], container="main", timeout=50))
            for _ in range(20):
                await asyncio.sleep(0.01)  # the loop turns
            assert not task.done()
            with fifo.open("w") as stream:  # only now can the plugin answer
                json.dump(answer, stream)
            assert (await task).returncode == 0

    asyncio.run(main())


@pytest.mark.parametrize(
    ("allow", "allowed"),
    [(None, True), ((), False), (("plugin",), False), (("@",), True), (("/usr/bin/plugin",), False)],
)
def test_which_plugins_may_run(
    flavour: Flavour, kubelet: FakeKubelet, plugin: Plugin, allow: tuple[str, ...] | None, allowed: bool
) -> None:
    plugin.answer(token="first")
    if allow == ("@",):
        allow = (str(plugin.path),)
    credentials = ExecPlugin(plugin.settings, PluginPolicy(allow))
    node = flavour.node(kubelet.url, ca=kubelet.ca, credentials=credentials)
    if allowed:
        assert node.run("true", timeout=30).returncode == 0
        return
    with pytest.raises(ExecPluginError, match="may not run"):
        node.run("true", timeout=30)
    assert plugin.runs == 0


def test_nothing_secret_is_shown_or_written(
    flavour: Flavour, kubelet: FakeKubelet, plugin: Plugin, tmp_path: Path
) -> None:
    plugin.answer(token="first")
    node = flavour.node(kubelet.url, ca=kubelet.ca, credentials=(credentials := ExecPlugin(plugin.settings)))
    node.run("true", timeout=30)
    shown = repr(credentials) + repr(credentials._shared.answer) + repr(node.kubelet)
    assert "first" not in shown
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {"plugin", "plugin.answer", "plugin.runs"}


def test_an_expired_certificate_is_named_when_the_server_refuses_it(flavour: Flavour, tmp_path: Path) -> None:
    """The server only says 401; what is wrong can be seen from here."""
    import datetime

    authority = trustme.CA()
    begins, ends = (datetime.datetime(2020, 1, day, tzinfo=datetime.UTC) for day in (1, 2))
    old = authority.issue_cert("jane", not_before=begins, not_after=ends)
    with FakeKubelet() as kubelet:
        credentials = ClientCertificate(old.cert_chain_pems[0].bytes(), old.private_key_pem.bytes())
        for container in ("main", None):
            with pytest.raises(Exception, match="expired at 2020-01-02 00:00:00 UTC: get a new one") as caught:
                flavour.node(kubelet.url, ca=kubelet.ca, credentials=credentials).run(
                    "true", container=container, timeout=30
                )
            assert isinstance(caught.value, PermissionError)


def test_user_name_and_password(flavour: Flavour, tmp_path: Path) -> None:
    from kubeletclient import BasicAuth, ClientError

    authority = trustme.CA()
    with Recorder(authority) as server:
        options: dict[str, Any] = {"ca": authority.cert_pem.bytes(), "credentials": BasicAuth("jane", "pä:ss")}
        with pytest.raises(ClientError) as caught:
            flavour.node(server.url, **options).run("true", container=None, timeout=30)
        (request,) = server.taken()
        assert request.identity == (("authorization", "Basic amFuZTpww6Q6c3M="),)
        assert "pä" not in f"{caught.value!r}{options['credentials']!r}"
