"""The client's errors: what they are to programs, and what they say to people."""

from __future__ import annotations

import copy
import pickle
import re
import subprocess

import pytest

from kubeletclient import errors
from kubeletclient.errors import ClientError, CommandFailed

ALL = [getattr(errors, name) for name in errors.__all__]

BUILTINS = {
    "ClientCertificateRejected": PermissionError,
    "CommandFailed": subprocess.CalledProcessError,
    "ConnectError": ConnectionError,
    "ConnectionLost": ConnectionError,
    "ConnectionRefused": ConnectionRefusedError,
    "CredentialsError": ValueError,
    "DeadlineExceeded": TimeoutError,
    "DialTimeout": TimeoutError,
    "Forbidden": PermissionError,
    "NotFound": LookupError,
    "PeerNotResponding": TimeoutError,
    "ProcessClosed": ValueError,
    "StdinClosed": BrokenPipeError,
    "TLSTimeout": TimeoutError,
    "Unauthorized": PermissionError,
    "UpgradeTimeout": TimeoutError,
}


@pytest.mark.parametrize(("name", "builtin"), BUILTINS.items())
def test_each_derives_from_the_builtin_that_callers_catch(name: str, builtin: type[BaseException]) -> None:
    assert issubclass(getattr(errors, name), builtin)


def test_every_error_has_the_projects_root() -> None:
    assert all(issubclass(kind, errors.KubewireError) for kind in ALL)


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    shown = re.findall(r"^ +(\w+)(?:\(\S+\))? ", errors.__doc__ or "", re.MULTILINE)
    assert sorted(shown) == sorted(errors.__all__)


@pytest.mark.parametrize("kind", [kind for kind in ALL if issubclass(kind, ClientError)])
def test_text_is_not_split_up_by_oserror_and_survives_copies(kind: type[ClientError]) -> None:
    error = kind("it broke", hint="mend it", route="kubelet", url="https://node:10250/x", owed=("status",), stdout=b"a")
    for one in (error, copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert str(one) == "it broke; mend it [https://node:10250/x]"
        assert (one.cause, one.hint, one.route, one.owed, one.stdout) == (
            "it broke",
            "mend it",
            "kubelet",
            ("status",),
            b"a",
        )


def test_a_timeout_tells_how_far_things_had_come() -> None:
    error = errors.DeadlineExceeded("late", received={"stdout": 5, "stderr": 0}, sent={"stdin": 0})
    assert str(error) == "late (received 5 bytes of stdout; sent nothing)"


def test_command_failed_tells_the_code_the_command_and_its_stderr() -> None:
    error = CommandFailed(2, ["ls", "/x\x1b[2J"], b"out", b"ls: /x: no\x07 such file\n")
    assert (error.returncode, error.cmd, error.output, error.stdout) == (2, ["ls", "/x\x1b[2J"], b"out", b"out")
    text = str(error)
    assert "exited with code 2" in text
    assert "no\\x07 such file" in text
    assert "\x1b" not in text
    again = pickle.loads(pickle.dumps(error))
    assert (again.returncode, again.stderr, str(again)) == (2, error.stderr, text)


def test_command_failed_without_stderr() -> None:
    assert str(CommandFailed(1, ["false"])) == "the command exited with code 1: false"
    assert str(CommandFailed(1, ["false"], "", "why")).endswith("its stderr: why")
