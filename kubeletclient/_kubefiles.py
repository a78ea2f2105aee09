"""Kubeconfig files: found, read, checked and merged, as client-go does it.

Three rules carry most of it (``client-go: tools/clientcmd/loader.go``). A file that was named must exist; of the list
in ``KUBECONFIG`` those that are missing are passed over, and one that cannot be parsed spoils all. Of two files that
define the same name the first one's entry is taken whole, and nothing of the other's. Relative paths are relative to
the folder of the file that they stand in.

Values are read as strictly as a Go decoder reads them: a number where text belongs is a fault, an unknown field is
not, and a name that stands twice in one file is. YAML is that of go-yaml: dates and numbers to base 60 are text.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import yaml

from kubeletclient.errors import KubeconfigError
from spdyproto.limits import MIB
from spdyproto.text import printable

__all__ = ["Entry", "Kubefiles", "default_paths", "read_kubefiles"]

FILE_LIMIT: Final = 16 * MIB
"""Bytes of one file. The largest that are seen, with the certificates of a thousand clusters, have about 10 MiB."""

Fields: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """One named entry, with the file that it came from. Its fields may be secret, so they are not shown."""

    kind: str
    name: str
    file: str
    fields: Fields = field(repr=False)

    def __str__(self) -> str:
        return f"{self.kind} {printable(repr(self.name), limit=200)}"

    def path(self, name: str) -> str:
        """The path in this field, made absolute; empty if there is none."""
        value: str = self.fields.get(name) or ""
        return os.path.join(os.path.abspath(os.path.dirname(self.file)), value) if value else ""


@dataclass(frozen=True, slots=True)
class Kubefiles:
    """What all files say together. ``files`` are those that were read, ``missing`` those that are not there."""

    files: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    current_context: str = ""
    clusters: Mapping[str, Entry] = field(default_factory=dict)
    users: Mapping[str, Entry] = field(default_factory=dict)
    contexts: Mapping[str, Entry] = field(default_factory=dict)


def default_paths(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The list in ``KUBECONFIG`` without empty and repeated entries, else ``~/.kube/config``."""
    listed = tuple(dict.fromkeys(path for path in environ.get("KUBECONFIG", "").split(os.pathsep) if path))
    if listed:
        return listed
    home = environ.get("HOME") or os.path.expanduser("~")
    return (os.path.join(home, ".kube", "config"),)


def read_kubefiles(paths: Sequence[str], *, must_exist: bool) -> Kubefiles:
    """Read and merge ``paths``, the first of them strongest. Raises KubeconfigError."""
    read: list[tuple[str, Fields]] = []
    missing: list[str] = []
    for path in paths:
        content = _content(path, must_exist)
        if content is None:
            missing.append(path)
        else:
            read.append((path, _document(path, content)))
    current = ""
    merged: dict[str, dict[str, Entry]] = {"cluster": {}, "user": {}, "context": {}}
    for path, document in read:
        current = current or document["current-context"]
        for kind, entries in merged.items():
            for name, fields in document[kind].items():
                entries.setdefault(name, Entry(kind, name, path, fields))
    files = tuple(path for path, _ in read)
    return Kubefiles(files, tuple(missing), current, merged["cluster"], merged["user"], merged["context"])


def fault(cause: str, hint: str, *, file: str = "", entry: str = "") -> KubeconfigError:
    """The error for one fault."""
    error = KubeconfigError(cause, hint=hint)
    error.file, error.entry, error.problems = file, entry, (cause,)
    return error


def _content(path: str, must_exist: bool) -> bytes | None:
    try:
        with open(path, "rb") as stream:
            content = stream.read(FILE_LIMIT + 1)
    except FileNotFoundError:
        if not must_exist:
            return None
        raise fault(f"the kubeconfig file {path} does not exist", "check the path", file=path) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise fault(
            f"the kubeconfig file {path} cannot be read: {why}", "check the path and its permissions", file=path
        ) from error
    if len(content) > FILE_LIMIT:
        raise fault(f"{path} is larger than {FILE_LIMIT} bytes", "check that it is a kubeconfig file", file=path)
    return content


# -- one file --------------------------------------------------------------------------------------------------------


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # one of two, and both are loaders
    """YAML as go-yaml reads it into JSON."""


_NUMBERS: Final = {"tag:yaml.org,2002:int", "tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp"}
_Loader.yaml_implicit_resolvers = {
    first: [rule for rule in rules if rule[0] not in _NUMBERS]
    for first, rules in _Loader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int",
    re.compile(r"[-+]?(?:0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|[1-9][0-9_]*|0)$"),
    [*"-+0123456789"],
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"[yYnN]$"), [*"yYnN"])
_Loader.add_constructor(
    "tag:yaml.org,2002:bool",
    lambda loader, node: loader.construct_scalar(node).lower() in ("y", "yes", "true", "on"),
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$|[-+]?\.(?:inf|Inf|INF)$|\.(?:nan|NaN|NAN)$"
    ),
    [*"-+.0123456789"],
)


def _document(path: str, content: bytes) -> Fields:
    try:
        value = _parse(content)
        return _Reader(path).document(value)
    except _Unfit as error:
        raise fault(
            f"{path} is not a usable kubeconfig: {error}", "correct that field", file=path, entry=error.where
        ) from None
    except yaml.YAMLError as error:
        raise fault(
            f"{path} cannot be parsed as YAML: {_yaml_reason(error)}", "correct the file at that place", file=path
        ) from None  # PyYAML's own text quotes the line, which may be a secret
    except (RecursionError, ValueError):  # ValueError: a number of more than 4300 digits
        raise fault(
            f"{path} is nested too deeply, or holds a number too long to be one",
            "check that it is a kubeconfig file",
            file=path,
        ) from None


def _parse(content: bytes) -> object:
    if content.lstrip()[:1] == b"{":  # JSON, which YAML reads but for tabs
        try:
            return json.loads(content)
        except ValueError:
            pass
    loader = _Loader(content)
    try:
        return loader.get_data() if loader.check_data() else None
    finally:
        loader.dispose()


def _yaml_reason(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        return printable(f"{error.problem or error.context or 'a mistake'}{where}", limit=200)
    return "it holds bytes or characters that no YAML text holds"


class _Unfit(Exception):
    """A value of the wrong kind; ``where`` is the entry that it stands in."""

    def __init__(self, where: str, text: str) -> None:
        super().__init__(f"{where}: {text}" if where else text)
        self.where = where


_Read: TypeAlias = "Callable[[_Reader, object, str], Any]"


class _Reader:
    """Reads one document. Unknown fields are passed over, as they may belong to other programs."""

    def __init__(self, path: str) -> None:
        self._where = ""

    def document(self, value: object) -> Fields:
        top = self.mapping(value, "the document")
        for name, expected in (("apiVersion", "v1"), ("kind", "Config")):
            said = self.text(top.get(name), name)
            if said not in ("", expected):
                raise self._unfit(name, f"must be {expected!r}, and is {printable(repr(said), limit=80)}")
        return {
            "current-context": self.text(top.get("current-context"), "current-context"),
            "cluster": self._named(top, "clusters", "cluster", _CLUSTER),
            "user": self._named(top, "users", "user", _USER),
            "context": self._named(top, "contexts", "context", _CONTEXT),
        }

    def _named(self, top: Mapping[str, Any], section: str, kind: str, schema: Mapping[str, _Read]) -> dict[str, Fields]:
        found: dict[str, Fields] = {}
        for number, item in enumerate(self.items(top.get(section), section)):
            self._where = f"{section}[{number}]"
            entry = self.mapping(item, "")
            name = self.text(entry.get("name"), "name")
            self._where = f"{kind} {printable(repr(name), limit=200)}"
            if name in found:
                raise _Unfit(self._where, "this name stands twice in the file")
            found[name] = self.fields(entry.get(kind), kind, schema)
            self._where = ""
        return found

    def fields(self, value: object, name: str, schema: Mapping[str, _Read]) -> Fields:
        given = self.mapping(value, name)
        return {key: read(self, given[key], key) for key, read in schema.items() if given.get(key) is not None}

    # Each of these takes null for nothing, as the decoders of Go do.

    def text(self, value: object, name: str) -> str:
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self._unfit(name, f"must be text, and is {_kind(value)} (quote it)")
        return value

    def flag(self, value: object, name: str) -> bool:
        if not isinstance(value, bool | None):
            raise self._unfit(name, f"must be true or false, and is {_kind(value)}")
        return bool(value)

    def data(self, value: object, name: str) -> bytes:
        text = self.text(value, name).replace("\n", "").replace("\r", "")
        try:
            return base64.b64decode(text.encode("ascii"), validate=True)
        except (binascii.Error, UnicodeEncodeError):
            raise self._unfit(name, "is not base64") from None

    def mapping(self, value: object, name: str) -> Mapping[str, Any]:
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self._unfit(name, f"must be a mapping, and is {_kind(value)}")
        return value

    def items(self, value: object, name: str) -> Sequence[object]:
        if value is None:
            return ()
        if not isinstance(value, list):
            raise self._unfit(name, f"must be a list, and is {_kind(value)}")
        return value

    def texts(self, value: object, name: str) -> tuple[str, ...]:
        return tuple(self.text(item, name) for item in self.items(value, name))

    def extra(self, value: object, name: str) -> dict[str, tuple[str, ...]]:
        return {str(key): self.texts(values, f"{name}.{key}") for key, values in self.mapping(value, name).items()}

    def environment(self, value: object, name: str) -> tuple[tuple[str, str], ...]:
        pairs = [self.mapping(item, name) for item in self.items(value, name)]
        return tuple((self.text(pair.get("name"), name), self.text(pair.get("value"), name)) for pair in pairs)

    def extensions(self, value: object, name: str) -> dict[str, object]:
        named = [self.mapping(item, name) for item in self.items(value, name)]
        found: dict[str, object] = {}
        for item in named:
            key = self.text(item.get("name"), name)
            if key in found:
                raise self._unfit(name, f"{printable(repr(key), limit=80)} stands twice")
            found[key] = item.get("extension")
        return found

    def plugin(self, value: object, name: str) -> Fields:
        return self.fields(value, name, _EXEC)

    def anything(self, value: object, name: str) -> Mapping[str, Any]:
        return self.mapping(value, name)

    def _unfit(self, name: str, text: str) -> _Unfit:
        return _Unfit(self._where, f"{printable(name, limit=80)} {text}" if name else text)


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "a truth value"
    kinds: dict[type, str] = {int: "a number", float: "a number", str: "text", list: "a list", dict: "a mapping"}
    return kinds.get(type(value), "something else")


_CLUSTER: Final[Mapping[str, _Read]] = {
    "server": _Reader.text,
    "tls-server-name": _Reader.text,
    "insecure-skip-tls-verify": _Reader.flag,
    "certificate-authority": _Reader.text,
    "certificate-authority-data": _Reader.data,
    "proxy-url": _Reader.text,
    "disable-compression": _Reader.flag,
    "extensions": _Reader.extensions,
}
_USER: Final[Mapping[str, _Read]] = {
    "client-certificate": _Reader.text,
    "client-certificate-data": _Reader.data,
    "client-key": _Reader.text,
    "client-key-data": _Reader.data,
    "token": _Reader.text,
    "tokenFile": _Reader.text,
    "as": _Reader.text,
    "as-uid": _Reader.text,
    "as-groups": _Reader.texts,
    "as-user-extra": _Reader.extra,
    "username": _Reader.text,
    "password": _Reader.text,
    "auth-provider": _Reader.anything,
    "exec": _Reader.plugin,
}
_CONTEXT: Final[Mapping[str, _Read]] = {
    "cluster": _Reader.text,
    "user": _Reader.text,
    "namespace": _Reader.text,
}
_EXEC: Final[Mapping[str, _Read]] = {
    "command": _Reader.text,
    "args": _Reader.texts,
    "env": _Reader.environment,
    "apiVersion": _Reader.text,
    "installHint": _Reader.text,
    "provideClusterInfo": _Reader.flag,
    "interactiveMode": _Reader.text,
}
