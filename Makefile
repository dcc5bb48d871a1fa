# Every target installs what it needs into .venv. The machine needs only Python >= 3.11 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# uv uses the machine's certificates, like pip. Behind a company's proxy nothing else works.
export UV_SYSTEM_CERTS := 1
CHECKERS := .venv-terraform
CHECKERS_INSTALLED := $(CHECKERS)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo bench test mutants unit terraform check lint types fences pins docs freeze lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(INSTALLED) ## Run the whole system on this machine, with 200 entries
	@$(BIN)/rowqueue demo --entries 200

bench: $(INSTALLED) ## Compare the throughput with a plain loop and a simple program (minutes); see rowqueue bench --help
	@$(BIN)/rowqueue bench --quick

test: $(INSTALLED) $(CHECKERS_INSTALLED) ## Run all tests (about ten minutes)
	@mkdir -p .local && $(BIN)/pytest --basetemp=.local/pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

mutants: $(INSTALLED) ## Change one thing at a time and list the changes that no test notices (minutes); SAMPLE=200 SEED=2
	@$(BIN)/python scripts/mutants.py --sample $(or $(SAMPLE),20) --seed $(or $(SEED),1)

unit: $(INSTALLED) ## Run the unit tests
	@$(BIN)/pytest tests/unit

terraform: $(INSTALLED) $(CHECKERS_INSTALLED) ## Test the Terraform; fails if Terraform or its AWS provider is missing
	@mkdir -p .local && REQUIRE_TERRAFORM=1 $(BIN)/pytest --basetemp=.local/pytest-terraform tests/terraform

check: lint types fences pins docs-current ## Run all checks that are not tests (under a minute)

lint: $(INSTALLED) ## Check style, banned imports and formatting with ruff
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(INSTALLED) ## Check the types with mypy
	@$(BIN)/mypy

fences: $(INSTALLED) ## Check the directions of imports; note modules of more than 300 lines
	@$(BIN)/lint-imports --no-logo
	@find src local lambda_poller container scripts -name '*.py' -exec wc -l {} + \
	  | awk '$$2 != "total" && $$1 > 300 {print "Note: " $$2 " has " $$1 " lines. Does it have more than one duty?"}'

docs: $(INSTALLED) ## Write docs/settings.md from the settings classes
	@$(BIN)/python scripts/settings_page.py > docs/settings.md

freeze: $(INSTALLED) ## Write tests/released from the present statements and scripts, for the release that is being made
	@$(BIN)/python scripts/freeze.py

.PHONY: docs-current
docs-current: $(INSTALLED)
	@$(BIN)/python scripts/settings_page.py | diff -u docs/settings.md - \
	  || { echo "docs/settings.md differs from the settings classes; run: make docs" >&2; exit 1; }

# The files of pins, and the sources of each. The function and the image get the versions that the tests run with, for
# Python 3.13. With --universal one file serves ARM64 and x86-64.
PINS := requirements-dev.txt requirements-terraform.txt lambda_poller/requirements.txt container/requirements.txt
from.requirements-dev.txt := pyproject.toml local/pyproject.toml --python-version 3.11 --extra processor --group dev
from.requirements-terraform.txt := requirements-terraform.in --python-version 3.11
from.lambda_poller/requirements.txt := lambda_poller/requirements.in --python-version 3.13 --constraint requirements-dev.txt
from.container/requirements.txt := container/requirements.in --python-version 3.13 --constraint requirements-dev.txt
COMPILE := $(BIN)/uv pip compile --quiet --universal --generate-hashes --custom-compile-command 'make lock'
NO_INDEX := failed to fetch|error sending request|dns error|timed out|network

lock: $(INSTALLED) ## Write the files of pins; UPGRADE=1 takes the newest releases
	@$(foreach file,$(PINS),$(COMPILE) $(if $(UPGRADE),--upgrade) $(from.$(file)) --output-file $(file) > /dev/null &&) true

# Each file is compiled again on top of a copy of itself, so that a newer release on the index changes nothing.
pins: $(INSTALLED) ## Check that the pins satisfy their sources
	@folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	current() { \
	  file=$$1; shift; cp "$$file" "$$folder/pins"; \
	  if ! $(COMPILE) "$$@" --output-file "$$folder/pins" > /dev/null 2> "$$folder/errors"; then \
	    grep -qiE '$(NO_INDEX)' "$$folder/errors" || { cat "$$folder/errors" >&2; return 1; }; \
	    echo "SKIPPED: cannot check whether $$file is current, because the package index is not reachable" >&2; \
	  elif ! diff -u "$$file" "$$folder/pins" >&2; then \
	    echo "$$file does not satisfy its source; run: make lock" >&2; return 1; \
	  else \
	    echo "$$file is current"; \
	  fi; \
	}; \
	$(foreach file,$(PINS),current $(file) $(from.$(file)) &&) true

setup: $(INSTALLED) ## Make .venv with the pinned dependencies, the product and the lab

$(INSTALLED): requirements-dev.txt pyproject.toml local/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "Installing the pinned dependencies into $(VENV) (about a minute, once)..." >&2
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable . --editable ./local
	@touch $@

terraform-tools: $(CHECKERS_INSTALLED)
.PHONY: terraform-tools

$(CHECKERS_INSTALLED): requirements-terraform.txt | $(INSTALLED)
	@echo "Installing the tools that check the Terraform into $(CHECKERS) (once)..." >&2
	@$(BIN)/uv venv --quiet --clear $(CHECKERS)
	@$(BIN)/uv pip install --quiet --python $(CHECKERS) --require-hashes --requirement requirements-terraform.txt
	@touch $@

clean: ## Remove .venv, .local and caches
	rm -rf $(VENV) $(CHECKERS) .local build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
