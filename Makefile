# Everything a person types. The newest of Python 3.12 and 3.11 that really runs is used.
SHELL := /bin/bash
VENV := .venv
PY := $(VENV)/bin/python
SOURCE ?= complete-journey
DATA ?=
AS_OF ?=

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev demo stop clean test browser-test cluster-test backfill-test check \
  format lock bench faults gpu-test memory-test

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /\1\t/' | expand -t 14

setup: $(VENV)/.runtime ## build .venv from the pinned requirements

setup-dev: $(VENV)/.dev ## the same, with what tests and checks need

$(VENV)/bin/uv:
	@found=; for name in python3.12 python3.11; do \
	  if "$$name" -c 'import venv, ensurepip' >/dev/null 2>&1; then found=$$name; break; fi; done; \
	if [ -z "$$found" ]; then \
	  echo "Python 3.11 or 3.12 with its venv module is needed: apt-get install python3-venv" >&2; \
	  exit 1; fi; \
	echo "building $(VENV) with $$($$found --version)"; \
	"$$found" -m venv $(VENV) && \
	$(PY) -m pip install --quiet --disable-pip-version-check 'uv==0.13.9'

# Bytecode is compiled here, so that Airflow's commands start fast on their first call.
$(VENV)/.runtime: requirements.txt | $(VENV)/bin/uv
	$(VENV)/bin/uv pip install --python $(PY) --quiet --compile-bytecode --require-hashes -r requirements.txt
	@touch $@

$(VENV)/.browser: requirements-browser.txt $(VENV)/.dev
	$(VENV)/bin/uv pip install --python $(PY) --quiet --require-hashes -r requirements-browser.txt
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.runtime
	$(VENV)/bin/uv pip install --python $(PY) --quiet --compile-bytecode --require-hashes -r requirements-dev.txt
	@touch $@

demo: setup ## a real retailer's year through Airflow [SOURCE=sample-store | SOURCE=online-retail DATA=folder] [AS_OF=day]
	@$(PY) -m ecom_tasks demo --source "$(SOURCE)" $(if $(DATA),--data "$(DATA)") $(if $(AS_OF),--as-of "$(AS_OF)")

stop: ## end what the demonstration started, and nothing else
	@if [ -x $(PY) ]; then $(PY) -m ecom_tasks services stop; fi

clean: ## stop, and remove the demonstration's data
	@if [ -x $(PY) ]; then $(PY) -m ecom_tasks services clean; fi

SERVING := tests/integration tests/faults tests/memory
PLAIN := tests/unit tests/flows tests/dags tests/gpu

# Those that start services mostly wait for them: they run beside the others, and are shown last.
test: setup-dev ## all tests
	@shown=$$(mktemp); trap 'kill $$serving 2>/dev/null; rm -f $$shown' EXIT; \
	$(PY) -m pytest $(SERVING) >$$shown 2>&1 & serving=$$!; \
	$(PY) -m pytest $(PLAIN); plain=$$?; \
	wait $$serving; served=$$?; cat $$shown; \
	exit $$(( plain || served ))

browser-test: demo $(VENV)/.browser ## the console in Chromium, on the demonstration's artefacts
	@command -v "$${ECOM_CHROMIUM:-/usr/bin/chromium}" >/dev/null || \
	  { echo "Chromium is needed: apt-get install chromium" >&2; exit 1; }
	$(PY) -m pytest tests/browser

check: setup-dev ## lint, types, layers, requirements, secrets, container files
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	PYTHONPATH=. $(VENV)/bin/lint-imports --no-cache
	$(PY) .ci/check_repository.py
	$(VENV)/bin/hadolint docker/Dockerfile
	$(PY) .ci/check_docker.py

format: setup-dev ## rewrite the sources in the project's form
	$(VENV)/bin/ruff check --fix --select I,RUF100 . ; $(VENV)/bin/ruff format .

bench: setup ## measure beside peers, write benchmarks/RESULTS.md and plots [LONG=1: the largest sizes]
	$(PY) -m benchmarks $(if $(LONG),--long)

faults: setup-dev ## 1,000 publishes while everything breaks (under 10 minutes)
	PYTHONPATH=. $(PY) -m tests.faults.storm

memory-test: setup-dev ## 50 million lines in 3 GiB a process (some 20 minutes, 15 GB of disk) [MODELS="recommendation pricing inventory"]
	MEMORY_TEST_ROWS=50000000 MEMORY_TEST_GIB=3 MEMORY_TEST_MODELS="$(MODELS)" $(PY) -m pytest -s tests/memory

gpu-test: setup-dev ## one suite for both devices; says what it skips where there is no GPU
	$(PY) -m pytest tests/gpu -rs

backfill-test: setup-dev ## eight weeks made up for by Airflow, against single runs (some minutes)
	$(PY) -m pytest tests/backfill

cluster-test: setup-dev ## the demonstration through Postgres, Redis, Celery and Dask [SOURCE=... DATA=...]
	SOURCE="$(SOURCE)" DATA="$(DATA)" $(PY) -m pytest -s tests/cluster

# Each is held to what those before it chose.
LOCKS := requirements requirements-gpu requirements-airflow requirements-dev requirements-browser

lock: $(VENV)/bin/uv ## resolve the .in files into the pinned ones
	for name in $(LOCKS); do \
	  $(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes $(UPGRADE) \
	    -o $$name.txt $$name.in || exit 1; done
