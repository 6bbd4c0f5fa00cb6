# Everything here needs a Debian or Ubuntu with Python 3.11 or newer, git and make, and nothing else.

VENV ?= .venv
BIN = $(VENV)/bin
# The python3 of this machine if it is new enough, else the newest one beside it.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
RUN = PYTHONPATH=. $(BIN)/python
PIP = $(BIN)/python -m pip --disable-pip-version-check install -qq
DECLARED = pyproject.toml setup.py
# One process of tests for each processor. Each starts servers of its own: beyond four they only wait.
PARALLEL ?= -n auto --maxprocesses 4 --dist worksteal

.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: help demo demo-zeo test lint format coverage chaos bench mutants docs mined system-deps clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

demo: $(VENV)/.installed  ## serve the demo application on http://127.0.0.1:8080, or PORT=
	@$(RUN) -m wsgi_zasync demo $(if $(PORT),--port $(PORT)) $(ARGS)

demo-zeo: $(VENV)/.installed  ## the same as three processes: ZEO server, web and worker
	@$(RUN) -m wsgi_zasync demo --processes $(if $(PORT),--port $(PORT)) $(ARGS)

test: $(VENV)/.installed-test mined system-deps  ## run all tests but the long chaos runs
	$(RUN) -m pytest -m "not chaos" $(PARALLEL) $(ARGS)

lint: $(VENV)/.installed-lint  ## check style, types and the import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(VENV)/.installed-lint  ## format the code and repair what ruff can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

coverage: $(VENV)/.installed-test mined  ## run the tests with branch coverage
	$(RUN) -m pytest -m "not chaos" $(PARALLEL) --cov --cov-report=term $(ARGS)

chaos: $(VENV)/.installed-test  ## the long kill and load runs, with their counts
	$(RUN) -m pytest -m chaos -s --timeout=3600 $(ARGS)

bench: $(VENV)/.installed-bench  ## measure: ratios in one run, absolutes beside them
	$(RUN) -m benchmarks $(ARGS)

mutants: $(VENV)/.installed-mutants  ## change the expressions' operations one by one: what does no test notice?
	rm -rf build/mutants
	git clone -q . build/mutants
	cd build/mutants && export PATH=$(abspath $(BIN)):$$PATH PYTHONPATH=. && \
		cosmic-ray init cosmic-ray.toml session.sqlite && \
		cosmic-ray exec cosmic-ray.toml session.sqlite && \
		cr-report session.sqlite --surviving-only --show-diff

docs: $(VENV)/.installed-docs  ## build the documentation into build/docs, warnings are errors
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs build/docs
	@echo "build/docs/index.html"

system-deps:  # what is not a Python package: never required, tests that miss it say so
	@VENV=$(VENV) sh scripts/system_deps.sh

mined: $(VENV)/.installed-test  # other sandboxes' tests: where pip cannot get them, the test that reads them is skipped
	@test $(VENV)/.mined -nt scripts/mine_tests.py || \
		if $(BIN)/python scripts/mine_tests.py $(VENV)/mined; then touch $(VENV)/.mined; fi

clean:  ## remove what the targets above have made
	rm -rf $(VENV) build dist var *.egg-info .coverage .coverage.* .hypothesis \
		.mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.made: scripts/bootstrap_venv.py
	@if [ -z "$(PYTHON)" ]; then \
		echo "No Python 3.11 or newer was found. Install one, or name it: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; \
		exit 2; fi
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON) is no Python 3.11 or newer; name another one: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; \
		exit 2; }
	$(PYTHON) scripts/bootstrap_venv.py $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.made $(DECLARED)
	$(PIP) -e .
	@touch $@

$(VENV)/.installed-%: $(VENV)/.made $(DECLARED)
	$(PIP) -e '.[$*]'
	@touch $@ $(VENV)/.installed
