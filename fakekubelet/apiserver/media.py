"""In which form a client wants its answer: the ``Accept`` header as an apiserver reads it.

Only JSON is spoken; a client that would rather have protobuf says, as all do, that JSON will do as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Form:
    """A media type with the parameters that Kubernetes gives a meaning: ``as`` another kind, of group and version."""

    kind: str = ""
    group: str = ""
    version: str = ""

    @property
    def media_type(self) -> str:
        """For ``Content-Type``."""
        if not self.kind:
            return "application/json"
        return f"application/json;g={self.group};v={self.version};as={self.kind}"


PLAIN = Form()


def accepted(headers: Sequence[str], *, kinds: Sequence[tuple[str, str, str]] = ()) -> Form | None:
    """The first form of the header lines that can be had: plain JSON, or one of ``kinds`` (kind, group, version).

    None if there is none (406). Order counts and quality does not, which is how clients of Kubernetes write it.
    """
    offers = [each.strip() for line in headers for each in line.split(",") if each.strip()]
    if not offers:
        return PLAIN
    for offer in offers:
        media, *rest = (part.strip() for part in offer.split(";"))
        if media.lower() not in ("application/json", "application/*", "*/*"):
            continue
        parameters = {}
        for part in rest:
            key, _, value = part.partition("=")
            parameters[key.strip()] = value.strip()
        kind = parameters.get("as", "")
        if not kind:
            return PLAIN
        form = (kind, parameters.get("g", ""), parameters.get("v", ""))
        if form in kinds:
            return Form(*form)
    return None
