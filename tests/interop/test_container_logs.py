"""Container logs: read as the kubelet's own code reads them, and cut into lines as containerd cuts them."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import random
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fakekubelet.podlogs import LINE, ContainerLog, LogOptions, Stream, parse_log, parse_time
from support.containerd import Containerd

pytestmark = pytest.mark.interop


def read(log: ContainerLog, options: LogOptions) -> bytes:
    async def collect() -> bytes:
        return b"".join([bytes(piece) async for piece in log.read(options)])

    return asyncio.run(collect())


def of_file(text: bytes) -> ContainerLog:
    log = ContainerLog(1 << 30)
    for entry in parse_log(text):
        log.add(entry)
    return log


def by_kubelet(peers: Path, requests: Sequence[dict[str, Any]]) -> list[bytes]:
    """What the kubelet's code makes of each request: the text, and behind it the error, as the kubelet sends it."""
    lines = "".join(json.dumps(each) + "\n" for each in requests)
    done = subprocess.run([peers / "kwlogs"], input=lines.encode(), capture_output=True, check=True, timeout=60)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    return [base64.b64decode(each["text"] or "") + each.get("error", "").encode() for each in answers]


CRI = (
    b"2024-05-01T10:00:00.000000001Z stdout F one\n"
    b"2024-05-01T10:00:01.5+02:00 stderr F two\n"
    b"2024-05-01T10:00:02Z stdout P thr\n"
    b"2024-05-01T10:00:02.25Z stderr P err\n"
    b"2024-05-01T10:00:03Z stdout P:x e\n"
    b"2024-05-01T10:00:03Z stderr F or\n"
    b"this line is broken\n"
    b"2024-05-01T10:00:04Z stdout F e\n"
    b"2024-05-01T10:00:04Z stdin F of no output\n"
    b"2024-05-01T10:00:04.123456789Z stdout F \n"
    b"2024-05-01 10:00:04 stdout F no time\n"
    b"2024-05-01T10:00:05Z stdout F:y:z \xff\xfe four\n"
    b"2024-05-01T10:00:06Z stdout P never ended\n"
)
DOCKER = (
    b'{"log":"one\\n","stream":"stdout","time":"2024-05-01T10:00:00.1Z"}\n'
    b'{"log":"tw","stream":"stderr","time":"2024-05-01T10:00:01Z"}\n'
    b"no JSON\n"
    b'{"log":"o\\n","stream":"stderr","time":"2024-05-01T10:00:02.000000003Z"}\n'
    b'{"log":"thr\\u00e9e\\n","stream":"stdout","time":"2024-05-01T10:00:03Z"}\n'
)


def random_cri(seed: int) -> bytes:
    rng = random.Random(seed)
    lines = []
    for index in range(60):
        stamp = f"2024-05-01T10:00:{index:02d}.{rng.randrange(10**9):09d}Z"
        text = "".join(rng.choices("ab é", k=rng.randrange(12)))
        lines.append(f"{stamp} {rng.choice(['stdout', 'stderr'])} {rng.choice('FFP')} {text}\n")
    return "".join(lines).encode()


FILES = {"cri": CRI, "docker": DOCKER, **{f"random-{seed}": random_cri(seed) for seed in range(5)}}


@pytest.mark.parametrize("name", FILES)
def test_logs_are_read_as_the_kubelet_reads_them(go_peers: Path, tmp_path: Path, name: str) -> None:
    file = tmp_path / "0.log"
    file.write_bytes(FILES[name])
    log = of_file(FILES[name])
    sinces = [None, "2024-05-01T10:00:02Z", "2024-05-01T10:00:02.000000004Z", "2030-01-01T00:00:00Z"]
    cases = list(
        itertools.product(
            [None, 0, 1, 2, 3, 5, 1000],
            [None, 1, 4, 40, 100_000],
            sinces,
            [False, True],
            [["stdout", "stderr"], ["stdout"], ["stderr"]],
        )
    )
    requests, ours = [], []
    for tail, limit, since, timestamps, streams in cases:
        asked: dict[str, Any] = {"file": str(file), "timestamps": timestamps, "streams": streams}
        asked |= {"tail": tail} if tail is not None else {}
        asked |= {"limit": limit} if limit is not None else {}
        asked |= {"since": since} if since is not None else {}
        requests.append(asked)
        options = LogOptions(
            timestamps=timestamps,
            tail=tail,
            since=parse_time(since)[0] if since else None,
            limit=limit,
            streams=frozenset(streams),
        )
        ours.append(read(log, options))
    theirs = by_kubelet(go_peers, requests)
    assert [(case, text) for case, text in zip(cases, ours, strict=True)] == list(zip(cases, theirs, strict=True))


SCRIPT = (
    "printf 'one\\n'; printf 'tw'; printf 'o\\n'; printf '\\n';"
    f"head -c {LINE} /dev/zero | tr '\\0' x; printf '\\n';"
    f"head -c {LINE + 1} /dev/zero | tr '\\0' y; printf '\\n';"
    f"head -c {3 * LINE} /dev/zero | tr '\\0' z; printf '\\n';"
    "printf 'no end'"
)


def test_output_becomes_the_entries_that_containerd_makes(containerd: Containerd) -> None:
    with containerd.pod() as pod:
        container = pod.container(["sh", "-c", SCRIPT])
        deadline = time.monotonic() + 30
        while not container.log.exists() or b" no end" not in container.log.read_bytes():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        theirs = parse_log(container.log.read_bytes())
    output = b"one\ntwo\n\n" + b"x" * LINE + b"\n" + b"y" * (LINE + 1) + b"\n" + b"z" * 3 * LINE + b"\nno end"
    stream: Stream = "stdout"
    for size in (1000, len(output)):
        log = ContainerLog(1 << 30)
        for start in range(0, len(output), size):
            log.write(stream, output[start : start + size])
        log.close()
        whole = b"".join(entry.data for entry in theirs)
        assert read(log, LogOptions()) == whole
        for tail in range(len(theirs) + 1):
            expected = b"".join(entry.data for entry in theirs[len(theirs) - tail :])
            assert read(log, LogOptions(tail=tail)) == expected, tail
