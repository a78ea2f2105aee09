"""The fixture of real containers: what it promises to the tests that use it."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kubeletclient import Kubelet, StreamSet, connect_exec
from support.containerd import Containerd, require_containerd
from support.gopeers import SOURCES
from support.pki import Pki

pytestmark = pytest.mark.interop


def test_one_time_url_of_the_streaming_server(containerd: Containerd) -> None:
    with connect_exec(containerd.demo.exec_url(["sh", "-c", "echo out; echo err >&2; exit 3"])) as process:
        assert process.communicate() == (b"out\n", b"err\n")
        assert process.wait() == 3


def test_attach_to_the_main_process_and_its_exit_code(containerd: Containerd) -> None:
    with containerd.pod() as pod:
        main = pod.container(["sh", "-c", "read line; echo got $line; exit 4"], stdin=True, stdin_once=True)
        streams = StreamSet(stdin=True, stdout=True, stderr=True)
        with connect_exec(main.attach_url(stdin=True), streams=streams) as process:
            assert process.communicate(b"it\n")[0] == b"got it\n"
        assert main.wait() == 4
        assert main.log.read_text().endswith(" stdout F got it\n")


def test_a_container_has_the_tools_that_it_was_given(containerd: Containerd) -> None:
    bare = containerd.image(
        "fixture-bare", tools=["cat"], programs=["/usr/bin/tar"], files={"/data/greeting": b"hello"}
    )
    with containerd.pod() as pod:
        main = pod.container(image=bare)
        node = Kubelet(containerd.url, **containerd.options()).pod(pod.name)
        assert node.run(["cat", "/data/greeting"], container="main").stdout == b"hello"
        assert "GNU tar" in (node.run(["tar", "--version"], text=True).stdout or "")
        with pytest.raises(Exception, match="executable file not found"):
            node.run(["ls"], container=main.name)


def test_mounts_environment_and_working_directory(containerd: Containerd, tmp_path: Path) -> None:
    with containerd.pod() as pod:
        pod.container(mounts={"/shared": tmp_path}, env={"NAME": "value"}, working_dir="/shared")
        node = Kubelet(containerd.url, **containerd.options()).pod(pod.name)
        done = node.run(["sh", "-c", "pwd; echo $NAME >written"], container="main", check=True)
        assert done.stdout == b"/shared\n"
        assert (tmp_path / "written").read_text() == "value\n"


def test_port_forward_url(containerd: Containerd) -> None:
    with containerd.pod() as pod:
        assert "/portforward/" in pod.forward_url([80])


# What a test run that is killed leaves to its children.
_KILLED = """
import sys, time
from pathlib import Path
from support.containerd import Containerd
with Containerd() as containerd:
    containerd.demo
    print(containerd.folder, containerd.pid, flush=True)
    time.sleep(600)
"""


def test_nothing_is_left_behind_by_a_test_run_that_is_killed(pki: Pki) -> None:
    require_containerd()
    with subprocess.Popen(
        [sys.executable, "-c", _KILLED], stdout=subprocess.PIPE, text=True, cwd=SOURCES.parents[1]
    ) as run:
        assert run.stdout is not None
        folder, pid = run.stdout.readline().split()
        ended = os.pidfd_open(int(pid))
        run.send_signal(signal.SIGKILL)
    readable, _, _ = select.select([ended], [], [], 50)
    os.close(ended)
    assert readable, "what the test run had started is still there"
    assert not Path(folder).exists()
    assert folder not in Path("/proc/self/mountinfo").read_text()
    assert [p for p in Path("/proc").glob("[0-9]*/cmdline") if folder.encode() in _words(p)] == []


def _words(command_line: Path) -> bytes:
    try:
        return command_line.read_bytes()
    except OSError:
        return b""  # it has ended
