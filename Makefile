# Every target does all its own set-up: it needs Python 3.11 or newer with venv, and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PYTEST_FLAGS ?= -n auto --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help demo test coverage lint unit soak bench screenshots servers clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.installed ## A living console on a board of its own; piped, a bounded run and its report
	@$(BIN)/conductor-console demo

test: $(VENV)/.test-installed servers ## Everything that is checked: lint, types, layers, tests on real servers
	@$(MAKE) --no-print-directory lint & lint=$$!; \
	  $(BIN)/python -m pytest $(PYTEST_FLAGS); tests=$$?; \
	  wait $$lint || { echo "lint found something: see above, or run make lint" >&2; exit 1; }; \
	  exit $$tests

coverage: $(VENV)/.test-installed servers ## The tests again, telling which lines none of them runs; takes half as long again
	@$(BIN)/python -m pytest $(PYTEST_FLAGS) --cov --cov-report=term:skip-covered

lint: $(VENV)/.test-installed ## ruff, mypy --strict, import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

unit: $(VENV)/.test-installed ## The tests that need no server
	@$(BIN)/python -m pytest tests/unit $(PYTEST_FLAGS)

soak: $(VENV)/.test-installed servers ## Random doings and 200 kills on real boards, for a long time
	@MODEL_SEQUENCES=10000 KILLS=200 $(BIN)/python -m pytest $(PYTEST_FLAGS) \
	  tests/integration/test_board_model.py tests/integration/test_operations_model.py tests/faults/test_conductors_killed.py

bench: $(VENV)/.test-installed servers ## How fast it is on this machine, beside its peers
	@mkdir -p build
	@$(BIN)/python -m benchmarks --json build/benchmarks.json

screenshots: $(VENV)/.test-installed ## Draw screenshots/ anew from the real app
	@$(BIN)/python screenshots/make.py

servers: ## The servers that the tests start, as Debian packages, where they may be installed
	@sh tests/get_servers.sh

clean: ## Remove the virtual environment and every cache
	@rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .coverage*

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "conductor-console needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "no virtual environment could be made: install Python's venv (Debian: python3-venv)" >&2; exit 1; }

$(VENV)/.installed: $(BIN)/python pyproject.toml constraints.txt
	@$(PIP) install --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.test-installed: $(VENV)/.installed pyproject.toml constraints.txt
	@$(PIP) install --constraint constraints.txt --editable '.[test]'
	@touch $@
