# Everything is installed into .venv of this checkout; nothing else on the machine is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime
INSTALLED := $(VENV)/.installed
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check
PIN := $(BIN)/uv pip compile pyproject.toml -q --universal --python-version 3.11 --upgrade --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header --no-annotate
ARGS ?=

.PHONY: demo serve test test-long bench lint lock clean

demo: $(RUNTIME)  ## start everything, seed a demo club, serve it, print what to try (ARGS=--check walks it and exits)
	@$(BIN)/perks demo $(ARGS)

serve: $(RUNTIME)  ## serve with the settings of the environment
	@$(BIN)/perks serve $(ARGS)

test: lint  ## lint, types, the project's own rules and every test, on real servers
	@$(BIN)/pytest -n 2 -m "not long and not benchmark" $(ARGS)

test-long: $(INSTALLED)  ## storms, crashes and outside clients
	@$(BIN)/pytest -m "long" $(ARGS)

bench: $(INSTALLED)  ## the figures of docs/performance.md, written to build/bench.json
	@$(BIN)/python -m tests.benchmarks $(ARGS)

lint: $(INSTALLED)
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

lock: $(INSTALLED)  ## pin every dependency with its hashes; no registry is named
	@$(BIN)/pip install -qq uv
	@$(PIN) --extra embedded --extra parquet --group build -o requirements.lock
	@$(PIN) --extra embedded --extra parquet --group build --group dev -c requirements.lock -o requirements-dev.lock

$(RUNTIME): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Perks Gateway needs Python 3.11 or newer, found " + sys.version.split()[0] + ": make PYTHON=python3.11 ...")'
	@echo "Installing into $(VENV) (under a minute) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --require-hashes -r requirements.lock
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

$(INSTALLED): $(RUNTIME) requirements-dev.lock
	@echo "Installing what the tests need ..."
	@$(PIP) --require-hashes -r requirements-dev.lock
	@touch $@

clean:  ## remove what the other targets made
	@rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache .hypothesis
