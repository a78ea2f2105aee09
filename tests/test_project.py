"""What the packaging says about the project is what the project is."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from pathlib import Path
from typing import Any

import kubewire
from support.layering import CORE, PACKAGES

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
IMPORT_NAME = {"pyyaml": "yaml"}


def test_core_install_brings_what_the_packages_may_import_and_nothing_else() -> None:
    names = [re.split(r"[^\w-]", requirement)[0].lower() for requirement in PYPROJECT["project"]["dependencies"]]
    assert {IMPORT_NAME.get(name, name) for name in names} == CORE


def test_every_requirement_has_a_lower_and_an_upper_bound() -> None:
    extras = PYPROJECT["project"]["optional-dependencies"].values()
    for requirement in [*PYPROJECT["project"]["dependencies"], *(line for extra in extras for line in extra)]:
        assert requirement.startswith("kubewire[") or re.fullmatch(r"[\w-]+>=[\d.]+,<[\d.]+", requirement), requirement


def test_wheel_holds_every_package() -> None:
    packaged = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert packaged == [name for name in PACKAGES if (ROOT / name).is_dir()]


def test_installed_version_is_that_of_the_source() -> None:
    assert importlib.metadata.version("kubewire") == kubewire.__version__


def test_changelog_knows_the_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(rf"^## {re.escape(kubewire.__version__)}\b", changelog, re.MULTILINE)


def test_every_make_target_named_in_the_documents_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for document in ("README.md", "CONTRIBUTING.md", ".ci/run"):
        named = set(re.findall(r"(?:`|^|exec )make ([a-z]+)", (ROOT / document).read_text(), re.MULTILINE))
        assert named, document
        assert named <= targets, document
