# `make demo` and `make test` each need nothing but the prerequisites that scripts/prerequisites names.

VENV ?= .venv
BASE_PYTHON ?= python3
PYTEST_ARGS ?=

python := $(VENV)/bin/python
native := $(shell find vvc_wrappers/native -type f)

.DEFAULT_GOAL := help
.PHONY: help demo test check bench wheel clean

help: ## List the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

demo: $(VENV)/.installed ## Extract priors from a real clip into build/demo and draw them
	$(python) scripts/demo.py build/demo

test: $(VENV)/.installed-tests ## Run the tests; PYTEST_ARGS='-m "not slow"' leaves out the slow ones
	$(python) -m pytest $(PYTEST_ARGS)

check: $(VENV)/.installed-tests ## Lint, types, import contracts, docstrings, spelling
	PYTHON=$(python) scripts/check

bench: $(VENV)/.installed-tests ## Run the benchmarks
	$(python) -m pip install --quiet --group bench
	$(python) -m benchmarks

wheel: $(VENV)/.tools ## Build dist/codecprior-*.whl
	$(python) -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

clean: ## Remove the environment and everything built
	rm -rf $(VENV) build dist

# Without build isolation CMake sees the same tools each time and compiles only what changed.
$(VENV)/.tools: pyproject.toml scripts/prerequisites
	BASE_PYTHON=$(BASE_PYTHON) scripts/prerequisites
	$(BASE_PYTHON) -m venv $(VENV)
	$(python) -m pip install --quiet --upgrade 'pip>=25.1' 'scikit-build-core>=1.0' 'cmake>=3.20' ninja
	@touch $@

$(VENV)/.installed: $(VENV)/.tools codecprior/__init__.py $(native)
	@echo "Building VVdeC and the tracing decoder; the first time takes one to three minutes."
	$(python) -m pip install --quiet --no-build-isolation --group demo --editable .
	@touch $@

$(VENV)/.installed-tests: $(VENV)/.installed
	$(python) -m pip install --quiet --group test --group check 'codecprior[model,s3,xarray]'
	@touch $@
