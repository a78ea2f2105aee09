"""Where the cases of ``kubeconfigs`` are tried: by the real kubectl and by us, at a server that records who asks."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme
import yaml

from kubeletclient import kubeconfig
from kubeletclient._plainhttp import Route
from kubeletclient.endpoints import Target, parse_endpoint
from kubeletclient.kubeconfig import Access, Overrides
from kubeletclient.sync.plain import plain_client
from spdyproto.limits import Deadlines
from support.kubeconfigs import LOGIN, Case
from support.kubectl import find
from support.recorder import Recorder, Request

__all__ = ["Place", "laid_out"]


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

    def run(
        self, case: Case, folder: Path, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """kubectl on that case."""
        listed = os.pathsep.join(str(folder / name) if name else "" for name in case.use)
        chosen = ["--kubeconfig", listed] if case.explicit else []
        flags = [self.fill(flag, folder) for flag in case.flags]
        environment = {"HOME": str(self.folder), "PATH": os.environ["PATH"], **(environment or {})}
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


@contextlib.contextmanager
def laid_out(folder: Path) -> Iterator[Place]:
    """A place in ``folder``, with two servers."""
    authority = trustme.CA()
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
