# Virtroupe. `make help` lists what can be made; ROOT=DIR keeps an agent below one folder.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
PYTHON := $(VENV)/bin/python
VIRTROUPE := $(VENV)/bin/virtroupe $(if $(ROOT),--root $(ROOT))
# what pytest gets besides: make test PYTEST='-k storm'
PYTEST :=
QUICK := not process and not real and not slow and not soak

.PHONY: help up down status test check lint soak bench format venv venv-dev clean

help: ## this list
	@printf 'make up [ROOT=DIR]     start the agent: makes $(VENV), installs, waits until it answers\n'
	@printf 'make down [ROOT=DIR]   end the agent; guests keep running\n'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / && $$1 != "up" && $$1 != "down" { printf "make %-17s %s\n", $$1, $$2 }' Makefile

up: venv ## start the agent
	@$(VIRTROUPE) up

down: venv ## end the agent
	@$(VIRTROUPE) down

status: venv ## how the agent stands (ROOT=DIR too)
	@$(VIRTROUPE) status

test: venv-dev ## every test but the soak ones; as root it installs the Debian packages that they need
	@.ci/packages
	@VIRTROUPE_PEERS=$$([ "$$(id -u)" = 0 ] && echo must || echo may) \
	  $(PYTHON) -m pytest -m "not soak" $(PYTEST)

check: venv-dev lint ## lint, types, import rules, spelling, quick tests: before each commit
	@$(PYTHON) -m pytest -q -m "$(QUICK)" $(PYTEST)

lint: venv-dev ## what check does without running anything
	@$(VENV)/bin/ruff check
	@$(VENV)/bin/ruff format --check
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports
	@$(VENV)/bin/codespell

soak: venv-dev ## the long storms and fuzzers (an hour or more)
	@.ci/packages
	@$(PYTHON) -m pytest -m soak --timeout 0 $(PYTEST)

bench: venv-dev ## measure; prints a table and writes bench.json
	@.ci/packages
	@$(PYTHON) -m tests.bench --json bench.json

format: venv-dev ## let ruff rewrite what it can
	@$(VENV)/bin/ruff check --fix
	@$(VENV)/bin/ruff format

venv: ## the environment alone
	@.ci/environment $(VENV)

venv-dev: ## the environment with what tests and checks need
	@.ci/environment $(VENV) dev

clean: ## remove the environment and every cache
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache bench.json
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
