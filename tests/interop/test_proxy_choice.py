"""Which proxy the environment names: the same that Go's rules find, and so client-go's."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kubeletclient._proxies import from_environment, parse_proxy
from kubeletclient.endpoints import parse_endpoint

pytestmark = pytest.mark.interop

PROXY = "http://proxy.test:3128"


def go_says(go_peers: Path, questions: list[dict[str, Any]]) -> list[str | None]:
    lines = "".join(json.dumps(question) + "\n" for question in questions)
    done = subprocess.run([go_peers / "kwproxies"], input=lines, capture_output=True, text=True, timeout=50, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def we_say(question: dict[str, Any]) -> str | None:
    try:
        proxy = from_environment(parse_endpoint(question["url"]), question["env"])
    except ValueError:
        return None
    return "" if proxy is None else str(proxy)


NO_PROXY = [
    "",
    "*",
    "node",
    "node.example.com",
    ".example.com",
    "*.example.com",
    "example.com",
    "EXAMPLE.com",
    "other.com, example.com ,,",
    "ample.com",
    "example.com:10250",
    "example.com:443",
    ".example.com:10250",
    "10.0.0.0/8",
    "10.1.2.3",
    "10.1.2.3:10250",
    "10.1.2.3:443",
    "10.1.2.0/24,fd00::/8",
    "fd00::7",
    "[fd00::7]:10250",
    "fd00::/8",
    "10.0.0.0/99",
    "example.com/8",
    ":10250",
    "0.0.0.0/0",
    "::/0",
]
URLS = [
    "https://node.example.com:10250",
    "https://node",
    "https://example.com",
    "http://example.com:10250",
    "https://10.1.2.3:10250",
    "https://10.1.2.3",
    "https://[fd00::7]:10250",
    "https://[::1]:10250",
    "https://127.0.0.1:10250",
    "https://127.9.9.9",
    "https://localhost:10250",
    "http://localhost",
    "https://localhost.example.com",
]
NAMES: list[dict[str, str]] = [
    {"HTTPS_PROXY": PROXY},
    {"https_proxy": PROXY},
    {"HTTP_PROXY": PROXY},
    {"http_proxy": PROXY},
    {"HTTPS_PROXY": PROXY, "https_proxy": "http://lower.test:1", "HTTP_PROXY": "http://plain.test:2"},
    {"ALL_PROXY": PROXY},
    {"HTTPS_PROXY": "proxy.test:3128"},
    {"HTTPS_PROXY": "socks5://proxy.test:1080"},
    {"HTTPS_PROXY": "https://proxy.test:443"},
    {"HTTPS_PROXY": ""},
    {"HTTPS_PROXY": PROXY, "NO_PROXY": "", "no_proxy": "example.com"},
    {"HTTPS_PROXY": PROXY, "NO_PROXY": "x", "no_proxy": "example.com"},
]


def test_the_table(go_peers: Path) -> None:
    questions = [
        {"env": {"HTTPS_PROXY": PROXY, "HTTP_PROXY": PROXY, "NO_PROXY": n}, "url": u} for n in NO_PROXY for u in URLS
    ]
    questions += [{"env": env, "url": url} for env in NAMES for url in URLS]
    for question, expected in zip(questions, go_says(go_peers, questions), strict=True):
        assert we_say(question) == expected, question


PARTS = st.sampled_from(
    ["a", "b.a", ".a", "*.a", "*", "c.b.a", "10.0.0.1", "10.0.0.0/24", "fd00::1", "fd00::/16", ":", ":1", "/8", ""]
)
ENTRIES = st.lists(st.tuples(PARTS, st.sampled_from(["", ":10250", ":443"])).map("".join), max_size=4).map(",".join)
HOSTS = st.sampled_from(
    ["a", "b.a", "c.b.a", "xa", "10.0.0.1", "10.0.0.9", "10.0.1.1", "[fd00::1]", "[fd01::1]", "127.0.0.1"]
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cases=st.lists(st.tuples(ENTRIES, HOSTS, st.sampled_from(["", ":10250"])), min_size=20, max_size=60))
def test_any_list(go_peers: Path, cases: list[tuple[str, str, str]]) -> None:
    questions = [
        {"env": {"HTTPS_PROXY": PROXY, "NO_PROXY": entries}, "url": f"https://{host}{port}"}
        for entries, host, port in cases
    ]
    for question, expected in zip(questions, go_says(go_peers, questions), strict=True):
        assert we_say(question) == expected, question


@pytest.mark.parametrize("url", ["http://p:1", "https://u:p@p", "socks5://[::1]:9", "socks5h://p"])
def test_proxies_that_can_be(url: str) -> None:
    shown = str(parse_proxy(url))
    assert "@" not in shown
    assert "u:p" not in repr(parse_proxy(url))


@pytest.mark.parametrize(
    "url", ["p:1", "ftp://p", "http://", "http://p:0", "http://p:99999", "http://[::1", "http://a b"]
)
def test_proxies_that_cannot_be(url: str) -> None:
    with pytest.raises(ValueError, match=r"it|its"):
        parse_proxy(url)
