# From a fresh clone, with python3 (3.11 or newer) and make: `make demo` or `make test`. Nothing else to do first.
# All paths are relative, so the clone may lie in a folder whose name holds spaces.

PYTHON ?= python3
# Extra arguments for pytest, e.g. make test PYTEST_ARGS='-x -k exec'
PYTEST_ARGS ?=
# One worker per core; a file's tests stay on one worker, so that what a module sets up is set up once.
PYTEST = .venv/bin/python -m pytest -n auto --dist loadfile
# What mypy and ruff read; folders that do not exist yet are left out.
SOURCES = $(wildcard spdyproto kubeletclient fakekubelet streamspec kubewire tests benchmarks tools)

export PIP_DISABLE_PIP_VERSION_CHECK = 1
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL = help
.DELETE_ON_ERROR:
.PHONY: help setup demo test peers interop lint types bench soak wheel ci clean

help: ## list the targets
	@grep -E '^[a-z]+:.*## ' Makefile | while IFS=: read -r name rest; do printf '%-9s%s\n' "$$name" "$${rest##*##}"; done

setup: .venv/.ready ## make the environment in .venv (the other targets do it themselves)

.venv/.ready: pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit("kubewire needs Python 3.11 or newer, and $(PYTHON) is " + sys.version.split()[0] + "; name another: make PYTHON=python3.12 ..." if sys.version_info < (3, 11) else 0)'
	@"$(PYTHON)" -c 'import ensurepip, venv' || { echo 'this Python cannot make environments: install its venv package (Debian: python3-venv)' >&2; exit 1; }
	@echo 'setting up .venv (once; again only when pyproject.toml changes)'
	@"$(PYTHON)" -m venv .venv
	@.venv/bin/python -m pip install --quiet --editable '.[test]'
	@touch .venv/.ready

demo: .venv/.ready ## start a fake kubelet, run commands in it, push 256 MiB each way
	@.venv/bin/python -m kubewire.demo

test: .venv/.ready ## all tests; those that need Go are skipped, with the reason, where it is missing
	@$(MAKE) peers || echo 'some peers are missing: their tests will be skipped' >&2
	@$(PYTEST) $(PYTEST_ARGS)

# Minutes on a machine that never did it, so it is done ahead of the tests, which have a time limit each.
peers: .venv/.ready ## fetch and compile what the peers are made of, as far as this machine can
	@if command -v go >/dev/null; then cd tests/interop/go && go build -buildvcs=false ./...; fi
	@cd tests && ../.venv/bin/python -m support.wsjudges
	@cd tests && ../.venv/bin/python -m support.pyclients

interop: .venv/.ready peers ## only the tests against the Go peers, which must be there
	@KUBEWIRE_REQUIRE_PEERS=1 $(PYTEST) -m 'interop and not soak' $(PYTEST_ARGS)

soak: .venv/.ready peers ## the long tests: minutes each
	@KUBEWIRE_REQUIRE_PEERS=1 .venv/bin/python -m pytest -m soak --timeout 3600 $(PYTEST_ARGS)

lint: .venv/.ready ## style and the order of the code
	@.venv/bin/python -m ruff check $(SOURCES)
	@.venv/bin/python -m ruff format --check $(SOURCES)

types: .venv/.ready ## mypy --strict over everything, tests and benchmarks too
	@.venv/bin/python -m mypy $(SOURCES)

bench: .venv/.ready peers ## the benchmark against the Go peers; takes minutes
	@.venv/bin/python -m benchmarks

wheel: .venv/.ready ## build the wheel, install it in a clean environment, smoke-test it there
	@rm -rf build/dist build/clean && mkdir -p build
	@.venv/bin/python -m build --outdir build/dist . >build/build.log 2>&1 || { cat build/build.log >&2; exit 1; }
	@"$(PYTHON)" -m venv build/clean
	@build/clean/bin/python -m pip install --quiet build/dist/kubewire-*.whl
	@build/clean/bin/python -I tools/smoke.py

# One after another whatever -j says, and pytest last, so that its closing line ends the run.
ci: ## what the continuous integration runs
	@$(MAKE) lint
	@$(MAKE) types
	@$(MAKE) wheel
	@$(MAKE) demo
	@KUBEWIRE_REQUIRE_PEERS=1 $(MAKE) test

clean: ## remove everything that these targets made
	@rm -rf .venv build dist tests/interop/go/bin tests/interop/python/env .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
