# What can be done here? `make` alone prints it. Each target brings what it needs: on a fresh Debian or Ubuntu with
# Python >= 3.11 and make, `make demo` is the whole install.
#
# One virtual environment holds everything, installed from requirements-dev.lock with pip's hash check; nothing unpinned
# is ever fetched, because the project itself is built by the locked hatchling (no build isolation, no dependencies).

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.SILENT:
.NOTPARALLEL:
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
UV_VERSION := 0.13.8
BENCHMARKS := $(filter-out __init__,$(basename $(notdir $(wildcard tests/bench/*.py))))

# Shell functions of the two set-up recipes.
# apt_install: Debian's package scripts ask policy-rc.d whether they may start a service; 101 is no. One that is there
# already stays as it is.
define SETUP
say() { printf 'pd-autoscaler: %s\n' "$$*" >&2; }
may_apt() { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; }
apt_install() (
  policy=/usr/sbin/policy-rc.d log=$$(mktemp)
  trap 'rm -f "$$log" $${made:-}' EXIT
  if [ ! -e $$policy ]; then made=$$policy; printf '#!/bin/sh\nexit 101\n' >$$policy; chmod +x $$policy; fi
  say "installing the Debian package $$1"
  export DEBIAN_FRONTEND=noninteractive
  { apt-get update && apt-get install --yes --no-install-recommends "$$1"; } >"$$log" 2>&1 || { tail -n 5 "$$log" >&2; return 1; }
)
find_python() {
  local name
  for name in $${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
    if "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo "$$name"; return; fi
  done
  say "needs Python 3.11 or newer, found $$("$${PYTHON:-python3}" --version 2>/dev/null || echo none);" \
    "Debian 12 and Ubuntu 24.04 have it: sudo apt-get install python3"
  return 1
}
endef

# Programs in $KUBEBUILDER_ASSETS, set on purpose, are taken as they are.
define ON_THE_PLANE
$(SETUP)
if ! command -v openssl >/dev/null && ! { may_apt && apt_install openssl; }; then
  say "needs openssl: sudo apt-get install openssl"
  exit 1
fi
if [ -z "$${KUBEBUILDER_ASSETS:-}" ]; then tests/e2e/controlplane/build.sh; fi
exec $(BIN)/pytest $(1) $(ARGS)
endef

help: ## print this list
	awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(INSTALLED) ## the real controller over a simulated day, with a live page   (ARGS="--speed 120")
	exec $(BIN)/autoscaler demo $(ARGS)

test: $(INSTALLED) prometheus nginx ## every test, those against a real Prometheus and nginx included   (ARGS="-k forecast")
	# Those that watch several processes in real time come last, one at a time. 5: no test is selected, by ARGS.
	$(BIN)/pytest -m "not plane and not alone" --numprocesses=2 --dist=loadfile $(ARGS) || [ $$? = 5 ]
	$(BIN)/pytest -m "alone and not plane" $(ARGS) || [ $$? = 5 ]

test-unit: $(INSTALLED) ## the tests that need no server and no process of their own
	exec $(BIN)/pytest --ignore=tests/e2e -m "not plane and not prometheus and not slow" --hypothesis-profile=quick --numprocesses=2 --dist=loadfile $(ARGS)

test-plane: $(INSTALLED) prometheus ## the tests on a real Kubernetes control plane, on loopback   (ARGS="-k lease")
	$(call ON_THE_PLANE,-m "plane and not chaos")

chaos: $(INSTALLED) prometheus ## the same, and all that is broken there: kills before every write, faults, schedules   (ARGS="-k late")
	$(call ON_THE_PLANE,-m "plane or chaos" tests/e2e/plane/chaos)

check: $(INSTALLED) ## lint, format, types, import rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

bench: $(INSTALLED) ## print the figures of one benchmark   (NAME=tick, start, metrics, kube, simulator, truth, forecast, decision, rejection, sidecar, companion or chaos)
	if [ ! -f "tests/bench/$(NAME).py" ]; then
	  echo "pd-autoscaler: NAME must be one of: $(BENCHMARKS)" >&2
	  exit 2
	fi
	exec $(BIN)/python -m tests.bench.$(NAME) $(ARGS)

dashboards: $(INSTALLED) ## write dashboards/pd-autoscaler.json again from dashboards/build.py
	exec $(BIN)/python dashboards/build.py

manifests: $(INSTALLED) ## write the CRD and what else in manifests/ is generated again
	tests/e2e/controlplane/build.sh
	digest=$$(sha256sum tests/e2e/controlplane/go.sum)
	export PATH="$${PDA_CACHE:-$$HOME/.cache/pd-autoscaler}/controlplane/$${digest:0:12}:$$PATH"
	$(BIN)/autoscaler crd >manifests/crd/pdautoscalers.yaml
	exec $(BIN)/python manifests/build.py

lock: $(INSTALLED) ## resolve the locks again from pyproject.toml   (ARGS=--upgrade for the newest versions)
	$(PIP) install uv==$(UV_VERSION)
	export UV_CUSTOM_COMPILE_COMMAND="make lock"
	compile() { $(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url "$$@"; }
	compile $(ARGS) --output-file requirements.lock
	compile $(ARGS) --extra dev --constraint requirements.lock --output-file requirements-dev.lock

clean: ## remove everything that make, Python and its tools made
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find autoscaler tests -name __pycache__ -prune -exec rm -rf {} +

.venv: $(INSTALLED)

$(INSTALLED): requirements-dev.lock pyproject.toml
	$(SETUP)
	python=$$(find_python)
	if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then
	  package=$$("$$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
	  if ! may_apt || ! apt_install "$$package"; then
	    say "$$python cannot make virtual environments; run: sudo apt-get install $$package"
	    exit 1
	  fi
	fi
	say "installing into $(VENV) (once, about half a minute)"
	"$$python" -m venv $(VENV)
	$(PIP) install --require-hashes --requirement requirements-dev.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	touch $@

# Without a server the tests marked `prometheus` skip and say so; where CI=true that would be a green run that tested
# less, so there it is an error.
prometheus:
	$(SETUP)
	if command -v prometheus >/dev/null; then exit 0; fi
	if may_apt && apt_install prometheus; then update-rc.d prometheus disable >/dev/null 2>&1 || true; exit 0; fi
	say "no prometheus on PATH: the tests against a real one are skipped; to run them: sudo apt-get install prometheus"
	if [ "$${CI:-}" = true ]; then exit 1; fi

nginx:
	$(SETUP)
	if command -v nginx >/dev/null; then exit 0; fi
	if may_apt && apt_install nginx-light; then update-rc.d nginx disable >/dev/null 2>&1 || true; exit 0; fi
	say "no nginx on PATH: the tests of a gateway that asks the sidecar are skipped; to run them: sudo apt-get install nginx-light"
	if [ "$${CI:-}" = true ]; then exit 1; fi

controlplane: $(INSTALLED) ## build that control plane (once: about 8 minutes on 2 cores; brings its own Go if there is none)
	exec tests/e2e/controlplane/build.sh

.PHONY: help demo test test-unit test-plane controlplane check bench dashboards manifests lock clean prometheus nginx .venv
