from __future__ import annotations

import pytest

from kubeletclient.copy.errors import BadPath
from kubeletclient.copy.specs import Spec, has_glob, parse_spec, split_remote


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("web:/srv", Spec(b"/srv", "web")),
        ("ns/web:/srv", Spec(b"/srv", "web", "ns")),
        ("ns/web:relative:with:colons", Spec(b"relative:with:colons", "web", "ns")),
        ("pod://ns/web/app/var/log", Spec(b"/var/log", "web", "ns", "app")),
        ("pod://ns/web/app/odd%3A%FF", Spec(b"/odd:\xff", "web", "ns", "app")),
        ("./a:b", Spec(b"./a:b")),
        ("../a:b", Spec(b"../a:b")),
        ("/tmp/a:b", Spec(b"/tmp/a:b")),
        ("C:\\Users\\x", Spec(b"C:\\Users\\x")),
        ("c:/x", Spec(b"c:/x")),
        ("\\\\server\\share:x", Spec(b"\\\\server\\share:x")),
        ("plain", Spec(b"plain")),
        ("a/b/c:d", Spec(b"a/b/c:d")),
        ("-", Spec(b"-")),
        ("na\udcffme", Spec(b"na\xffme")),
    ],
)
def test_forms(text: str, spec: Spec) -> None:
    assert parse_spec(text) == spec


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "an empty path"),
        ("web:", "names no path"),
        ("we b:/x", "'we b' is no name of a pod"),
        ("-x:/x", "'-x' is no name of a pod"),
        ("n_s/web:/x", "'n_s' is no name of a namespace"),
        ("pod://ns/web/app", "not complete"),
        ("pod://ns/../app/x", r"'\.\.' is no name of a pod"),
    ],
)
def test_what_cannot_be_meant(text: str, part: str) -> None:
    with pytest.raises(BadPath, match=part):
        parse_spec(text)


def test_only_a_lone_hyphen_is_a_stream() -> None:
    assert parse_spec("-").is_stream
    assert not parse_spec("web:-").is_stream


@pytest.mark.parametrize(
    ("path", "split"),
    [
        (b"/a/b", (b"/a", b"b")),
        (b"/a/b///", (b"/a", b"b")),
        (b"a", (b".", b"a")),
        (b"/a", (b"/", b"a")),
        (b"/", (b"/", b"")),
        (b".", (b".", b"")),
        (b"a/.", (b"a/.", b"")),
        (b"a/..", (b"a/..", b"")),
    ],
)
def test_split(path: bytes, split: tuple[bytes, bytes]) -> None:
    assert split_remote(path) == split


def test_wildcards() -> None:
    assert [has_glob(path) for path in (b"a*", b"a?", b"[a]", b"a]", b"plain")] == [True, True, True, False, False]
