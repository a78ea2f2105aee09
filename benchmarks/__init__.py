"""What kubewire costs, beside Go's implementation and beside the bare TLS loops of the standard library.

``python -m benchmarks`` runs everything; ``docs/performance.md`` says what is measured and how to read it.
"""
