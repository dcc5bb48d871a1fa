# Every target sets up what it needs in .venv; nothing but Python >= 3.11 and make is expected on the machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test unit check lint types lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(INSTALLED) ## Run the whole system on this machine: 200 entries from INSERT to completed
	@$(BIN)/rowqueue demo --entries 200

test: $(INSTALLED) ## Run all tests
	@$(BIN)/pytest

unit: $(INSTALLED) ## Run the tests that need no process and no network (seconds)
	@$(BIN)/pytest tests/unit

check: lint types ## Lint and types

lint: $(INSTALLED) ## ruff: style, banned imports, formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(INSTALLED) ## mypy, strict
	@$(BIN)/mypy

lock: $(INSTALLED) ## Write requirements-dev.txt anew from pyproject.toml
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 \
	  --extra dev pyproject.toml --output-file requirements-dev.txt

setup: $(INSTALLED) ## Make .venv with the pinned dependencies

$(INSTALLED): requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "Installing the pinned dependencies into $(VENV) (about a minute, once)..." >&2
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@touch $@

clean: ## Remove .venv, .local and caches
	rm -rf $(VENV) .local build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
