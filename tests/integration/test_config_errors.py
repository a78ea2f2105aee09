"""Each way in which a configuration can be wrong, at the command line: one clear line, the next step, no traceback."""

from __future__ import annotations

import datetime
import os
import pty
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from fakekubelet import CertificateAuthority, FakeCluster
from fakekubelet.apiserver.rbac import Rule

RULES = (Rule(users=("jane",), verbs=("get",), resources=("pods",)),)


@pytest.fixture(scope="module")
def cluster() -> Iterator[FakeCluster]:
    with FakeCluster(rules=RULES) as running:
        yield running


class World:
    """A kubeconfig that works, to be spoilt; and the command line."""

    def __init__(self, cluster: FakeCluster, folder: Path) -> None:
        self.cluster = cluster
        self.folder = folder
        self.document: dict[str, Any] = yaml.safe_load(cluster.kubeconfig.read_text())
        self.k: dict[str, Any] = self.document["clusters"][0]["cluster"]
        self.u: dict[str, Any] = self.document["users"][0]["user"]

    def run(self, *options: str, **environment: str) -> tuple[int, str]:
        path = self.folder / "config"
        path.write_text(yaml.safe_dump(self.document))
        environ = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "KUBECONFIG": str(path), **environment}
        command = [sys.executable, "-m", "kubewire", "exec", *options, "demo", "--", "echo", "hello"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False, env=environ)
        assert done.stdout == ("hello\n" if done.returncode == 0 else "")
        return done.returncode, done.stderr

    def fails(self, text: str, hint: str, *options: str, code: int = 255, **environment: str) -> None:
        returned, said = self.run(*options, **environment)
        assert "Traceback" not in said
        assert (returned, text in said, hint in said) == (code, True, True), said
        if code == 255:
            assert said.count("\n") == 1, said
            assert said.startswith("kubewire: ")
        for secret in ("s3cr3t", "PRIVATE KEY", self.u.get("client-key-data", "s3cr3t")):
            assert secret not in said


@pytest.fixture
def world(cluster: FakeCluster, tmp_path: Path) -> World:
    return World(cluster, tmp_path)


def person(world: World, **user: Any) -> None:
    world.u.clear()
    world.u.update(user)


def plugin(world: World, script: str, **more: Any) -> None:
    path = world.folder / "login"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    version = "client.authentication.k8s.io/v1"
    person(world, exec={"apiVersion": version, "command": "./login", "interactiveMode": "Never"} | more)


def test_it_works_before_it_is_spoilt(world: World) -> None:
    assert world.run() == (0, "")


def test_no_kubeconfig(world: World) -> None:
    world.fails("there is no kubeconfig: looked for", "set KUBECONFIG", KUBECONFIG=str(world.folder / "none"))
    world.fails("does not exist", "check the path", f"--kubeconfig={world.folder / 'none'}")


def test_unknown_names(world: World) -> None:
    world.fails("the context 'x' does not exist", "the contexts there: ", "--context=x")
    world.fails("the cluster 'x' that was asked for does not exist", "the clusters there: ", "--cluster=x")
    world.fails("the user 'x' that was asked for does not exist", "the users there: ", "--user=x")


def test_a_file_that_is_none(world: World) -> None:
    (world.folder / "bad").write_text("users: [s3cr3t: {\n")
    world.fails("cannot be parsed as YAML", "correct the file", KUBECONFIG=str(world.folder / "bad"))
    world.k["server"] = 6443
    world.fails("server must be text, and is a number", "correct that field")


def test_a_file_that_it_names_is_missing(world: World) -> None:
    person(world, tokenFile="none")
    world.fails("as its tokenFile, which cannot be read: No such file", "check the path")


def test_a_plugin_that_is_missing(world: World) -> None:
    plugin(world, "", command="no-such-plugin", installHint="apt install it")
    world.fails("'no-such-plugin' of user 'kubewire' in", "apt install it")


def test_a_plugin_that_fails(world: World) -> None:
    plugin(world, "exit 4")
    world.fails("gave no credentials: it failed with exit code 4", "its own message, if it wrote one, is on stderr")
    plugin(world, "echo s3cr3t")
    world.fails("what it wrote to stdout is not JSON", "run it by hand")


def test_a_plugin_that_may_not_run(world: World) -> None:
    plugin(world, "echo ran >>ran")
    world.fails("may not run: none is", "allow it by its name", "--no-plugins")
    world.fails("may not run: allowed are other", "allow it by its name", "--allow-plugin=other")
    assert not (world.folder / "ran").exists()


def test_an_expired_certificate(world: World) -> None:
    begins, ends = (datetime.datetime(2020, 1, day, tzinfo=datetime.UTC) for day in (1, 2))
    old = trustme.CA().issue_cert("jane", not_before=begins, not_after=ends)
    (world.folder / "crt").write_bytes(old.cert_chain_pems[0].bytes())
    (world.folder / "key").write_bytes(old.private_key_pem.bytes())
    person(world, **{"client-certificate": "crt", "client-key": "key"})
    world.fails("HTTP 401", "the client certificate expired at 2020-01-02 00:00:00 UTC: get a new one")


def test_a_stranger(world: World) -> None:
    pair = CertificateAuthority.create().issue_client("stranger", [])
    (world.folder / "crt").write_bytes(pair.cert_pem)
    (world.folder / "key").write_bytes(pair.key_pem)
    person(world, **{"client-certificate": "crt", "client-key": "key"})
    world.fails("the apiserver answered HTTP 401", "check the credentials, or log in again")
    person(world, token="s3cr3t")
    world.fails("the apiserver answered HTTP 401", "check the credentials, or log in again")


def test_somebody_without_the_right(world: World) -> None:
    jane = world.cluster.write_kubeconfig(world.folder / "jane", "jane", [])
    world.fails("HTTP 403", "grant", "--via=apiserver", KUBECONFIG=str(jane))
    nobody = world.cluster.write_kubeconfig(world.folder / "nobody", "nobody", [])
    world.fails("HTTP 403", "ask for the right to read it", KUBECONFIG=str(nobody))


def test_no_such_host(world: World) -> None:
    world.k["server"] = "https://apiserver.invalid:6443"
    world.fails("the name 'apiserver.invalid' has no address", "check the spelling")


def test_nothing_listens(world: World) -> None:
    world.k["server"] = "https://127.0.0.1:1"
    world.fails("nothing listens on port 1", "check host and port")


def test_nobody_answers(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        world.k["server"] = f"https://127.0.0.1:{deaf.getsockname()[1]}"
        world.fails("did not finish the TLS handshake in time", "not overloaded", "--connect-timeout=0.3")
        world.fails("the timeout of 0.5 s passed", "", "--timeout=0.5")


def test_a_wrong_authority(world: World) -> None:
    trustme.CA().cert_pem.write_to_path(world.folder / "other.crt")
    world.k.pop("certificate-authority-data", None)
    world.k["certificate-authority"] = "other.crt"
    world.fails("is not signed by an authority trusted here", "ca=")


def test_another_name(world: World) -> None:
    world.k["tls-server-name"] = "somebody.else"
    world.fails("is not valid for 'somebody.else'", "that the certificate holds")


def test_a_proxy_that_is_not_there(world: World) -> None:
    world.k["proxy-url"] = "http://jane:s3cr3t@127.0.0.1:1"
    world.fails("the proxy http://127.0.0.1:1 cannot be reached: nothing listens", "check host and port")
    world.k["proxy-url"] = "ftp://jane:s3cr3t@127.0.0.1:1"
    world.fails("has an unusable proxy-url: its scheme is 'ftp'", "http://HOST:PORT")


def test_a_token_for_anybody(world: World) -> None:
    person(world, token="s3cr3t")
    world.k.pop("certificate-authority-data", None)
    world.k.pop("certificate-authority", None)
    world.k["insecure-skip-tls-verify"] = True
    world.fails("was not sent: the server's certificate is not verified", "allow_unverified_token")


def test_wrong_usage(world: World) -> None:
    world.fails("--proxy-url with a user name or password", "HTTPS_PROXY", "--proxy-url=http://u:p@h", code=2)
    world.fails("--as-user-extra wants KEY=VALUE", "'x'", "--as=a", "--as-user-extra=x", code=2)
    world.fails("--no-plugins contradicts", "--allow-plugin", "--no-plugins", "--allow-plugin=x", code=2)
    world.fails("asks for the uid, groups or extra", "--as", "--as-group=x")
    world.fails("--as is about a cluster", "", "--kubelet=https://127.0.0.1:1", "--as=bob", code=2)


def test_a_plugin_that_asks_at_the_terminal(world: World) -> None:
    """Its question goes to the terminal, and what is typed there to it; to the command goes what comes after."""
    answer = '{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","status":{"token":"%s"}}'
    plugin(
        world,
        f"case $KUBERNETES_EXEC_INFO in *'\"interactive\":true'*) ;; *) exit 9 ;; esac\n"
        f"printf 'password: ' >&2; read word; printf '{answer}' \"$word\"",
        interactiveMode="Always",
    )
    (world.folder / "config").write_text(yaml.safe_dump(world.document))
    environ = {"PATH": os.environ["PATH"], "HOME": str(world.folder), "KUBECONFIG": str(world.folder / "config")}
    command = [sys.executable, "-m", "kubewire", "exec", "demo", "--", "echo", "hello"]
    ours, theirs = pty.openpty()
    try:
        with subprocess.Popen(
            command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ
        ) as run:
            assert run.stderr is not None
            for _ in range(2):  # a token that was refused is asked for once more
                assert run.stderr.read(10) == b"password: "
                os.write(ours, b"wr0ng\n")
            output, said = run.communicate(timeout=50)
    finally:
        os.close(ours)
        os.close(theirs)
    assert (run.returncode, output) == (255, b"")
    assert b"HTTP 401" in said
    assert b"wr0ng" not in said
