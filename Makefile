# The two that matter: `make run` and `make test`. Both do their own set-up.
.DEFAULT_GOAL := help
SHELL := /bin/sh
BIN := .venv/bin
KINDS := gates unit contract packaging service system
TESTS ?= $(wildcard $(addprefix tests/,$(KINDS)))
WINDOW ?=
VARIANT ?=
PYTEST := $(BIN)/python -m pytest

.PHONY: help setup run test check image lock clean

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 8

setup:  ## Debian packages and .venv; ends at once when nothing has changed
	@scripts/setup

run: setup  ## build, boot, card in, both desktops, card out: timeline and screenshots. WINDOW=1, VARIANT=name
	@$(BIN)/sdbox run $(if $(filter-out 0,$(WINDOW)),--window) $(if $(VARIANT),--variant $(VARIANT))

test: setup  ## everything, fastest first; TESTS=tests/unit (or a file) selects
	@$(PYTEST) $(TESTS)

check: setup  ## gates and unit tests only
	@$(PYTEST) tests/gates tests/unit

image: setup  ## the production image, into out/image
	@$(BIN)/sdbox image build --output out/image

lock: setup  ## requirements/*.lock from pyproject.toml
	@scripts/lock

clean:  ## remove what is made inside the repository; caches outside stay (sdbox doctor names them)
	rm -rf .venv out dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
