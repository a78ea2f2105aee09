"""Prove that an installed kubewire works: run by the Python of an environment that has the wheel and nothing else.

    python -I tools/smoke.py

``-I`` keeps this source tree off the path. Imports every package, asks the console script for its version, and runs
one command through TLS, upgrade and SPDY against a fake kubelet in this process. Exit code 0 and one line, or a
traceback.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import subprocess
import sys
import sysconfig
from pathlib import Path

PACKAGES = ("spdyproto", "kubeletclient", "kubeletclient.aio", "fakekubelet", "kubewire")


def check_packages() -> None:
    """All packages import, from the environment and not from the source tree, and carry their types."""
    prefix = Path(sys.prefix).resolve()
    for name in PACKAGES:
        file = importlib.import_module(name).__file__
        if file is None or not Path(file).resolve().is_relative_to(prefix):
            raise AssertionError(f"{name} came from {file}, not from the environment under {prefix}")
        if "." not in name and not Path(file).with_name("py.typed").exists():
            raise AssertionError(f"{name} was installed without its py.typed")


def check_console_script() -> str:
    """The script that pip installed runs, and agrees with the metadata about the version."""
    script = Path(sysconfig.get_path("scripts")) / "kubewire"
    done = subprocess.run([script, "--version"], capture_output=True, text=True, timeout=60, check=True)
    version = importlib.metadata.version("kubewire")
    if version not in done.stdout.split():
        raise AssertionError(f"kubewire --version printed {done.stdout!r}, the metadata say {version}")
    return version


def check_round_trip() -> None:
    """Bytes in, bytes out, an exit code: the client against the fake kubelet."""
    from fakekubelet import FakeKubelet
    from kubeletclient import ClientCertificate, Kubelet

    payload = bytes(range(256)) * 1024
    with FakeKubelet() as kubelet:
        identity = kubelet.credentials("smoke", ["system:masters"])
        credentials = ClientCertificate(identity.cert_pem, identity.key_pem)
        with Kubelet(kubelet.url, ca=kubelet.ca, credentials=credentials) as node:
            pod = node.pod("demo")
            done = pod.run(["cat"], input=payload, timeout=30)
            if (done.returncode, done.stdout) != (0, payload):
                got = len(done.stdout or b"")
                raise AssertionError(f"cat gave back {got} of {len(payload)} bytes, exit code {done.returncode}")
            done = pod.run(["exit", "7"], timeout=30)
            if done.returncode != 7:
                raise AssertionError(f"exit 7 came back as {done.returncode}")


def main() -> None:
    """Run all checks."""
    check_packages()
    version = check_console_script()
    check_round_trip()
    print(f"kubewire {version}: installs, imports, and runs a command through a fake kubelet")


if __name__ == "__main__":
    main()
