"""The mask (RFC 6455 section 5.3): every strategy gives the bytes of its definition; which one is taken, and when."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from spdyproto.types import Buffer
from spdyproto.websocket import masking
from spdyproto.websocket.masking import (
    LARGE,
    Masker,
    accelerator,
    agrees,
    apply_mask,
    choose_masker,
    load_masker,
    mask_plain,
    use_masker,
)
from support.wsframes import KEY, xor

VECTORS = json.loads((Path(__file__).parents[3] / "vectors" / "websocket.json").read_text())["vectors"]
DATA = random.Random(6455).randbytes(200_000)
BORDERS = [*range(70), 127, 128, 255, 256, 257, 383, 384, 385, 511, 1023, 1024, 4095, 4096, 4097]
BORDERS += [LARGE - 1, LARGE, LARGE + 1, 8191, 8192, 8193, 16384, 32767, 32768, 32769, 65527, 65536, 131_073]


STRATEGIES = ["plain", "numpy", "websockets.speedups"]


@pytest.fixture
def undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    """The choice has not been made yet, and is forgotten afterwards."""
    monkeypatch.setattr(masking, "_CHOICE", [])


@pytest.mark.parametrize("name", STRATEGIES)
class TestStrategies:
    @pytest.mark.parametrize("start", range(5))
    def test_all_sizes_and_alignments(self, name: str, start: int) -> None:
        masker = load_masker(name)
        for size in BORDERS:
            data = DATA[start : start + size]
            view = memoryview(DATA)[start : start + size]
            assert bytes(masker(view, KEY)) == xor(data, KEY), size

    @pytest.mark.parametrize("key", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\1", b"\1\0\0\0", b"\x80\x7f\x01\xfe"])
    def test_all_keys(self, name: str, key: bytes) -> None:
        masker = load_masker(name)
        for size in (3, 64, 5000):
            assert bytes(masker(DATA[:size], key)) == xor(DATA[:size], key)

    def test_every_byte_of_a_key_and_of_data(self, name: str) -> None:
        masker = load_masker(name)
        every = bytes(range(256)) * 2
        for byte in range(256):
            key = bytes((byte, 255 - byte, byte ^ 0x55, byte ^ 0xAA))
            assert bytes(masker(every, key)) == xor(every, key)

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_any_buffer(self, name: str, kind: type[bytes | bytearray] | type[memoryview]) -> None:
        for size in (0, 5, 5000):
            data: Buffer = kind(DATA[:size])
            assert bytes(load_masker(name)(data, KEY)) == xor(DATA[:size], KEY)

    def test_the_data_stays_as_it_was_and_the_result_is_a_buffer_of_its_own(self, name: str) -> None:
        for size in (5, 5000):
            data = bytearray(DATA[:size])
            result = load_masker(name)(data, KEY)
            assert data == DATA[:size]
            data[:] = bytes(size)
            assert bytes(result) == xor(DATA[:size], KEY)
            data.clear()  # no view of it is left behind

    def test_twice_is_nothing(self, name: str) -> None:
        masker = load_masker(name)
        assert bytes(masker(masker(DATA[:70_001], KEY), KEY)) == DATA[:70_001]

    def test_the_self_test_passes(self, name: str) -> None:
        assert agrees(load_masker(name))

    @pytest.mark.parametrize("size", [0, 1, 6, 300, 5000, 70_000])
    def test_a_piece_within_a_frame_goes_on_where_the_last_one_ended(
        self, name: str, size: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(masking, "_CHOICE", [])
        use_masker(name)
        assert accelerator() == name
        whole = xor(DATA[: size + 9], KEY)
        for offset in range(9):
            assert bytes(apply_mask(DATA[offset : offset + size], KEY, offset)) == whole[offset : offset + size]


@pytest.mark.parametrize("vector", [v for v in VECTORS if v["sender"] == "client"], ids=lambda vector: vector["name"])
def test_examples_of_the_rfc(vector: dict[str, Any]) -> None:
    (described,) = vector["frames"]
    payload, key = bytes.fromhex(described["payload"]), bytes.fromhex(described["key"])
    assert bytes.fromhex(vector["hex"]).endswith(key + bytes(apply_mask(payload, key)))


@pytest.mark.usefixtures("undecided")
class TestChoice:
    def test_the_fastest_that_is_there_is_taken(self) -> None:
        assert choose_masker()[0] == "websockets.speedups"
        assert accelerator() == "websockets.speedups"

    def test_numpy_is_next(self, monkeypatch: pytest.MonkeyPatch) -> None:
        hide(monkeypatch, "websockets.speedups")
        assert choose_masker()[0] == "numpy"

    def test_without_either_the_plain_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        hide(monkeypatch, "websockets.speedups", "numpy")
        assert choose_masker() == ("plain", mask_plain)
        assert bytes(apply_mask(DATA[:5000], KEY)) == xor(DATA[:5000], KEY)

    @pytest.mark.parametrize("error", [ImportError, AttributeError, RuntimeError, ValueError, OSError])
    def test_an_installation_that_is_broken_is_passed_over(
        self, error: type[Exception], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def load() -> Masker:
            raise error("built for another processor")

        def masker(data: Buffer, key: bytes) -> Buffer:
            raise error("takes other arguments")

        monkeypatch.setattr(masking, "_ACCELERATORS", {"import": load, "call": lambda: masker})
        assert choose_masker() == ("plain", mask_plain)

    @pytest.mark.parametrize("wrong", ["nothing", "short", "last byte", "odd sizes", "unaligned"])
    def test_one_that_computes_wrong_is_passed_over(self, wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
        def masker(data: Buffer, key: bytes) -> Buffer:
            right = xor(bytes(data), key)
            view = memoryview(data)
            aligned = bytes(view.obj)[: len(view)] == view if isinstance(view.obj, bytes) else True
            faults = {
                "nothing": bytes(data),
                "short": right[:-1],
                "last byte": right[:-1] + bytes(right[-1:] and b"\0"),
                "odd sizes": right if len(right) % 2 == 0 else bytes(data),
                "unaligned": right if aligned else bytes(data),
            }
            return faults[wrong]

        assert not agrees(masker)
        monkeypatch.setattr(masking, "_ACCELERATORS", {"wrong": lambda: masker})
        assert choose_masker() == ("plain", mask_plain)

    def test_by_hand(self, monkeypatch: pytest.MonkeyPatch) -> None:
        use_masker("plain")
        assert accelerator() == "plain"
        with pytest.raises(KeyError):
            use_masker("other")
        hide(monkeypatch, "numpy")
        with pytest.raises(ImportError):
            use_masker("numpy")
        assert accelerator() == "plain", "a choice that fails changes nothing"

    def test_it_is_made_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        name = accelerator()
        monkeypatch.setattr(masking, "_ACCELERATORS", {})
        apply_mask(DATA[:LARGE], KEY)
        assert accelerator() == name

    def test_small_data_makes_none(self) -> None:
        apply_mask(DATA[: LARGE - 1], KEY)
        assert not masking._CHOICE
        apply_mask(DATA[:LARGE], KEY)
        assert masking._CHOICE


def hide(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Make these modules impossible to import."""
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)


def test_importing_and_an_interactive_session_load_no_accelerator() -> None:
    code = (
        "import sys\n"
        "from spdyproto.websocket.connection import WebSocketConnection\n"
        "from spdyproto.types import Role\n"
        "engine = WebSocketConnection(Role.CLIENT)\n"
        "engine.send_message(b'\\0', b'ls -l')\n"
        "engine.ping(now=0.0)\n"
        "print(sorted(name for name in sys.modules if name.split('.')[0] in ('numpy', 'websockets')))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=50)
    assert done.stdout == "[]\n"
