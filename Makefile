# Every target sets up what it needs first; once set up, nothing goes to the network. `make` lists the targets.
.DEFAULT_GOAL := help
SHELL := /bin/sh
BIN := .venv/bin
SOURCES := policies robot sim vla_rl tests

# Passed on to the command, for example: make test ARGS="tests/sim -x"
ARGS ?=
# Test processes side by side.
JOBS ?= 2

.PHONY: help setup demo test test-slow check format lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## create .venv with pinned packages and see that MuJoCo can render
	@scripts/setup.sh

demo: setup ## collect, SFT, on-policy distillation, evaluation: the main job on a small scale
	$(BIN)/vla-rl demo $(ARGS)

test: setup ## the default tests
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup --no-loadscope-reorder $(ARGS)

test-slow: setup ## the tests that take minutes
	$(BIN)/python -m pytest -m slow $(ARGS)

check: setup ## formatting, lint and types, without changing files
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/pyright

format: setup ## format and apply the lint's safe fixes
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

lock: ## make requirements.txt anew from pyproject.toml (network; ARGS=--upgrade moves the pins)
	@scripts/setup.sh --lock $(ARGS)

clean: ## remove .venv and caches, keep runs
	rm -rf .venv .uv build *.egg-info .pytest_cache .ruff_cache
