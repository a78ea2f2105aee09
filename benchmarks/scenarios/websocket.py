"""Over WebSocket: beside Go's client at Go's server, beside the bare TLS loops, and beside other Python libraries."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, Final

from benchmarks.goals import Goal, paired_remark
from benchmarks.harness import Bench, GoMissing, Outcome
from benchmarks.peers.patterns import PATTERNS
from benchmarks.peers.processes import Peer
from benchmarks.peers.wire import expected_digest
from benchmarks.samples import Sample, cpu_per_gib
from benchmarks.scenarios.go_peer import BARE, GO, judge
from benchmarks.scenarios.tables import cost_table
from benchmarks.scenarios.wire import RX, TX, aim

V4: Final = "ws:v4.channel.k8s.io"
_MOST_CPU: Final = 0.55
_LEAST_DOWN: Final = {"blocking, readinto": 0.92, "blocking, callback": 0.92, "asyncio, readinto": 0.86}
_LEAST_FAST, _LEAST_PLAIN = 0.94, 0.30
_MASKERS: Final = {"websockets.speedups": "websockets", "numpy": "numpy", "plain": "sys"}
"""Strategies of the mask, fastest first, and the module that each needs."""

_LIBRARIES: Final = {"websocket-client": "websocket", "websockets": "websockets", "aiohttp": "aiohttp"}
"""And the module that each is imported as."""

_DOWN_OF: Final = {"websocket-client": 1.4, "websockets": 2.8, "aiohttp": 1.05}
_UP_OF: Final = {"websocket-client": 4.2, "websockets": 1.8, "aiohttp": 1.25}


def transfers(bench: Bench) -> Outcome:
    """v4 at Go's server beside Go's client, and at a peer that is not the brake beside the bare loops."""
    outcome = Outcome("websocket", "Over WebSocket, v4.channel.k8s.io")
    try:
        with bench.unpinned(), bench.go_server() as server:
            _beside_go(bench, outcome, server, "free")
        with bench.go_server() as server:
            _beside_go(bench, outcome, server, "pinned")
    except GoMissing as missing:
        outcome.problems.append(f"left out: {missing}")
    with bench.wire() as peer:
        _verify(bench, outcome, peer)
        _download(bench, outcome, peer)
        _upload(bench, outcome, peer)
    return outcome


def _beside_go(bench: Bench, outcome: Outcome, server: Peer, place: str) -> None:
    size, warm = bench.size(256), bench.size(16)
    where = "both ends on any core" if place == "free" else "each end on one core"
    go = {"transport": "websocket", "protocols": "v4"}
    down: dict[str, Any] = {"argv": ["source", "{size}"], "size": size, "warm": warm, "transport": V4}
    source = ["source", str(size)]
    series = bench.alternate(
        outcome,
        f"WebSocket v4 download at the Go server, {where}",
        {
            GO: bench.go_client(server, source, size, stdout="discard", stderr="none", **go),
            "blocking, readinto": bench.variant(server, "blocking.download", how="readinto", **down),
            "blocking, callback": bench.variant(server, "blocking.download", how="callback", **down),
            "asyncio, readinto": bench.variant(server, "aio.download", how="readinto", **down),
            BARE: bench.variant(server, "limits.download", argv=source, size=size, warm=0, websocket=True),
        },
    )
    judge(outcome, series, f"WebSocket download ({place})", most_cpu=_MOST_CPU)
    up: dict[str, Any] = {"argv": ["take", "{size}"], "size": size, "warm": warm, "transport": V4, "how": "write"}
    stdin = {"stdin": f"zero:{size}", "stdout": "discard", "stderr": "none"}
    series = bench.alternate(
        outcome,
        f"WebSocket v4 upload at the Go server, {where}",
        {
            GO: bench.go_client(server, ["take", str(size)], size, **stdin, **go),
            "blocking, fast": bench.variant(server, "blocking.upload", masker=_fastest(), **up),
            "blocking, plain": bench.variant(server, "blocking.upload", masker="plain", **up),
            "asyncio, fast": bench.variant(server, "aio.upload", masker=_fastest(), **up),
        },
    )
    judge(outcome, series, f"WebSocket upload ({place})", most_cpu=None)


def _fastest() -> str:
    return next(name for name, module in _MASKERS.items() if find_spec(module))


def _download(bench: Bench, outcome: Outcome, peer: Peer) -> None:
    given: dict[str, Any] = {"argv": ["dump", "ws-32k", "{size}", "batch"]}
    given |= {"size": bench.size(512), "warm": bench.size(32)}
    ours = {**given, "transport": V4}
    variants = {
        RX: bench.variant(peer, "limits.download", websocket=True, **given),
        "blocking, readinto": bench.variant(peer, "blocking.download", how="readinto", **ours),
        "blocking, callback": bench.variant(peer, "blocking.download", how="callback", **ours),
        "asyncio, readinto": bench.variant(peer, "aio.download", how="readinto", **ours),
    }
    series = bench.alternate(outcome, f"download, {PATTERNS['ws-32k'].who}, sent in batches of 256 KiB", variants)
    outcome.tables.append(cost_table(series, RX, over_base=False))
    for name, least in _LEAST_DOWN.items():
        aim(outcome, series, name, RX, f"WebSocket download, {name}", least)


def _upload(bench: Bench, outcome: Outcome, peer: Peer) -> None:
    given: dict[str, Any] = {"argv": ["take", "{size}"], "size": bench.size(256), "warm": bench.size(16)}
    variants = {TX: bench.variant(peer, "limits.upload", websocket=True, **given)}
    for name, module in _MASKERS.items():
        if find_spec(module):
            for flavour, function in (("blocking", "blocking.upload"), ("asyncio", "aio.upload")):
                run = bench.variant(peer, function, how="write", masker=name, transport=V4, **given)
                variants[f"{flavour}, {name}"] = run
    series = bench.alternate(outcome, "upload, by the strategy of the mask", variants)
    outcome.tables.append(cost_table(series, TX, over_base=False, note="the limit sends ready-made, masked frames"))
    for flavour in ("blocking", "asyncio"):
        for name in _MASKERS:
            if f"{flavour}, {name}" in series.samples:
                least = _LEAST_PLAIN if name == "plain" else _LEAST_FAST
                aim(outcome, series, f"{flavour}, {name}", TX, f"WebSocket upload, {flavour}, {name}", least)


def _verify(bench: Bench, outcome: Outcome, peer: Peer) -> None:
    size, pattern = bench.size(32) + 12_345, PATTERNS["ws-32k"]
    down = {"argv": ["dump", "ws-32k", "{size}", "batch"], "size": size, "digest": expected_digest(pattern, size)}
    checks: dict[str, Callable[[], Sample]] = {
        f"{flavour}, {how}": bench.variant(peer, f"{flavour}.download", how=how, transport=V4, **down)
        for flavour in ("blocking", "aio")
        for how in ("readinto", "callback", "read")
    }
    bench.verify(outcome, checks)


def libraries(bench: Bench) -> Outcome:
    """The same messages through other Python libraries, as far as they are installed (extra ``bench``)."""
    outcome = Outcome("libraries", "The same WebSocket messages through other Python libraries")
    found = [name for name, module in _LIBRARIES.items() if find_spec(module)]
    outcome.problems += [f"left out: {name} is not installed" for name in _LIBRARIES if name not in found]
    with bench.wire() as peer:
        sizes: dict[str, Any] = {"size": bench.size(128), "warm": bench.size(8)}
        down = {"argv": ["dump", "ws-32k", "{size}", "batch"], **sizes}
        up = {"argv": ["take", "{size}"], **sizes}
        _beside(bench, outcome, "download", found, _DOWN_OF, {
            "blocking": bench.variant(peer, "blocking.download", how="readinto", transport=V4, **down),
            "asyncio": bench.variant(peer, "aio.download", how="readinto", transport=V4, **down),
            **{name: bench.variant(peer, "libraries.download", library=name, **down) for name in found},
        })  # fmt: skip
        _beside(bench, outcome, "upload", found, _UP_OF, {
            "blocking": bench.variant(peer, "blocking.upload", how="write", transport=V4, **up),
            "asyncio": bench.variant(peer, "aio.upload", how="write", transport=V4, **up),
            **{name: bench.variant(peer, "libraries.upload", library=name, **up) for name in found},
        })  # fmt: skip
    return outcome


def _beside(
    bench: Bench,
    outcome: Outcome,
    what: str,
    found: list[str],
    least: dict[str, float],
    variants: dict[str, Callable[[], Sample]],
) -> None:
    series = bench.alternate(outcome, f"{what}, messages of 32 KiB", variants)
    note = "each with the mask that it finds: C in websockets and aiohttp, numpy or websockets' C here"
    outcome.tables.append(cost_table(series, "blocking", over_base=True, note=note))
    for name in found:
        ours = "asyncio" if name == "aiohttp" else "blocking"
        ratio = series.of_minima(name, ours, cpu_per_gib)
        remark = paired_remark(series.paired(name, ours, cpu_per_gib))
        title = f"{what} through {name}: its CPU of ours ({ours})"
        outcome.goals.append(Goal(title, "at least", least[name], ratio, "x", remark))
