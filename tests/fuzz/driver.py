"""Finding targets, mutating inputs, and running one against the other.

Without a coverage-guided fuzzer the loop below mutates the saved corpus at random, which is why the corpus is rich:
each file is a shape that the mutator would hardly hit upon. With ``atheris`` installed the same targets run under it.
"""

from __future__ import annotations

import hashlib
import importlib
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
CORPORA = HERE / "corpus"

SLOW = 2.0
"""CPU seconds for one input of a few KiB; an engine that needs longer can be stalled by its peer."""

_NUMBERS = (0, 1, 2, 7, 8, 127, 128, 255, 256, 0x7FFF, 0x8000, 0xFFFF, 0xFFFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


@dataclass(frozen=True)
class Target:
    """A fuzz target with its corpus (file name to input)."""

    name: str
    one_input: Callable[[bytes], None]
    tokens: Sequence[bytes]
    max_size: int
    corpus: dict[str, bytes]


@dataclass(frozen=True)
class Finding:
    """An input that broke the invariant (shrunk), and how."""

    data: bytes
    error: str


@dataclass(frozen=True)
class Report:
    """What a run came to. ``slowest`` is in CPU seconds."""

    runs: int
    slowest: float
    finding: Finding | None


def discover() -> list[str]:
    """The names of all targets."""
    return sorted(path.stem.removeprefix("fuzz_") for path in HERE.glob("fuzz_*.py"))


def load(name: str) -> Target:
    """The target of that name and its corpus. Raises ModuleNotFoundError for an unknown one."""
    module = importlib.import_module(f".fuzz_{name}", __package__)
    files = sorted(path for path in (CORPORA / name).iterdir() if path.is_file())
    return Target(
        name,
        module.one_input,
        tuple(getattr(module, "TOKENS", ())),
        getattr(module, "MAX_SIZE", 4096),
        {path.name: path.read_bytes() for path in files},
    )


def fuzz(target: Target, *, seed: int, runs: int | None = None, seconds: float | None = None) -> Report:
    """Feed mutated corpus entries until something breaks, ``runs`` inputs were tried or ``seconds`` have passed.

    Same seed, same inputs in the same order.
    """
    source = random.Random(seed)
    pool = list(target.corpus.values()) or [b""]
    end = None if seconds is None else time.monotonic() + seconds
    done, slowest = 0, 0.0
    while (runs is None or done < runs) and (end is None or time.monotonic() < end):
        data = mutate(source, source.choice(pool), pool, target)
        error, used = check(target, data)
        done += 1
        slowest = max(slowest, used)
        if error is not None:
            return Report(done, slowest, Finding(*shrink(target, data, error)))
    return Report(done, slowest, None)


def check(target: Target, data: bytes) -> tuple[str | None, float]:
    """How the input breaks the invariant (None: not at all), and the CPU seconds it took."""
    start = time.process_time()
    try:
        target.one_input(data)
    except Exception as error:
        return f"{type(error).__name__}: {error}", time.process_time() - start
    used = time.process_time() - start
    return (f"took {used:.1f} s of CPU" if used > SLOW else None), used


def shrink(target: Target, data: bytes, error: str) -> tuple[bytes, str]:
    """The smallest input found that breaks the same way (same kind of error), by cutting out ever smaller pieces."""
    kind = error.split(":")[0]
    size = len(data) // 2
    while size:
        at = 0
        while at < len(data):
            shorter = data[:at] + data[at + size :]
            again, _ = check(target, shorter)
            if again is not None and again.split(":")[0] == kind:
                data, error = shorter, again
            else:
                at += size
        size //= 2
    return data, error


def mutate(source: random.Random, data: bytes, pool: Sequence[bytes], target: Target) -> bytes:
    """``data`` with one to eight random changes."""
    changed = bytearray(data)
    for _ in range(source.randint(1, 8)):
        _change(source, changed, pool, target)
    return bytes(changed[: target.max_size])


def _change(source: random.Random, data: bytearray, pool: Sequence[bytes], target: Target) -> None:
    at = source.randint(0, len(data))
    span = source.randint(1, 16)
    kind = source.randrange(8)
    if kind == 0 and data:  # one bit
        data[at % len(data)] ^= 1 << source.randrange(8)
    elif kind == 1:  # some bytes are lost
        del data[at : at + span]
    elif kind == 2:  # some bytes come in
        data[at:at] = source.randbytes(span)
    elif kind == 3:  # a piece comes again, up to many times: floods and deep nesting
        data[at:at] = data[at : at + span] * source.choice((1, 2, 8, 64))
    elif kind == 4:  # a number that sits at a border
        width = source.choice((1, 2, 3, 4))
        number = source.choice(_NUMBERS) & ((1 << 8 * width) - 1)
        data[at : at + width] = number.to_bytes(width, "big")
    elif kind == 5 and target.tokens:
        data[at : at + source.choice((0, span))] = source.choice(target.tokens)
    elif kind == 6:  # the head of this one, the tail of another
        other = source.choice(pool)
        data[at:] = other[source.randint(0, len(other)) :]
    else:  # the connection ends here
        del data[at:]


def save(target: Target, finding: Finding, folder: Path) -> Path:
    """Write the finding below ``folder``, under a name made of its content."""
    path = folder / target.name / f"crash-{hashlib.sha256(finding.data).hexdigest()[:16]}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(finding.data)
    return path
