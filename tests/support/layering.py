"""The rules of the layers, checked by reading the imports of a source tree; nothing is imported or run.

Every import counts wherever it stands: in a function, under ``TYPE_CHECKING``, relative, or spelled as
``importlib.import_module("name")`` with a literal name. ``from package import name`` counts as ``package.name`` where
that is a module of the tree, so that a codec module may be taken from a package whose other modules are out of bounds.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("spdyproto", "kubeletclient", "fakekubelet", "streamspec", "kubewire")
"""The import packages of the distribution; those that a tree does not have are passed over."""

NOT_SHIPPED = ("tests", "support", "benchmarks", "tools")
"""Folders beside the packages: they may import anything, nothing imports them."""

CORE = frozenset({"h11", "h2", "httpx", "httpcore", "cryptography", "click", "rich", "yaml"})
"""What a plain install brings. Anything else is an extra, and is imported only inside a function."""

ACCELERATORS = {"spdyproto.websocket.masking": frozenset({"numpy", "websockets"})}
"""Optional speed-ups behind one function: the only foreign modules that an engine may use, where they are installed."""

MODULE_LINES = 550
FUNCTION_LINES = 60
"""A screen, not counting the docstring."""

OUTSIDE_WORLD = frozenset(
    "socket _socket socketserver select selectors asyncio threading _thread concurrent multiprocessing subprocess"
    " signal time logging http".split()
)
"""Modules of the standard library that a sans-I/O engine has no use for: sockets, threads, processes, clocks, logs."""

CODECS = frozenset(
    """
    spdyproto.types spdyproto.limits spdyproto.errors
    spdyproto.spdy.constants spdyproto.spdy.dictionary spdyproto.spdy.headers spdyproto.spdy.frames
    spdyproto.websocket.constants spdyproto.websocket.masking spdyproto.websocket.frames
    spdyproto.channels.subprotocols spdyproto.channels.status
    """.split()
)
"""What the conformance suite may use: stateless encoders and decoders, so that it can break every rule of an engine."""


@dataclass(frozen=True)
class Import:
    """One import statement, resolved to the full name of the module that it reaches."""

    importer: str
    target: str
    path: Path
    line: int
    deferred: bool  # inside a function, so it runs only when that function is called

    @property
    def top(self) -> str:
        return self.target.partition(".")[0]


@dataclass(frozen=True)
class Module:
    """One source file: its dotted name and its parsed text."""

    name: str
    path: Path
    tree: ast.Module
    lines: int

    @property
    def package(self) -> str:
        """What relative imports start from."""
        return self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]


def within(name: str, *packages: str) -> bool:
    """Whether `name` is one of these packages or lies in one."""
    return any(name == package or name.startswith(package + ".") for package in packages)


def read_tree(root: Path, folders: tuple[str, ...] = PACKAGES) -> dict[str, Module]:
    """All modules of `folders` under `root`, by dotted name."""
    modules = {}
    for folder in folders:
        for path in sorted((root / folder).rglob("*.py")):
            relative = path.relative_to(root).with_suffix("")
            parts = relative.parts[:-1] if relative.name == "__init__" else relative.parts
            text = path.read_text(encoding="utf-8")
            name = ".".join(parts)
            modules[name] = Module(name, path, ast.parse(text, str(path)), len(text.splitlines()))
    return modules


def _targets(node: ast.AST, module: Module, known: frozenset[str]) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parts = module.package.split(".")
            base = ".".join([*parts[: len(parts) - node.level + 1], *([node.module] if node.module else [])])
        full = [f"{base}.{alias.name}" for alias in node.names]
        return [name if name in known else base for name in full]
    if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        name = node.args[0].value
        if called in ("import_module", "__import__") and isinstance(name, str):
            return [module.package + name if name.startswith(".") else name]
    return []


def imports_of(module: Module, known: frozenset[str]) -> Iterator[Import]:
    """Every import in `module`; `known` are the module names of the tree."""
    pending: list[tuple[ast.AST, bool]] = [(module.tree, False)]
    while pending:
        node, deferred = pending.pop()
        for target in dict.fromkeys(_targets(node, module, known)):
            yield Import(module.name, target, module.path, getattr(node, "lineno", 0), deferred)
        inside = deferred or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        pending += [(child, inside) for child in ast.iter_child_nodes(node)]


def _spdyproto(found: Import) -> str | None:
    if found.top in OUTSIDE_WORLD:
        return "an engine does no I/O and knows no clock, thread or log"
    if found.top == "ssl" and found.importer != "spdyproto.tls":
        return "only spdyproto.tls touches ssl"
    if found.deferred and found.top in ACCELERATORS.get(found.importer, ()):
        return None
    if found.top == "h11":
        return None if found.importer == "spdyproto.http" else "only spdyproto.http parses HTTP heads"
    if found.top not in sys.stdlib_module_names and found.top != "spdyproto":
        return "spdyproto stands on the standard library and h11"
    layers = ("spdyproto.spdy", "spdyproto.websocket", "spdyproto.channels")
    below = [layer for layer in layers if within(found.target, layer) and not within(found.importer, layer)]
    if (
        below
        and found.target not in CODECS
        and not within(found.importer, "spdyproto.channels")
        and found.importer != "spdyproto"
    ):
        return "only channels stands on the engines; engines and shared modules stand apart"
    return None


def _kubeletclient(found: Import) -> str | None:
    if found.top in PACKAGES and found.top not in ("kubeletclient", "spdyproto"):
        return "kubeletclient stands on spdyproto alone"
    sync, aio = "kubeletclient.sync", "kubeletclient.aio"
    if within(found.importer, sync) and (within(found.target, aio) or found.top == "asyncio"):
        return "the blocking flavour never loads the asyncio one"
    if within(found.importer, aio) and within(found.target, sync):
        return "the asyncio flavour never loads the blocking one"
    if found.importer.startswith("kubeletclient._") and within(found.target, sync, aio):
        return "what both flavours share stands below both"
    return None


def _fakekubelet(found: Import) -> str | None:
    if found.top in PACKAGES and found.top not in ("fakekubelet", "spdyproto"):
        return "fakekubelet stands on spdyproto alone: a fault of the client must not hide in its own test server"
    return None


def _streamspec(found: Import) -> str | None:
    if found.top == "spdyproto":
        return None if found.target in CODECS else "the judge uses codecs, never the engines that it judges"
    if found.top in PACKAGES and found.top != "streamspec":
        return "the judge stands on the codecs of spdyproto alone"
    return None


RULES: dict[str, Callable[[Import], str | None]] = {
    "spdyproto": _spdyproto,
    "kubeletclient": _kubeletclient,
    "fakekubelet": _fakekubelet,
    "streamspec": _streamspec,
}


def _everyone(found: Import, plugins: frozenset[str]) -> str | None:
    importer = found.importer.partition(".")[0]
    if found.top == "kubewire" and importer != "kubewire":
        return "nothing imports the command line"
    if found.top in NOT_SHIPPED:
        return "the packages never import what is not shipped with them"
    third_party = found.top not in sys.stdlib_module_names and found.top not in PACKAGES
    if third_party and found.top not in CORE and not found.deferred and found.importer not in plugins:
        return "an optional dependency is imported only inside the function that needs it"
    return None


def check_imports(root: Path, *, plugins: frozenset[str] = frozenset()) -> list[str]:
    """Every import under `root` that breaks a rule, one readable line each.

    `plugins` are modules that only ever run inside an optional dependency (a pytest plugin in pytest), and so may
    import it at their top.
    """
    modules = read_tree(root)
    known = frozenset(modules)
    complaints = []
    for module in modules.values():
        rule = RULES.get(module.name.partition(".")[0])
        for found in imports_of(module, known):
            reason = _everyone(found, plugins) or (rule(found) if rule else None)
            if reason:
                where = f"{found.path.relative_to(root)}:{found.line}"
                complaints.append(f"{where}: imports {found.target}: {reason}")
    return sorted(complaints)


def _function_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    first = node.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def check_sizes(root: Path, folders: tuple[str, ...]) -> list[str]:
    """Modules and functions under `folders` that outgrew the limits."""
    complaints = []
    for module in read_tree(root, folders).values():
        where = module.path.relative_to(root)
        if module.lines > MODULE_LINES:
            complaints.append(f"{where}: {module.lines} lines, at most {MODULE_LINES}: split it by concern")
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _function_lines(node) > FUNCTION_LINES:
                lines = _function_lines(node)
                complaints.append(f"{where}:{node.lineno}: {node.name} has {lines} lines, at most {FUNCTION_LINES}")
    return complaints


def check_typed(root: Path) -> list[str]:
    """Packages under `root` without a ``py.typed``: without it type checkers ignore all their annotations."""
    present = [name for name in PACKAGES if (root / name / "__init__.py").exists()]
    return [f"{name}: no py.typed" for name in present if not (root / name / "py.typed").exists()]
