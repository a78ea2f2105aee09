"""What can go wrong with a copy, beyond what can go wrong with the commands that it runs.

::

    ClientError                                (kubeletclient.errors)
      CopyError                                abstract: ``report`` says what was done before it
        BadPath(ValueError)                    a source or target that cannot be meant
        SourceMissing(FileNotFoundError)       a source does not exist
        NoStrategy                             the container has no tools that a copy can use
        RemoteToolFailed                       a command of the copy failed in the container; its stderr is in the text
        LocalFileFailed(OSError)               this machine refused: no space, no permission, read-only
        SourceChanged                          a file changed while it was copied
        VerificationFailed                     what arrived is not what was sent
        ArchiveError                           the stream from the container is no archive, or crosses a limit
        UnsafeEntry                            a name that leaves the target, or an entry that would be written through
                                               a link
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubeletclient.errors import ClientError

if TYPE_CHECKING:
    from kubeletclient.copy.report import CopyReport

__all__ = [
    "ArchiveError",
    "BadPath",
    "CopyError",
    "LocalFileFailed",
    "NoStrategy",
    "RemoteToolFailed",
    "SourceChanged",
    "SourceMissing",
    "UnsafeEntry",
    "VerificationFailed",
]


class CopyError(ClientError):
    """A copy did not succeed. No file under a final name is incomplete; what is left for a resume is named in the
    report.
    """

    report: CopyReport | None = None
    """What had been copied and verified by then."""


class BadPath(CopyError, ValueError):
    """A source or target that cannot be meant."""


class SourceMissing(CopyError, FileNotFoundError):
    """A source does not exist, or a wildcard matches nothing."""


class NoStrategy(CopyError):
    """The container has no tools that a copy can use; the text lists what was looked for."""


class RemoteToolFailed(CopyError):
    """A command of the copy failed in the container."""


class LocalFileFailed(CopyError, OSError):
    """This machine refused an operation on a file; ``__cause__`` is its own error."""


class SourceChanged(CopyError):
    """A file changed while it was copied, so that no consistent copy of it exists."""


class VerificationFailed(CopyError):
    """What arrived is not what was sent."""


class ArchiveError(CopyError):
    """The stream from the container is no archive, is cut off, or crosses a limit."""


class UnsafeEntry(CopyError):
    """An entry that would be written outside the target, or through a link."""
