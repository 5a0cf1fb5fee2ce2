# Every target works on a fresh clone: what it needs is installed into .venv from a lock file, by hash.
# Nothing is downloaded but packages. Another interpreter: make PYTHON=python3.12 run

PYTHON = python3 python3.14 python3.13 python3.12 python3.11
VENV = .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check -qq install
COMPILE = $(BIN)/uv --quiet pip compile --universal --generate-hashes --python-version 3.11 --custom-compile-command "make lock"
MANIFESTS = $(filter-out %/kustomization.yaml %/routes.yaml,$(wildcard deploy/kubernetes/*.yaml))

.PHONY: help run test check bench docs lock clean

help: ## show this list
	@sed -n 's/^\([a-z]*\):.*## /\1	/p' Makefile | while IFS='	' read -r name what; do printf '  make %-8s %s\n' "$$name" "$$what"; done

run: $(VENV)/.runtime ## start the demo: three upstreams and the gateway in front of them
	@$(BIN)/gateway demo

# What starts whole gateways, two at a time, comes after the rest; how fast one starts is measured alone. Other tests look
# at the clock here and there: what fails is asked once more, alone, and has to pass.
PYTEST = $(BIN)/python -m pytest
AGAIN = $(PYTEST) --last-failed --last-failed-no-failures none
START = tests/system/test_start.py

test: $(VENV)/.dev ## run the whole test suite
	@$(PYTEST) -n auto --maxprocesses 4 --dist loadfile --ignore tests/system || $(AGAIN) --ignore tests/system
	@$(PYTEST) -n auto --maxprocesses 2 --dist loadfile --ignore $(START) tests/system || $(AGAIN) --ignore $(START) tests/system
	@$(PYTEST) $(START) || $(AGAIN) $(START)

check: $(VENV)/.dev ## format, lint, types, import contracts, configuration files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/gateway check -c config/routes.yaml
	STORE_URL=redis://redis:6379/0 GATEWAY_HTTP=0.0.0.0:8080 $(BIN)/gateway check -c config/routes.yaml
	$(BIN)/gateway check -c deploy/kubernetes/routes.yaml
	$(BIN)/kubernetes-validate --strict --quiet -k 1.30 -k 1.37 $(MANIFESTS)
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
	@if docker compose version >/dev/null 2>&1; \
	then echo 'docker compose config -q'; docker compose config -q; \
	else echo 'docker compose is not installed: docker-compose.yml was checked against its schema only'; fi

bench: $(VENV)/.dev ## compare with nginx, HAProxy and others, healthy and in trouble; then memory, operation, stages, identity, limits
	$(BIN)/python -m bench.wire
	$(BIN)/python -m bench.memory
	$(BIN)/python -m bench.operation
	$(BIN)/python -m bench.telemetry
	$(BIN)/python -m bench.stack
	$(BIN)/python -m bench.identity
	$(BIN)/python -m bench.limits
	$(BIN)/python -m bench.outage
	$(BIN)/python -m bench.half_load
	$(BIN)/python -m bench.scenarios

docs: $(VENV)/.dev ## write the pages that are made from the code
	$(BIN)/python -m gateway.telemetry.catalogue > docs/metrics.md

# Pins that still fit are kept; `make lock UPGRADE=--upgrade` moves them all.
lock: $(VENV)/.dev ## write the lock files anew from pyproject.toml
	$(COMPILE) $(UPGRADE) pyproject.toml --group build -o requirements.lock
	$(COMPILE) $(UPGRADE) pyproject.toml --group build --all-extras -c requirements.lock -o requirements-all.lock
	$(COMPILE) $(UPGRADE) pyproject.toml --group build --group dev -c requirements.lock -o requirements-dev.lock

clean: ## remove the environment and everything that tools left behind
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps make a second run start at once. The project is installed editable, so a changed source
# needs no new install; the build backend comes from the lock, so nothing is fetched to build it.
$(VENV)/.runtime: $(BIN)/python requirements.lock pyproject.toml
	@echo 'installing the locked packages into $(VENV)'
	@$(PIP) --require-hashes -r requirements.lock
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(BIN)/python requirements-dev.lock pyproject.toml
	@echo 'installing the locked packages, test and check tools included, into $(VENV)'
	@$(PIP) --require-hashes -r requirements-dev.lock
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@ $(VENV)/.runtime

$(BIN)/python:
	@found=; bare=; \
	for python in $(PYTHON); do \
	  "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue; \
	  if "$$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then found=$$python; break; fi; \
	  bare=$$python; \
	done; \
	if [ -n "$$found" ]; then echo "creating $(VENV) with $$($$found -V)"; "$$found" -m venv --clear $(VENV) || { rm -rf $(VENV); exit 1; }; \
	elif [ -n "$$bare" ]; then echo "$$bare cannot create virtual environments: on Debian or Ubuntu, run 'apt install python3-venv'" >&2; exit 1; \
	else echo "no Python 3.11 or newer was found on PATH (looked for: $(PYTHON))" >&2; exit 1; fi
