# The two commands of the README are `make demo` and `make test`. Both set themselves up.
PYTHON ?= $(or $(shell scripts/find-python 3.11),python3)
PYTHON313 ?= $(shell scripts/find-python 3.13)
VENV := .venv
VENV313 := .venv-3.13
BIN := $(VENV)/bin
PYTEST_ARGS ?= -q -n 3 --dist loadfile

.PHONY: demo test test-3.13 lint types format bench mutation services services-down soak constraints clean

demo: $(VENV)/.stamp-run  ## Run every drill on the embedded defaults
	$(BIN)/switchgear drill all

test: lint types  ## Linters, type checks and all tests, on 3.11 and on 3.13 where it is present
	$(BIN)/pytest $(PYTEST_ARGS)
	@if [ -n "$(PYTHON313)" ]; then $(MAKE) --no-print-directory test-3.13; \
	else echo "Python 3.13 is not here: tested on $$($(BIN)/python --version) alone."; fi

# the other servers were used on 3.11: what differs between the two is not in their clients
test-3.13: $(VENV313)/.stamp-dev
	SWITCHGEAR_TEST_BROKERS=sqlite,postgresql $(VENV313)/bin/pytest $(PYTEST_ARGS) --ignore tests/typing --ignore tests/scripts

soak: $(VENV)/.stamp-dev  ## The fault tests of events, on each broker, and of sagas, for SECONDS each (default 300)
	SOAK=$(or $(SECONDS),300) $(BIN)/pytest -q -s tests/faults/test_events_kill.py tests/faults/test_saga_postgres.py

lint: $(VENV)/.stamp-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

types: $(VENV)/.stamp-dev
	$(BIN)/mypy

format: $(VENV)/.stamp-dev  ## Rewrite the code in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

services: $(VENV)/.stamp-dev  ## Start the servers of the tests on loopback, and print their addresses
	@$(BIN)/python scripts/services up $(NAMES)

services-down:  ## End exactly those
	@$(BIN)/python scripts/services down

bench: $(VENV)/.stamp-dev  ## Every benchmark, each peer in the same run
	$(BIN)/pip install -q -c constraints.txt --group bench
	for file in benchmarks/*.py; do $(BIN)/python $$file || exit 1; done

mutation: $(VENV)/.stamp-dev  ## Change the policies in small ways, and see whether a test notices (takes long)
	$(BIN)/pip install -q -c constraints.txt --group mutation
	$(BIN)/python scripts/mutation.py

constraints:  ## Resolve the newest versions and pin them
	rm -rf build/constraints && $(PYTHON) -m venv build/constraints
	build/constraints/bin/pip install -q -U pip
	build/constraints/bin/pip install -q -e '.[all]' --group dev --group bench --group mutation
	{ echo "# What the project is tested with: names and versions only. Regenerate with: make constraints"; \
	  build/constraints/bin/pip list --format=freeze | grep -vi '^switchgear\|^setuptools\|^wheel' | sort -f; } > constraints.txt

clean:
	rm -rf $(VENV) $(VENV313) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist

$(VENV)/.stamp-run: pyproject.toml constraints.txt
	@echo "Setting up $(VENV) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Switchgear needs Python 3.11 or newer: run make PYTHON=/path/to/python3.11"; exit 1; }
	@$(BIN)/pip install -q -c constraints.txt -U pip
	@$(BIN)/pip install -q -c constraints.txt -e '.[all]'
	@touch $@

$(VENV)/.stamp-dev: $(VENV)/.stamp-run
	@echo "Setting up the tools for development ..."
	@$(BIN)/pip install -q -c constraints.txt --group dev
	@touch $@

$(VENV313)/.stamp-dev: pyproject.toml constraints.txt
	@echo "Setting up $(VENV313) ..."
	@test -x $(VENV313)/bin/python || $(PYTHON313) -m venv $(VENV313)
	@$(VENV313)/bin/pip install -q -c constraints.txt -U pip
	@$(VENV313)/bin/pip install -q -c constraints.txt -e '.[all]' --group dev
	@touch $@
