"""``kubewire fake --apiserver``: a fake cluster as a process of its own."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import urllib.request
from pathlib import Path

import yaml
from click.testing import CliRunner

from kubewire.fake import fake


def test_it_serves_a_cluster_and_writes_its_kubeconfig(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kubewire", "fake", "--apiserver", "--nodes", "2", "--write-config", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            facts = json.loads(process.stdout.readline())
            config = yaml.safe_load(Path(facts["kubeconfig"]).read_text())
            assert Path(facts["kubeconfig"]).stat().st_mode & 0o777 == 0o600
            assert config["clusters"][0]["cluster"]["server"] == facts["apiserver"]
            assert list(facts["kubelets"]) == ["node-1", "node-2"]
            assert facts["kubelet"] == facts["kubelets"]["node-1"]
            context = ssl.create_default_context(cafile=facts["ca"])
            context.load_cert_chain(facts["client_certificate"], facts["client_key"])
            for path in ("/api/v1/namespaces/default/pods/demo", "/api/v1/nodes/node-2"):
                with urllib.request.urlopen(facts["apiserver"] + path, context=context, timeout=20) as answer:
                    assert json.load(answer)["metadata"]["name"] in ("demo", "node-2")
            process.terminate()
            output, errors = process.communicate(timeout=20)
            assert (process.returncode, output, errors) == (0, b"", b"")
        finally:
            process.kill()


def test_nodes_need_an_apiserver() -> None:
    done = CliRunner().invoke(fake, ["--nodes", "2"])
    assert done.exit_code == 2
    assert "give --apiserver too" in done.output
