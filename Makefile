# Sluice: everything a person or a machine does with the tree goes through one of these targets.
# Needs GNU make and Python 3.11 or newer with its venv module; all else is installed into .venv from the lock files.

PYTHON  ?= python3
DATA    ?= ./data
LISTEN  ?= 127.0.0.1:8080
WORKERS ?=
ARGS    ?=
ROUNDS  ?= 500
UV      := uv==0.13.8

VENV    := .venv
BIN     := $(VENV)/bin
RUNTIME := $(VENV)/.runtime-installed
TESTS   := $(VENV)/.tests-installed
REPORTS := .reports
PIP     := $(BIN)/python -m pip --disable-pip-version-check --quiet

# What is left out of `make check`: what must have the machine to itself, and what only takes its time.
ALONE    := clients or crash or memory or swift
APART    := faults or replicas
LONG     := slow or served or postgres or s3
LEFT_OUT := $(BIN)/python -m tests.left_out

.DEFAULT_GOAL := help
.PHONY: help serve check lint lint-async unit test long replicas alone clients crash bench bench-smoke lock clean \
  system-packages todays-clients
.SUFFIXES:
.NOTPARALLEL:

help: ## this text
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-18s %s\n", $$1, $$2 }'
	@echo
	@echo "  Variables: PYTHON=$(PYTHON) DATA=$(DATA) LISTEN=$(LISTEN) WORKERS=$(WORKERS) ARGS=$(ARGS) ROUNDS=$(ROUNDS)"

serve: $(RUNTIME) ## run a registry on LISTEN that keeps everything under DATA
	@exec $(BIN)/sluice serve --data "$(DATA)" --listen "$(LISTEN)" $(if $(WORKERS),--workers "$(WORKERS)") $(ARGS)

check: lint unit ## structure, lint, types and the quick tests: a minute and a half

lint: $(TESTS)
	$(BIN)/pytest -q -p no:randomly tests/test_structure.py
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# A minute by itself, so it is not part of `make check`, where ruff's ASYNC rules stand in for it.
lint-async: $(TESTS)
	$(BIN)/flake8

unit: $(TESTS)
	$(BIN)/pytest -q -n 2 -m "not ($(LONG) or $(ALONE) or $(APART))" --ignore=tests/test_structure.py --junitxml=$(REPORTS)/unit.xml $(ARGS)

long: $(TESTS)
	$(BIN)/pytest -q -n 2 -m "($(LONG)) and not ($(ALONE) or $(APART))" --junitxml=$(REPORTS)/long.xml $(ARGS)

# Mostly waiting: for holds and leases to lapse, for servers to come back. Each file has gateways and servers of its own.
replicas: $(TESTS) ## replicas over one database and one bucket, and faults on the way to both
	$(BIN)/pytest -q -n 2 --dist loadfile -m "$(APART)" --junitxml=$(REPORTS)/replicas.xml $(ARGS)

# One after the other: they measure memory, kill processes and start daemons.
alone: $(TESTS)
	$(BIN)/pytest -m "($(ALONE)) and not ($(APART))" --junitxml=$(REPORTS)/alone.xml $(ARGS)

test: system-packages todays-clients $(TESTS) ## everything, after installing what the tests need; says last what was left out
	@rm -rf $(REPORTS)
	@status=0; $(MAKE) --no-print-directory check lint-async long replicas alone bench-smoke || status=$$?; $(LEFT_OUT) $(REPORTS) unit long replicas alone; exit $$status

clients: system-packages todays-clients $(TESTS) ## only the tests that drive real registry clients
	@rm -rf $(REPORTS)
	@status=0; $(BIN)/pytest -m clients --junitxml=$(REPORTS)/clients.xml $(ARGS) || status=$$?; \
	  $(LEFT_OUT) $(REPORTS) clients; exit $$status

crash: $(TESTS) ## kill it ROUNDS times and look for lost or wrong bytes
	SLUICE_CRASH_ROUNDS=$(ROUNDS) $(BIN)/pytest -m crash --timeout=0 $(ARGS)

bench: $(TESTS) ## measure against docker-registry and nginx; ARGS="--case 'push-*'" chooses; docs/benchmarks.md says how to read it
	$(BIN)/sluice bench run $(ARGS)

# About a minute and a half. Only ratios within the run count: see bench/baseline.py.
bench-smoke: $(TESTS) ## fail when a ratio to a peer is worse than its baseline by more than the noise
	$(BIN)/sluice bench run --set smoke --quick --no-plots --check --output $(REPORTS)/bench

system-packages: $(TESTS)
	@$(BIN)/python -m tests.system_packages install

# Once, about two minutes and 1.6 GB below .clients (or SLUICE_CLIENTS_DIR); without root or a mirror it says so.
todays-clients: $(TESTS)
	@$(BIN)/python -m tests.clients.today.prepare

lock: ## choose versions anew within pyproject.toml's bounds; ARGS=--upgrade takes the newest
	@test -x .tools/uv/bin/uv || { $(PYTHON) -m venv .tools/uv && .tools/uv/bin/pip install --quiet $(UV); }
	$(COMPILE) --output-file requirements.lock --group build
	$(COMPILE) --output-file requirements-dev.lock --constraint requirements.lock --extra bench --group dev

# For every Python and platform at once, with hashes, and without a word about where the packages came from.
COMPILE = .tools/uv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-emit-find-links --no-annotate --no-header $(ARGS) pyproject.toml --extra postgres

clean: ## remove environments, caches and reports; never DATA
	rm -rf .venv .tools .reports .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist .coverage htmlcov
	find gateway storage bench tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps make a second call start at once; a changed lock file or pyproject.toml makes pip look again.
$(RUNTIME): requirements.lock pyproject.toml | $(BIN)/python
	@echo "Installing Sluice into $(VENV) (once; about half a minute)"
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(TESTS): requirements-dev.lock requirements.lock pyproject.toml | $(BIN)/python
	@echo "Installing Sluice and what its tests need into $(VENV) (once; about a minute)"
	@$(PIP) install --require-hashes -r requirements-dev.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $(RUNTIME) $@

$(BIN)/python:
	@command -v "$(PYTHON)" >/dev/null || { echo "$(PYTHON) not found. Name a Python 3.11 or newer: make PYTHON=python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Sluice needs Python 3.11 or newer; $(PYTHON) is $$("$(PYTHON)" -V 2>&1). Name another: make PYTHON=python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "$(PYTHON) cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@"$(PYTHON)" -m venv --clear $(VENV)
