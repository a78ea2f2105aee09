"""The process in which one variant runs: ``python -m benchmarks.worker SPEC`` answers with one JSON line."""

from __future__ import annotations

import importlib
import json
import sys

from benchmarks.peers.processes import pin


def main(spec: str) -> None:
    """Pin first, import after: what is imported is placed, and its threads started, on the right core."""
    order = json.loads(spec)
    pin(order["core"])
    module, _, name = order["function"].rpartition(".")
    function = getattr(importlib.import_module(f"benchmarks.variants.{module}"), name)
    print(json.dumps(function(**order["parameters"])))


if __name__ == "__main__":
    main(sys.argv[1])
