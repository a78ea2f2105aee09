"""Text of a peer on its way into our own messages."""

from __future__ import annotations


def printable(text: str, *, limit: int | None = None, multiline: bool = False) -> str:
    r"""``text`` with every character escaped that a terminal would act on rather than show.

    A server chooses the text of statuses, refusals and names; sent to a terminal as it is, it can recolour, overwrite
    or retitle what the person at it believes to see (CVE-2021-25743). Escaped are control characters (``\x1b``,
    ``\r``), direction overrides and other invisible ones, and lone surrogates, which cannot be encoded. Payload never
    goes through here: what a command prints is its own affair.

    ``multiline`` keeps line feeds and tabs. With ``limit``, text longer than that many characters is cut, and the cut
    is shown with the number of characters left out.
    """
    left_out = 0
    if limit is not None and len(text) > limit:
        left_out = len(text) - limit
        text = text[:limit]
    if not text.isprintable():
        kept = "\n\t" if multiline else ""
        text = "".join(
            char if char.isprintable() or char in kept else char.encode("unicode_escape").decode("ascii")
            for char in text
        )
    return f"{text}... ({left_out} more characters)" if left_out else text
