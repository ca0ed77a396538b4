# Vinkje. `make` alone shows what there is. Needed: Python 3.11 or newer, and make.
.DEFAULT_GOAL := help
.PHONY: help run test test-system check bench bench-large chaos lock clean

VENV := .venv
BIN := $(VENV)/bin
SYSTEM_PACKAGES := chromium dovecot-imapd fonts-liberation postfix

# The newest Python on the PATH that is new enough; PYTHON=… chooses another.
FIND_PYTHON = \
	for python in $(PYTHON) python3.14 python3.13 python3.12 python3.11 python3 python; do \
		if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then break; fi; \
		python=; \
	done; \
	if [ -z "$$python" ]; then \
		echo "Vinkje needs Python 3.11 or newer, and finds $$(python3 --version 2>/dev/null || echo none)." >&2; \
		echo "On Debian and Ubuntu: apt install python3 python3-venv. Or name one: make PYTHON=/path/to/python3.12" >&2; \
		exit 1; \
	fi; \
	if ! "$$python" -c 'import venv, ensurepip' >/dev/null 2>&1; then \
		echo "$$("$$python" --version) has no venv or no ensurepip. On Debian and Ubuntu: apt install python3-venv" >&2; \
		exit 1; \
	fi

help: ## Show this
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/run.stamp ## Start Vinkje on http://localhost:8000 (another port: make run PORT=8001)
	@$(BIN)/vinkje up

test: $(VENV)/dev.stamp ## Run the tests; PostgreSQL and a Redis-protocol server come in as wheels
	$(BIN)/python -m pytest -n 2 --dist worksteal --ignore=tests/system $(ARGS)

# Postfix comes without a configuration: then its package starts nothing, and one that is there stays as it is.
# Dovecot's would start a server, now and at each boot: it is told not to. The tests start their own.
# Nothing is removed for them, such as another mail server.
test-system: $(VENV)/dev.stamp ## Run the tests in a browser, through Postfix and on Dovecot; installs Debian packages when root
	@set -e; missing=; \
	for package in $(SYSTEM_PACKAGES); do \
		dpkg-query -W -f '$${Status}' "$$package" 2>/dev/null | grep -q ' installed$$' || missing="$$missing $$package"; \
	done; \
	if [ -n "$$missing" ]; then \
		if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
			echo "These tests need Debian packages. Run: sudo apt-get install -y$$missing" >&2; exit 1; \
		fi; \
		echo "Installing$$missing…"; \
		case "$$missing" in *postfix*) \
			echo 'postfix postfix/main_mailer_type select No configuration' | debconf-set-selections;; \
		esac; \
		had_dovecot=$$(command -v dovecot || true); \
		if [ ! -e /usr/sbin/policy-rc.d ]; then \
			trap 'rm -f /usr/sbin/policy-rc.d' EXIT; \
			printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d; \
		fi; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends --no-remove $$missing >/dev/null; \
		[ -n "$$had_dovecot" ] || update-rc.d dovecot disable >/dev/null 2>&1 || true; \
	fi
	$(BIN)/python -m pytest tests/system -rs $(ARGS)

check: $(VENV)/dev.stamp ## Lint, format, types, import contracts, house rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m pytest tests/test_house.py

bench: $(VENV)/dev.stamp ## Measure a round end to end beside Postfix's own load generator (about ten minutes)
	$(BIN)/python -m bench $(ARGS)

bench-large: $(VENV)/dev.stamp ## The same with a million readers
	$(BIN)/python -m bench --readers 1000000 $(ARGS)

chaos: $(VENV)/dev.stamp ## Kill, cut and confuse a round in every way we know, and count (about twenty-five minutes)
	$(BIN)/python -m tests.chaos $(ARGS)

lock: $(VENV)/run.stamp ## Resolve pyproject.toml into requirements/*.lock anew
	@set -e; uv=$$(command -v uv || echo $(BIN)/uv); \
	[ -x "$$uv" ] || $(BIN)/python -m pip install --quiet uv; \
	compile="$$uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
		--no-header --no-emit-index-url --no-annotate --quiet $(ARGS)"; \
	$$compile --group build -o requirements/run.lock; \
	$$compile --group build --group test --group check --group system -c requirements/run.lock -o requirements/dev.lock
	@echo "Locked. The next make run or make test installs what changed."

clean: ## Remove .venv and caches; data/ stays
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/run.stamp: requirements/run.lock pyproject.toml requirements/install.py
	@$(FIND_PYTHON); exec "$$python" requirements/install.py run

$(VENV)/dev.stamp: requirements/dev.lock pyproject.toml requirements/install.py
	@$(FIND_PYTHON); exec "$$python" requirements/install.py dev
