"""The layers hold, and the checker that says so catches what it is there to catch."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.layering import FUNCTION_LINES, MODULE_LINES, PACKAGES, check_imports, check_sizes, check_typed

ROOT = Path(__file__).resolve().parent.parent


def test_imports_follow_the_layers() -> None:
    assert check_imports(ROOT, plugins=frozenset({"kubewire.pytest_plugin"})) == []


def test_modules_and_functions_stay_small() -> None:
    assert check_sizes(ROOT, (*PACKAGES, "tools")) == []


def test_every_package_is_typed() -> None:
    assert check_typed(ROOT) == []


def plant(root: Path, path: str, text: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    for folder in file.relative_to(root).parents:
        if folder.name:
            (root / folder / "__init__.py").touch()
    file.write_text(text)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("spdyproto/spdy/connection.py", "import zlib\nfrom spdyproto.errors import ProtocolError\n"),
        ("spdyproto/tls.py", "import ssl\n"),
        ("spdyproto/errors.py", "from spdyproto.spdy.constants import ResetStatus\n"),
        ("spdyproto/http.py", "import h11\n"),
        ("spdyproto/websocket/handshake.py", "from spdyproto.http import ClientExchange\n"),
        ("spdyproto/websocket/masking.py", "def load():\n    import numpy\n"),
        ("spdyproto/channels/session.py", "from ..spdy import connection\n"),
        ("kubeletclient/_flows.py", "from spdyproto.channels.session import ClientSession\n"),
        ("kubeletclient/sync/driver.py", "import select, socket\nfrom kubeletclient import _flows\n"),
        ("kubeletclient/__init__.py", "def __getattr__(name):\n    from kubeletclient.sync import client\n"),
        ("fakekubelet/server.py", "import asyncio\nfrom spdyproto.tls import TLSPipe\n"),
        ("fakekubelet/tls.py", "def build():\n    import OpenSSL\n"),
        ("kubewire/cli.py", "import click, kubeletclient, fakekubelet\n"),
        ("streamspec/peer.py", "import socket\nimport spdyproto.spdy.frames\n"),
    ],
)
def test_checker_lets_right_imports_pass(tmp_path: Path, path: str, text: str) -> None:
    plant(tmp_path, path, text)
    assert check_imports(tmp_path) == []


@pytest.mark.parametrize(
    ("path", "text", "reason"),
    [
        ("spdyproto/spdy/connection.py", "import socket\n", "no I/O"),
        ("spdyproto/spdy/connection.py", "import asyncio.sslproto\n", "no I/O"),
        ("spdyproto/spdy/connection.py", "from time import monotonic\n", "no I/O"),
        ("spdyproto/limits.py", "def f():\n    import logging\n", "no I/O"),
        ("spdyproto/limits.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import select\n", "no I/O"),
        ("spdyproto/limits.py", "import importlib\nimportlib.import_module('threading')\n", "no I/O"),
        ("spdyproto/channels/session.py", "import ssl\n", "only spdyproto.tls"),
        ("spdyproto/channels/session.py", "import h11\n", "only spdyproto.http"),
        ("spdyproto/channels/upgrade.py", "import h11\n", "only spdyproto.http"),
        ("spdyproto/channels/session.py", "import http.client\n", "no I/O"),
        ("spdyproto/websocket/masking.py", "import numpy\n", "inside the function"),
        ("spdyproto/websocket/frames.py", "def load():\n    import numpy\n", "standard library"),
        ("spdyproto/spdy/parser.py", "import httpx\n", "standard library"),
        ("spdyproto/spdy/parser.py", "from ..channels import session\n", "only channels stands"),
        ("spdyproto/errors.py", "from .spdy.connection import SpdyConnection\n", "only channels stands"),
        ("spdyproto/errors.py", "import kubeletclient\n", "standard library"),
        ("spdyproto/errors.py", "import kubewire\n", "command line"),
        ("kubeletclient/client.py", "import fakekubelet\n", "spdyproto alone"),
        ("kubeletclient/client.py", "from kubewire import cli\n", "command line"),
        ("kubeletclient/sync/client.py", "from ..aio import client\n", "never loads the asyncio"),
        ("kubeletclient/sync/client.py", "import asyncio\n", "never loads the asyncio"),
        ("kubeletclient/aio/client.py", "import kubeletclient.sync.client\n", "never loads the blocking"),
        ("kubeletclient/_flows.py", "from .sync import client\n", "below both"),
        ("kubeletclient/_flows.py", "import numpy\n", "optional dependency"),
        ("fakekubelet/routes.py", "from kubeletclient import errors\n", "spdyproto alone"),
        ("fakekubelet/tls.py", "import OpenSSL\n", "optional dependency"),
        ("streamspec/peer.py", "from spdyproto.spdy import connection\n", "never the engines"),
        ("streamspec/peer.py", "from spdyproto.spdy.connection import SpdyConnection\n", "never the engines"),
        ("streamspec/peer.py", "import kubeletclient\n", "codecs of spdyproto alone"),
        ("kubewire/bench.py", "import benchmarks.harness\n", "not shipped"),
        ("kubewire/bench.py", "from tests.support import clock\n", "not shipped"),
    ],
)
def test_checker_catches_wrong_imports(tmp_path: Path, path: str, text: str, reason: str) -> None:
    plant(tmp_path, path, text)
    complaints = check_imports(tmp_path)
    assert len(complaints) == 1, complaints
    assert complaints[0].startswith(f"{path}:")
    assert reason in complaints[0]


def test_checker_lets_a_named_plugin_import_its_host(tmp_path: Path) -> None:
    plant(tmp_path, "fakekubelet/pytest_plugin.py", "import pytest\n")
    assert "optional dependency" in check_imports(tmp_path)[0]
    assert check_imports(tmp_path, plugins=frozenset({"fakekubelet.pytest_plugin"})) == []


def test_checker_tells_a_submodule_from_a_name_of_its_package(tmp_path: Path) -> None:
    plant(tmp_path, "spdyproto/spdy/frames.py", "")
    plant(tmp_path, "streamspec/peer.py", "from spdyproto.spdy import frames\n")
    assert check_imports(tmp_path) == []
    plant(tmp_path, "streamspec/peer.py", "from spdyproto.spdy import SpdyConnection\n")
    assert "imports spdyproto.spdy: " in check_imports(tmp_path)[0]


def test_checker_catches_what_outgrew_its_limits(tmp_path: Path) -> None:
    body = "    x = 1\n"
    plant(
        tmp_path,
        "spdyproto/fits.py",
        "def f():\n" + body * (FUNCTION_LINES - 1) + "\n" * (MODULE_LINES - FUNCTION_LINES),
    )
    assert check_sizes(tmp_path, PACKAGES) == []
    plant(tmp_path, "spdyproto/documented.py", 'def f():\n    """A\n    B."""\n' + body * (FUNCTION_LINES - 1))
    assert check_sizes(tmp_path, PACKAGES) == []
    plant(tmp_path, "spdyproto/long.py", "\n" * (MODULE_LINES + 1))
    plant(tmp_path, "spdyproto/tall.py", "async def f():\n" + body * FUNCTION_LINES)
    module, function = check_sizes(tmp_path, PACKAGES)
    assert module.startswith("spdyproto/long.py: 551 lines")
    assert function.startswith("spdyproto/tall.py:1: f has 61 lines")


def test_checker_misses_py_typed(tmp_path: Path) -> None:
    plant(tmp_path, "spdyproto/__init__.py", "")
    plant(tmp_path, "kubewire/__init__.py", "")
    (tmp_path / "kubewire" / "py.typed").touch()
    assert check_typed(tmp_path) == ["spdyproto: no py.typed"]
