"""The fake apiserver as a proxy, beside Go's ``UpgradeAwareHandler``, between the same client and the same kubelet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

from benchmarks.goals import Goal, paired_remark
from benchmarks.harness import Bench, GoMissing, Outcome, Table, go_programs
from benchmarks.peers.processes import Peer, python
from benchmarks.samples import Sample, Series, peer_cpu_per_gib, rate, spread
from benchmarks.scenarios.tables import text

GO, FAKE = "Go's UpgradeAwareHandler", "fake apiserver"
_POD = "/api/v1/namespaces/default/pods/demo/exec"


def run(bench: Bench) -> Outcome:
    """Both directions over SPDY and WebSocket, passed through; processor time of the proxy alone."""
    outcome = Outcome("proxy", "Sessions through the fake apiserver, beside Go's proxy")
    try:
        with bench.fake() as kubelet, _fake(bench, kubelet) as fake, _go(bench, kubelet) as go:
            for transport in ("spdy", "websocket"):
                for direction in ("download", "upload"):
                    variants = {
                        name: _variant(bench, front, transport, direction) for name, front in ((GO, go), (FAKE, fake))
                    }
                    _judge(outcome, bench.alternate(outcome, f"{direction} over {transport}", variants))
    except GoMissing as missing:
        outcome.problems.append(f"left out: {missing}")
    return outcome


def _fake(bench: Bench, kubelet: Peer) -> Peer:
    folder = bench.folder / "front"
    folder.mkdir(exist_ok=True)
    files = [str(kubelet.ready[name]) for name in ("ca", "cert", "key")]
    return Peer(python("benchmarks.peers.apiserver", str(folder), kubelet.url, *files), bench.cores.peer)


def _go(bench: Bench, kubelet: Peer) -> Peer:
    files: dict[str, str | Path] = {
        "cert": bench.files.certificate, "key": bench.files.key, "client-ca": bench.files.ca,
        **{f"backend-{name}": str(kubelet.ready[name]) for name in ("ca", "cert", "key")},
    }  # fmt: skip
    argv = [str(go_programs() / "kwfront"), f"-backend={kubelet.url}", "-pass-websockets"]
    return Peer([*argv, *(f"-{name}={path}" for name, path in files.items())], bench.cores.peer)


def _variant(bench: Bench, front: Peer, transport: str, direction: str) -> Callable[[], Sample]:
    size = bench.size(512)
    if direction == "download":
        command, flags = ["source", str(size)], {"stdin": "none", "stdout": "discard"}
    else:
        command, flags = ["discard"], {"stdin": f"zero:{size}", "stdout": "discard"}
    query = [("command", word) for word in command] + [("container", "main")]
    query += [(name, "true") for name, spec in flags.items() if spec != "none"]
    url = f"{front.url}{_POD}?{urlencode(query)}"
    return bench.go_client(front, command, size, url=url, transport=transport, stderr="none", **flags)


def _judge(outcome: Outcome, series: Series) -> None:
    rows = [
        [
            name,
            spread(series.all(name, rate), ".2f"),
            spread(series.all(name, peer_cpu_per_gib), ".2f"),
            text(series.of_minima(name, GO, peer_cpu_per_gib)),
            text(series.paired(name, GO, peer_cpu_per_gib)),
        ]
        for name in series.samples
    ]
    columns = ["", "GiB/s", "proxy CPU s/GiB", "CPU / Go's (minima)", "(paired)"]
    outcome.tables.append(Table(series.title, columns, rows))
    ratio = series.of_minima(FAKE, GO, peer_cpu_per_gib)
    paired = paired_remark(series.paired(FAKE, GO, peer_cpu_per_gib))
    outcome.goals.append(Goal(f"fake apiserver, {series.title}: CPU of Go's proxy", "at most", 1.0, ratio, "x", paired))
