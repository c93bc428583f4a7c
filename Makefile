# Every command of the project. Each one sets itself up: Python 3.11 or newer and make are enough.
#     make test ARGS="tests/core -k duration"        make test PYTHON=python3.13 VENV=.venv-3.13

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
MEASURED := $(VENV)/.measured
BUN := .bun/node_modules/.bin/bun
PYPROJECTS := $(wildcard pyproject.toml */pyproject.toml)
# One worker more than there are cores: many tests wait for processes.
WORKERS := $(shell $(PYTHON) -c 'import os; print(1 + (os.cpu_count() or 1))')
PARALLEL := --numprocesses $(WORKERS) --dist worksteal

# Do not announce newer versions of pip and pyright.
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(INSTALLED) ## run the demonstration, for example make demo ARGS=--help
	@$(BIN)/goscope demo $(ARGS)

.PHONY: test
test: $(INSTALLED) ## run the tests, all or those in ARGS
	@$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

.PHONY: coverage
coverage: $(INSTALLED) ## run the tests and require the branch coverage that pyproject.toml sets
	@$(BIN)/python -m pytest $(PARALLEL) --cov --cov-report=term:skip-covered $(ARGS)

.PHONY: stress
stress: $(INSTALLED) ## share a file with Bun for 20 s, then kill and stop 8 processes for 60 s
	@GOSCOPE_STRESS_SECONDS=$${GOSCOPE_STRESS_SECONDS:-20} $(BIN)/python -m pytest --capture no \
	    --override-ini faulthandler_timeout=0 tests/bun/test_shared_file.py $(ARGS)
	@GOSCOPE_STRESS_SECONDS=$${GOSCOPE_STRESS_SECONDS:-60} $(BIN)/python -m pytest --capture no \
	    --override-ini faulthandler_timeout=0 tests/stress/test_stress.py $(ARGS)

.PHONY: bun
bun: $(BUN) ## fetch Bun, which some tests need, from npm

$(BUN):
	@npm install --prefix .bun --no-save --no-package-lock --no-audit --no-fund --silent bun
	@$(BUN) --version >/dev/null

.PHONY: check
check: $(INSTALLED) ## lint, formatting and types
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/pyright --pythonpath $(BIN)/python

.PHONY: format
format: $(INSTALLED) ## format the code and apply the safe fixes of the linter
	@$(BIN)/ruff check --fix-only
	@$(BIN)/ruff format

.PHONY: docs
docs: $(INSTALLED) ## check the links of the documentation and run its examples
	@$(BIN)/python -m pytest tests/docs $(ARGS)

.PHONY: bench
bench: $(MEASURED) ## measure everything, for example make bench ARGS="--size small"
	@$(BIN)/python -m bench $(ARGS)

.PHONY: setup
setup: $(INSTALLED) ## create the virtual environment that the other commands use

$(INSTALLED): $(PYPROJECTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo '$(PYTHON) is older than Python 3.11: name a newer one with PYTHON=...'; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1' # the first with --group
	@$(BIN)/python -m pip install --quiet --editable '.[cli,demo,testing]' --group dev --group docs
	@touch $@

# What goscope is compared with is installed only where it is measured.
$(MEASURED): $(INSTALLED)
	@$(BIN)/python -m pip install --quiet --group bench
	@touch $@
