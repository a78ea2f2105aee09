"""A kubeconfig file, whose author need not be a friend."""

from __future__ import annotations

import os
import tempfile

from kubeletclient import KubeconfigError
from kubeletclient.kubeconfig import Access, Overrides, load

MAX_SIZE = 8 * 1024
TOKENS = tuple(
    b"apiVersion: v1|kind: Config|current-context: |clusters:|users:|contexts:|- name: |cluster: |user: |context: "
    b"|server: https://|token: s3cr3t|tokenFile: |exec: |command: |env: |args: |interactiveMode: Never|extensions: "
    b"|certificate-authority-data: |as-user-extra: |proxy-url: |&a |*a |<<: *a|!!binary |!!python/object:os.system "
    b"|!!set |? |{|}|[|]|,|\n  |\n---\n|null|0x7fffffff|1:20|.inf|\xff|\xef\xbb\xbf|\x00".split(b"|")
)


def one_input(data: bytes) -> None:
    """Any file gives an Access or KubeconfigError, and nothing else; the error has a next step, and neither shows the
    token of the file.
    """
    descriptor, path = tempfile.mkstemp()
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
        for overrides in (Overrides(), Overrides(server="https://10.0.0.1")):
            outcome = _load(path, overrides)
            if isinstance(outcome, KubeconfigError):
                assert outcome.hint
                assert outcome.problems
            text = f"{outcome}{outcome!r}"
            assert text.isprintable()
            secret = b"token: s3cr3t" in data and data.count(b"s3cr3t") == 1
            assert not secret or "s3cr3t" not in text
    finally:
        os.unlink(path)


def _load(path: str, overrides: Overrides) -> Access | KubeconfigError:
    try:
        return load(path, overrides=overrides)
    except KubeconfigError as error:
        return error
