"""Fuzz targets, their saved corpora, and the driver that runs them.

A target is a module ``fuzz_<name>.py`` beside this file with

- ``one_input(data: bytes) -> None``, whose docstring states the invariant and which raises when it does not hold, and
- optionally ``TOKENS``, byte strings that the mutator shall know, and ``MAX_SIZE``, the largest worth trying.

Its corpus is the folder ``corpus/<name>``: one input per file, named for what it shows. ``test_corpus.py`` finds
targets and corpora by itself and replays them in every test run. To search, from the top of the repository::

    python -m tests.fuzz status upgrade --seconds 60 --seed 1

An input that breaks the invariant is shrunk and written to ``build/fuzz``: mend the code, then move it to the corpus.
"""
