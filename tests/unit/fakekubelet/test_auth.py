"""Authentication and authorization without a server."""

from __future__ import annotations

import asyncio

import pytest

from fakekubelet.auth import (
    ANONYMOUS,
    AUTHENTICATED,
    Attributes,
    Authenticator,
    User,
    always_allow,
    forbidden_text,
    request_attributes,
)
from fakekubelet.pki import CertificateAuthority

CA = CertificateAuthority.create()
GOOD = CA.issue_client("alice", ["devs", "ops"]).chain_der
BAD = CertificateAuthority.create("other").issue_client("mallory").chain_der
ALICE = User("alice", ("devs", "ops", AUTHENTICATED))
ROBOT = User("robot", (AUTHENTICATED,))
TOKENS = {"sesame": User("robot")}


@pytest.mark.parametrize(
    ("certificates", "authorization", "anonymous", "expected"),
    [
        (GOOD, [], False, ALICE),
        (GOOD, ["Bearer wrong"], False, ALICE),
        (GOOD, ["Bearer sesame"], False, ALICE),  # the certificate is asked first
        (BAD, [], False, None),
        (BAD, [], True, None),
        (BAD, ["Bearer sesame"], False, ROBOT),
        ([], [], False, None),
        ([], [], True, ANONYMOUS),
        ([], ["Bearer sesame"], True, ROBOT),
        ([], ["Bearer wrong"], True, None),
        ([], ["Bearer "], True, ANONYMOUS),  # no token is no credential
        ([], ["Basic c2VzYW1l"], True, ANONYMOUS),
        ([], ["Bearer s\xe9same"], False, None),
        ([b"not a certificate"], [], True, None),
    ],
)
def test_who_is_it(certificates: list[bytes], authorization: list[str], anonymous: bool, expected: User | None) -> None:
    chain = Authenticator(CA, tokens=TOKENS, anonymous=anonymous)
    assert asyncio.run(chain.authenticate(certificates, authorization)) == expected


def test_a_group_is_not_told_twice() -> None:
    certificates = CA.issue_client("bob", [AUTHENTICATED]).chain_der
    assert asyncio.run(Authenticator(CA).authenticate(certificates, [])) == User("bob", (AUTHENTICATED,))


@pytest.mark.parametrize(
    ("method", "path", "verb", "subresources"),
    [
        ("POST", "/exec/a/b/c", "create", ["proxy"]),
        ("GET", "/exec/a/b/c", "get", ["proxy"]),
        ("GET", "/pods", "get", ["pods", "proxy"]),
        ("GET", "/runningpods/", "get", ["pods", "proxy"]),
        ("GET", "/healthz/ping", "get", ["healthz", "proxy"]),
        ("GET", "/stats/summary", "get", ["stats"]),
        ("GET", "/metrics/cadvisor", "get", ["metrics"]),
        ("GET", "/logs/x", "get", ["log"]),
        ("POST", "/checkpoint/a/b/c", "create", ["checkpoint"]),
        ("PUT", "/debug/flags/v", "update", ["proxy"]),
        ("PATCH", "/x", "patch", ["proxy"]),
        ("DELETE", "/x", "delete", ["proxy"]),
        ("HEAD", "/pods", "", ["pods", "proxy"]),
        ("OPTIONS", "/x", "", ["proxy"]),
    ],
)
def test_what_is_asked_of_the_authorizer(method: str, path: str, verb: str, subresources: list[str]) -> None:
    user = User("u")
    assert request_attributes(user, method, path, "n") == [
        Attributes(user, verb, subresource, path, "n") for subresource in subresources
    ]


def test_words_of_a_refusal() -> None:
    attributes = request_attributes(User("u"), "HEAD", "/pods", "n")
    assert forbidden_text(attributes) == "Forbidden (user=u, verb=, resource=nodes, subresource(s)=[pods proxy])\n"
    assert always_allow(attributes[0])
