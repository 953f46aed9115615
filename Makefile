# Set-up is one mechanism: a lock changed -> its environment is synchronised. Works as root and as an ordinary user.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := .uv/bin/uv
UV_VERSION := 0.13.9

# The deployed environment (requirements.lock) and the developers' (the same plus oracles and tools).
RUN_STAMP := $(VENV)/.synced-run
DEV_STAMP := $(VENV)/.synced-dev

.PHONY: help setup setup-dev demo up test test-all lint bench bench-all lock browser readers clean

help: ## show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(UV):
	@echo "setting up uv $(UV_VERSION) in .uv"
	@$(PYTHON) -m venv .uv && .uv/bin/pip install -q --disable-pip-version-check uv==$(UV_VERSION)

$(VENV)/bin/python: | $(UV)
	@$(UV) venv -q --python $(PYTHON) --allow-existing $(VENV)

# The developers' environment is a superset, so it also satisfies the deployed one.
$(RUN_STAMP): requirements.lock pyproject.toml | $(VENV)/bin/python
	@if [ -f $(DEV_STAMP) ]; then $(MAKE) --no-print-directory -W requirements.lock $(DEV_STAMP); else \
	  echo "installing requirements.lock into $(VENV)"; \
	  $(UV) pip sync -q --compile-bytecode --require-hashes --python $(BIN)/python requirements.lock && \
	  $(UV) pip install -q --no-deps --python $(BIN)/python -e . ; fi
	@touch $@

$(DEV_STAMP): requirements.lock requirements-dev.lock pyproject.toml | $(VENV)/bin/python
	@echo "installing requirements-dev.lock into $(VENV)"
	@$(UV) pip sync -q --compile-bytecode --require-hashes --python $(BIN)/python requirements-dev.lock
	@$(UV) pip install -q --no-deps --python $(BIN)/python -e .
	@touch $(RUN_STAMP) $@

setup: $(RUN_STAMP) ## create .venv from requirements.lock
setup-dev: $(DEV_STAMP) ## the same plus test oracles and tools

demo: $(RUN_STAMP) ## the main job to its end; EXPORT=DIR takes a real export
	@$(BIN)/python -m deploy.demo $(if $(EXPORT),--export "$(EXPORT)") $(if $(DATA),--data "$(DATA)")

up: $(RUN_STAMP) ## everything on this machine: SQLite, one worker, the web UI
	@$(BIN)/intramural up $(if $(DATA),--data "$(DATA)")

browser: ## find Chromium, or install it
	@bash tests/browser.sh

readers: ## find other DICOM software and tesseract, or install them
	@bash tests/readers.sh

# Two workers share the cores: with a thread for each core they would wait for one another.
test: export OMP_NUM_THREADS = 1
test: $(DEV_STAMP) browser readers ## the suite that must pass before every change lands
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow"

test-all: $(DEV_STAMP) browser readers ## also kill storms, PostgreSQL and Redis, long runs
	@$(BIN)/python -m pytest

lint: $(DEV_STAMP) ## ruff, mypy, import rules
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

bench: $(DEV_STAMP) ## measured claims; appends to docs/benchmarks.md
	@for bench in tests/benchmarks/{bench,deid,reports}_*.py; do PYTHONPATH=. $(BIN)/python $$bench || exit 1; done

bench-all: bench ## also those that take an hour each
	@for bench in tests/benchmarks/long_*.py; do PYTHONPATH=. $(BIN)/python $$bench || exit 1; done

lock: | $(UV) ## compile the locks anew
	@$(UV) pip compile -q --generate-hashes --no-emit-index-url --no-annotate --python-version 3.11 \
	  --custom-compile-command "make lock" pyproject.toml -o requirements.lock
	@$(UV) pip compile -q --generate-hashes --no-emit-index-url --no-annotate --python-version 3.11 \
	  --custom-compile-command "make lock" pyproject.toml --group dev -c requirements.lock -o requirements-dev.lock

clean: ## remove the environments (data is never touched)
	@rm -rf .venv .uv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
