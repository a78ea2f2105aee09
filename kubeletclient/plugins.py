"""Credential plugins: programs that a kubeconfig names and that answer a token, a client certificate, or both.

The protocol is ``client.authentication.k8s.io`` v1 and v1beta1 (``client-go: plugin/pkg/client/auth/exec/exec.go``):
the program gets an ``ExecCredential`` in the variable ``KUBERNETES_EXEC_INFO`` and writes one to its stdout. What it
answered is kept in memory until it expires, or until a server answered 401 to it, and is shared by all clients of this
process whose plugin is configured alike; nothing is written to disk. Sessions that are open go on when a plugin gives
another certificate (client-go cuts them).

A kubeconfig that came from elsewhere may name any program, so what may run can be bounded: ``PluginPolicy``.
"""

from __future__ import annotations

import base64
import calendar
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, NoReturn

from kubeletclient.credentials import BearerToken, ClientCertificate, Credentials
from kubeletclient.errors import CredentialsError, ExecPluginError, ExecPluginNotFound
from spdyproto.limits import MIB
from spdyproto.text import printable

__all__ = ["API_VERSIONS", "ExecPlugin", "PluginPolicy", "PluginSettings"]

API_VERSIONS: Final = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")

VARIABLE: Final = "KUBERNETES_EXEC_INFO"

TIMEOUT: Final = 300.0
"""Seconds for one run: time enough to log in with a browser. client-go waits for ever."""

ANSWER_LIMIT: Final = MIB
"""Bytes of a plugin's answer. A token takes a few KiB, a certificate chain with its key some more."""

_SHARED: Final = 64
"""Plugins whose answers are kept, over all clients of this process: more than anyone uses clusters at a time."""


@dataclass(frozen=True, slots=True)
class PluginPolicy:
    """Which credential plugins may run: all by default; none with ``allow=()``.

    Each of ``allow`` is the path of a program, or a name that is looked up in PATH as the plugin's own is, and allows
    that very file (``Allowlist`` of kubectl's kuberc).
    """

    allow: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.allow, str):
            raise TypeError("allow= is a tuple of commands, not one of them")

    def check(self, settings: PluginSettings) -> None:
        """Raises ExecPluginError for a plugin that may not run."""
        if self.allow is None:
            return
        wanted = _find(settings.command)
        if wanted is not None and any(_find(name) == wanted for name in self.allow):
            return
        allowed = f"allowed are {', '.join(self.allow)}" if self.allow else "none is"
        raise ExecPluginError(
            f"the credential plugin {printable(settings.command)!r} of {settings.user} may not run: {allowed}",
            hint="allow it by its name or path, if you trust whoever wrote the kubeconfig",
        )


@dataclass(frozen=True, slots=True)
class PluginSettings:
    """An ``exec`` entry of a kubeconfig. Plugins that compare equal share what they answered.

    ``interactive`` is ``"Never"``, ``"IfAvailable"`` or ``"Always"``. ``cluster`` is the JSON of ``spec.cluster``, or
    empty if the plugin is not to know. ``user`` names the entry for errors.
    """

    command: str
    args: tuple[str, ...] = field(default=(), repr=False)
    env: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    api_version: str = API_VERSIONS[0]
    interactive: str = "IfAvailable"
    install_hint: str = field(default="", repr=False)
    cluster: str = field(default="", repr=False)
    user: str = "a user"


@dataclass(frozen=True, slots=True)
class _Answer:
    token: str | None = field(repr=False)
    certificate: ClientCertificate | None
    expires: float | None
    at: float  # of the monotonic clock


class _Shared:
    """What a plugin answered last."""

    def __init__(self, settings: PluginSettings) -> None:
        self.settings = settings
        self.lock = threading.Lock()
        self.answer: _Answer | None = None

    def current(self) -> _Answer | None:
        answer = self.answer
        if answer is None or (answer.expires is not None and time.time() > answer.expires):
            return None
        return answer


@lru_cache(maxsize=_SHARED)
def _shared(settings: PluginSettings) -> _Shared:
    return _Shared(settings)


class ExecPlugin(Credentials):
    """Credentials from a plugin, which runs when the first connection needs them and again when they have expired."""

    __slots__ = ("_shared", "policy", "settings")

    def __init__(self, settings: PluginSettings, policy: PluginPolicy = PluginPolicy()) -> None:
        self.settings = settings
        self.policy = policy
        self._shared = _shared(settings)

    def __repr__(self) -> str:
        return f"ExecPlugin({self.settings.command!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an ExecPlugin may hold secrets and is not pickled: build it again in the other process")

    @property
    def sends_secret(self) -> bool:
        """It may answer a token; unless it has answered, and there was none."""
        answer = self._shared.current()
        return answer is None or answer.token is not None

    def fresh(self, now: float) -> bool:
        """Whether it need not run."""
        return self._shared.current() is not None

    def renew(self, timeout: float | None = None) -> None:
        """Run it when it is due. One run at a time: others wait for its answer."""
        self._answer(timeout)

    def header(self, now: float | None = None) -> str | None:
        """The token that it answered, as a header."""
        token = self._last().token
        return None if token is None else f"Bearer {token}"

    def version(self) -> object:
        """The certificate that it answered last."""
        answer = self._shared.answer
        return None if answer is None else answer.certificate

    def load_into(self, context: ssl.SSLContext) -> None:
        """Load the certificate that it answered, if it did."""
        certificate = self._last().certificate
        if certificate is not None:
            try:
                certificate.load_into(context)
            except CredentialsError as error:
                raise self._error(f"its certificate cannot be used: {error.cause}") from error

    def rejected(self, taken: float) -> bool:
        """The answer is not used any more, if it is the one that was taken then: the plugin runs again."""
        answer = self._shared.answer
        if answer is not None and answer.at <= taken:
            self._shared.answer = None
        return True

    def complaint(self) -> str:
        """That its certificate has expired."""
        answer = self._shared.answer
        return answer.certificate.complaint() if answer is not None and answer.certificate is not None else ""

    def certificate_only(self) -> Credentials:
        """Its certificate, if it answers one, without its token."""
        return _PluginCertificate(self)

    def _last(self) -> _Answer:
        """The last answer, even if it has expired since ``renew``; the plugin runs only where there is none."""
        return self._shared.answer or self._answer(None)

    def _answer(self, timeout: float | None) -> _Answer:
        shared = self._shared
        answer = shared.current()
        if answer is None:
            self.policy.check(self.settings)
            limit = TIMEOUT if timeout is None else min(timeout, TIMEOUT)
            ends = time.monotonic() + limit
            if not shared.lock.acquire(timeout=limit):
                raise self._error(f"it was running for another connection and did not end within {limit:g} s")
            try:
                answer = shared.current()
                if answer is None:
                    answer = shared.answer = self._run(max(0.0, ends - time.monotonic()))
            finally:
                shared.lock.release()
        return answer

    # -- one run -----------------------------------------------------------------------------------------------------

    def _run(self, timeout: float) -> _Answer:
        settings = self.settings
        program = _find(settings.command)
        if program is None:
            raise ExecPluginNotFound(
                f"the credential plugin {printable(settings.command)!r} of {settings.user} is not installed: "
                "there is no such program",
                hint=_words(settings.install_hint) or "install it, or correct the kubeconfig",
            )
        interactive = self._interactive()
        environment = {**os.environ, **dict(settings.env), VARIABLE: self._info(interactive)}
        try:
            process = subprocess.Popen(
                [settings.command, *settings.args],
                executable=program,
                env=environment,
                stdin=None if interactive else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
            )
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise self._error(f"it cannot be started: {why}") from None
        with process:
            try:
                output, _ = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                raise self._error(f"it did not end within {timeout:g} s, and was killed") from None
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            how = f"exit code {process.returncode}" if process.returncode > 0 else f"signal {-process.returncode}"
            hint = _words(settings.install_hint) or "its own message, if it wrote one, is on stderr"
            raise self._error(f"it failed with {how}", hint)
        return self._read(output)

    def _interactive(self) -> bool:
        mode = self.settings.interactive
        if mode == "Never":
            return False
        terminal = _stdin_is_terminal()
        if mode == "Always" and not terminal:
            raise self._error(
                "it needs a terminal to ask on (interactiveMode: Always), and standard input is none",
                "run this on a terminal, or log in by other means first",
            )
        return terminal

    def _info(self, interactive: bool) -> str:
        cluster = f'"cluster":{self.settings.cluster},' if self.settings.cluster else ""
        return (
            f'{{"kind":"ExecCredential","apiVersion":{json.dumps(self.settings.api_version)},'
            f'"spec":{{{cluster}"interactive":{json.dumps(interactive)}}}}}'
        )

    def _read(self, output: bytes) -> _Answer:
        if len(output) > ANSWER_LIMIT:
            raise self._error(f"it answered more than {ANSWER_LIMIT} bytes")
        try:
            answer = json.loads(output)
        except (ValueError, RecursionError):
            raise self._error("what it wrote to stdout is not JSON") from None
        if not isinstance(answer, dict) or answer.get("kind") != "ExecCredential":
            raise self._error("it did not answer an ExecCredential")
        version = answer.get("apiVersion")
        if version != self.settings.api_version:
            said = printable(repr(version), limit=80)
            raise self._error(f"it is configured for {self.settings.api_version}, and answered {said}")
        status = answer.get("status")
        if not isinstance(status, dict):
            raise self._error("its answer has no status")
        token, certificate, key = (self._text(status, name) for name in _STATUS)
        if bool(certificate) != bool(key):
            raise self._error("it answered a certificate or a key, and not both")
        if not token and not certificate:
            raise self._error("it answered neither a token nor a certificate with its key")
        if token:
            try:
                BearerToken(token)
            except CredentialsError as error:
                raise self._error(f"its token cannot be used: {error.cause}") from None
        pair = ClientCertificate(certificate.encode(), key.encode()) if certificate else None
        return _Answer(token.strip() or None, pair, self._expiry(status), time.monotonic())

    def _text(self, status: Mapping[str, Any], name: str) -> str:
        value = status.get(name)
        if not isinstance(value, str | None):
            raise self._error(f"its status.{name} is not text")
        return value or ""

    def _expiry(self, status: Mapping[str, Any]) -> float | None:
        said = self._text(status, "expirationTimestamp")
        if not said:
            return None
        when = parse_rfc3339(said)
        if when is None:
            raise self._error(f"its expirationTimestamp is not a time of RFC 3339: {printable(repr(said), limit=80)}")
        return when

    def _error(self, what: str, hint: str = "run it by hand to see what it does") -> ExecPluginError:
        settings = self.settings
        return ExecPluginError(
            f"the credential plugin {printable(settings.command)!r} of {settings.user} gave no credentials: {what}",
            hint=hint,
        )


class _PluginCertificate(Credentials):
    """The certificate of a plugin, without its token."""

    __slots__ = ("_plugin",)

    def __init__(self, plugin: ExecPlugin) -> None:
        self._plugin = plugin

    def __repr__(self) -> str:
        return f"{self._plugin!r}.certificate_only()"

    def fresh(self, now: float) -> bool:
        return self._plugin.fresh(now)

    def renew(self, timeout: float | None = None) -> None:
        self._plugin.renew(timeout)

    def version(self) -> object:
        return self._plugin.version()

    def load_into(self, context: ssl.SSLContext) -> None:
        self._plugin.load_into(context)

    def rejected(self, taken: float) -> bool:
        return self._plugin.rejected(taken)

    def complaint(self) -> str:
        return self._plugin.complaint()


_STATUS: Final = ("token", "clientCertificateData", "clientKeyData")


def cluster_info(
    *,
    server: str,
    server_name: str | None,
    verify: bool,
    ca: bytes | None,
    proxy: str | None,
    disable_compression: bool,
    config: object,
) -> str:
    """``spec.cluster`` for a plugin with ``provideClusterInfo``, as JSON."""
    info: dict[str, object] = {"server": server}
    optional: Sequence[tuple[str, object]] = (
        ("tls-server-name", server_name),
        ("insecure-skip-tls-verify", not verify),
        ("certificate-authority-data", base64.b64encode(ca).decode() if ca else ""),
        ("proxy-url", proxy),
        ("disable-compression", disable_compression),
    )
    info |= {name: value for name, value in optional if value}
    info["config"] = config
    return json.dumps(info, separators=(",", ":"))


def _find(command: str) -> str | None:
    """The file that would run. Only absolute folders of PATH count, so nothing of the current folder runs by chance."""
    if os.path.basename(command) != command:
        path = os.path.abspath(command)
        return path if os.access(path, os.X_OK) and not os.path.isdir(path) else None
    folders = [folder for folder in os.environ.get("PATH", os.defpath).split(os.pathsep) if os.path.isabs(folder)]
    return shutil.which(command, path=os.pathsep.join(folders)) if folders else None


def _stdin_is_terminal() -> bool:
    try:
        return sys.stdin is not None and os.isatty(0)
    except OSError:
        return False


def _words(hint: str) -> str:
    """An install hint, on one line and without control sequences: the kubeconfig's author wrote it."""
    return printable(" ".join(hint.split()), limit=500)


_TIME: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII
)


def parse_rfc3339(text: str) -> float | None:
    """Seconds of the epoch, or None for what is no time of RFC 3339."""
    found = _TIME.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
    if not (1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second <= 60):
        return None
    seconds = calendar.timegm((year, month, day, hour, minute, second)) if year else 0
    offset = (int(found[9]) * 60 + int(found[10])) * 60 if found[8] else 0
    return seconds + float(f"0.{found[7] or 0}") - (offset if found[8] != "-" else -offset)
