"""The shell scripts that a copy runs in the container: POSIX sh, for dash, bash and busybox alike.

No path is ever part of a script. Paths are arguments, and since arguments of a command travel as text through JSON and
gRPC, which take UTF-8 only, bytes outside of printable ASCII are written in the octal form that ``printf %b`` reads
(POSIX.1-2017, "printf"); ``d`` turns them back into ``$v``. The dot keeps the newlines at the end of a name, which
command substitution would drop. Every path handed to a tool is absolute or begins with ``./``, so that no name is an
option.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "CLAIM",
    "COMMIT",
    "FETCH",
    "GLOB",
    "HELP",
    "LINK",
    "LIST",
    "MAKE",
    "MANIFEST",
    "PACK",
    "PROBE",
    "PROBED",
    "REMOVE",
    "RENAME",
    "REPLACE",
    "SELECT",
    "SHOW",
    "SIZE",
    "STAGE",
    "STORE",
    "SUM",
    "SUMS",
    "TARGETS",
    "TOUCH",
    "UNPACK",
    "WHOLE",
    "argument",
    "script",
]

_PRELUDE: Final = 'd() { v=$(printf "%b." "$1"); v=${v%.}; }\n'


def argument(path: bytes) -> str:
    """A path as an argument for ``d``."""
    return "".join(chr(byte) if 0x20 <= byte < 0x7F and byte != 0x5C else f"\\0{byte:03o}" for byte in path)


def script(body: str, *arguments: bytes | str) -> list[str]:
    """The words of a command that runs ``body``; bytes are paths for ``d``, text goes as it is."""
    words = [each if isinstance(each, str) else argument(each) for each in arguments]
    return ["sh", "-c", _PRELUDE + body, "kubewire", *words]


PROBED: Final = tuple(
    "tar bsdtar busybox cat dd head tail base64 gzip zstd cksum sha256sum sha512sum sha1sum md5sum"
    " find stat xargs mv rm mkdir rmdir ln chmod chown touch readlink wc id".split()
)
"""Tools that a copy can use."""

PROBE: Final = f"""
for t in {" ".join(PROBED)}; do command -v "$t" >/dev/null 2>&1 && printf '%s\\n' "$t"; done
printf 'tar=%s\\n' "$(tar --version 2>&1)"
printf '\\nuid=%s\\n' "$(id -u 2>/dev/null)"
if dd if=/dev/null iflag=fullblock count=1 2>/dev/null; then printf 'fullblock\\n'; fi
for a; do
  d "$a"
  if [ -d "$v" ]; then k=directory; elif [ -f "$v" ]; then k=file; elif [ -e "$v" ]; then k=other
  elif [ -L "$v" ]; then k=link; else k=missing; fi
  printf 'path=%s\\n' "$k"
done
printf 'end\\n'
"""
"""Which tools there are, which tar it is, who we are, and what each path is."""

LIST: Final = """
d "$1"; cd "$v" || exit 3
shift
for a; do
  d "$a"
  find "$v" -exec stat -c '%f %s %Y %u %g %h %d:%i %n//' {} + || exit 4
done
printf 'end//\\n'
"""
"""Base, then paths below it: what there is, one line each. No path of find's holds two slashes, so "//" before the
newline ends a name that may hold newlines itself. The last line says that it is the last: runtimes have lost the end of
an output and reported success."""

MANIFEST: Final = """
d "$1"; cd "$v" || exit 3
shift
tool=$1
shift
follow=$1
shift
for a; do
  d "$a"
  find $follow "$v" -type f -exec "$tool" {} + || exit 4
done
"""
"""Base, tool, an option of find or nothing, then paths below the base: the digests of all files."""

FETCH: Final = """
d "$1"
dd if="$v" bs=1048576 skip="$2" count="$3" 2>/dev/null || exit 4
[ "$4" = - ] || dd if="$v" bs=1048576 skip="$2" count="$3" 2>/dev/null | "$4" >&2
"""
"""File, first MiB, number of MiB, tool or "-": that part of the file on stdout, its digest on stderr."""

STORE: Final = """
d "$1"
%sdd of="$v" bs=1048576 seek="$2" conv=notrunc 2>/dev/null || exit 4
[ "$4" = - ] || dd if="$v" bs=1048576 skip="$2" count="$3" 2>/dev/null | "$4"
"""
"""File, first MiB, number of MiB, tool or "-": stdin becomes that part of the file; its digest,
read back, on stdout."""

COMMIT: Final = """
merge() (
  from=$1 to=$2
  set --
  for e in "$from"/* "$from"/.[!.]* "$from"/..?*; do
    [ -e "$e" ] || [ -L "$e" ] || continue
    n=${e##*/}
    if [ -d "$to/$n" ] && [ ! -L "$to/$n" ]; then
      if [ -d "$e" ] && [ ! -L "$e" ]; then merge "$e" "$to/$n" || exit; continue; fi
      printf '%s is a directory\\n' "$to/$n" >&2; exit 5
    fi
    set -- "$@" "$e"
    if [ $# -ge 200 ]; then mv -f "$@" "$to"/ || exit; set --; fi
  done
  [ $# -eq 0 ] || mv -f "$@" "$to"/
)
d "$1"; stage=$v
d "$2"
merge "$stage" "$v" || exit
rm -rf "$stage"
"""
"""Stage, target: moves what is in the stage to its place. Each file is one rename, a directory that is new is one as
well, and one that exists takes what is new in it."""

STAGE: Final = """
d "$1"
umask 077
if [ "$2" = keep ]; then
  if [ ! -e "$v" ]; then
    for c in "$v".*; do
      if [ -d "$c" ] && [ ! -L "$c" ]; then mv "$c" "$v" || exit 4; break; fi
    done
  fi
  if [ -d "$v" ] && [ ! -L "$v" ] && [ -O "$v" ]; then exit 0; fi
fi
rm -rf "$v" || exit 4
mkdir "$v" || exit 4
"""
"""Stage, "keep" or "new". What is kept is a directory of ours; one that was claimed and not placed is taken back."""

CLAIM: Final = """
d "$1"; p=$v
d "$2"
mv "$p" "$v"
"""
"""Stage, its new name: from now on no other copy writes into it."""

REMOVE: Final = """
for a; do d "$a"; rm -rf "$v" || exit 4; done
"""
"""Paths that go, with all below them."""

UNPACK: Final = """
d "$1"; cd "$v" || exit 3
%s -x$2 -f -
"""
"""Directory, flags: unpacks stdin. The form takes a command that inflates."""

PACK: Final = """
d "$1"; cd "$v" || exit 3
flags=$2
shift 2
n=$#
for a; do d "$a"; set -- "$@" "$v"; done
shift "$n"
%s -c$flags -f - "$@"
"""
"""Directory, flags, then paths below it: an archive on stdout. The form takes tar."""

SIZE: Final = """
d "$1"
dd if=/dev/null of="$v" bs=1 seek="$2" count=0 2>/dev/null
"""
"""File, size: makes it that long."""

SUMS: Final = """
d "$1"
tool=$2
shift 2
while [ $# -ge 2 ]; do
  dd if="$v" bs=1048576 skip="$1" count="$2" 2>/dev/null | "$tool"
  shift 2
done
"""
"""File, tool, then first MiB and number of MiB of each part: a digest for each."""

TOUCH: Final = """
s=0
while [ $# -ge 3 ]; do
  d "$1"
  [ "$2" = - ] || chmod "$2" "$v" || s=6
  [ "$3" = - ] || touch -d "@$3" "$v" 2>/dev/null || s=7
  shift 3
done
exit $s
"""
"""Path, mode or "-", seconds or "-", again and again."""

MAKE: Final = """
while [ $# -ge 2 ]; do
  d "$1"
  p=$v
  if [ "$2" = / ]; then mkdir -p "$p" || exit 4; else d "$2"; rm -f "$p"; ln -s "$v" "$p" || exit 4; fi
  shift 2
done
"""
"""Path, "/" for a directory or the target of a link, again and again."""

LINK: Final = """
while [ $# -ge 2 ]; do
  d "$1"
  p=$v
  d "$2"
  ln -f "$v" "$p" || exit 4
  shift 2
done
"""
"""New name, file that it becomes a further name of, again and again."""

WHOLE: Final = {
    "cat": 'd "$1"; %scat > "$v"',
    "dd": 'd "$1"; %sdd of="$v" 2>/dev/null',
    "head": 'd "$1"; %shead -c "$2" > "$v"',
    "base64": 'd "$1"; base64 -d > "$v"%.0s',
}
"""Ways to store stdin as a file, by tool: file, size. The forms take a command that inflates; text is never packed."""

SHOW: Final = {
    "cat": 'd "$1"; cat "$v"',
    "dd": 'd "$1"; dd if="$v" bs=1048576 2>/dev/null',
    "head": 'd "$1"; head -c "$2" "$v"',
    "base64": 'd "$1"; base64 "$v"',
}
"""Ways to show a file, by tool: file, size. Text is never compressed."""

REPLACE: Final = """
d "$1"; p=$v
d "$2"
if [ "$3" != - ]; then
  s=$("$3" < "$p") || exit 4
  if [ "${s%% *}" != "$4" ]; then rm -f "$p"; printf 'differs\\n'; exit; fi
fi
mv -f "$p" "$v"
"""
"""File, target, tool or "-", digest: moves the file to its place if it has that digest; else says "differs"."""

SUM: Final = """
d "$1"
"$2" < "$v"
"""
"""File, tool: its digest."""

GLOB: Final = """
IFS=
for a; do
  d "$a"
  for f in $v; do
    if [ -e "$f" ] || [ -L "$f" ]; then printf '%s//\\n' "$f"; fi
  done
done
printf 'end//\\n'
"""
"""Patterns: what matches them. An empty IFS leaves the expansion of names as the only thing that happens to ``$v``."""

TARGETS: Final = """
for a; do d "$a"; readlink "$v" || exit 4; printf '\\000'; done
"""
"""Links: what each holds, a newline and a NUL behind it."""

SELECT: Final = """
d "$1"; cd "$v" || exit 3
%s -c$2 -f - --null %s -T -
"""
"""Directory, flags; paths below it on stdin: an archive of just these on stdout. The form takes tar and an option."""

RENAME: Final = """
d "$1"; cd "$v" || exit 3
d "$2"; p=$v
d "$3"
mv -f "./$p" "./$v"
"""
"""Directory, name, new name."""

HELP: Final = """
n=$1
shift
for p; do
  if (umask 077; mkdir "$p/$n") 2>/dev/null; then printf '%s\\n' "$p/$n"; exit 0; fi
done
"""
"""Name, then directories: makes one of that name in the first that takes it, and says where."""
