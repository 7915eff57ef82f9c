# make run and make test do everything on a fresh machine with Python 3.11 or newer. make help lists the rest.
PYTHON ?= python3
ARGS ?=
PIP_ARGS ?=
PYTEST_ARGS ?=

VENV := .venv
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
WITHOUT_BROWSER := $(filter-out 0,$(NO_BROWSER))
# In the order of tests/conftest.py: what one process is busy with for longest begins first.
IN_TWO := --numprocesses 2 --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: run test lint check audit lock locked chromium help

run: $(VENV)/run.stamp ## Start the app. ARGS="--port 8000 ..." hands flags on
	@$(BIN)/python app.py $(ARGS)

test: check chromium ## Run the tests. NO_BROWSER=1 leaves the browser tests out
	$(BIN)/python -m pytest $(IN_TWO) $(if $(WITHOUT_BROWSER),-m "not browser and not gpu and not slow") $(PYTEST_ARGS)

lint: check audit ## Check the code's style and types, and the packages for known faults

# Gradio writes a stub beside the source of a component of ours, and mypy would read it instead of the source.
check: $(VENV)/test.stamp ## Check the code's style and types, as make test does before anything runs
	$(BIN)/ruff check
	@find ui -name '*.pyi' -delete
	$(BIN)/python -m mypy

# Its tools have an environment of their own, so that they change none of the app's packages.
AUDIT := $(VENV)/audit
AUDIT_BIN := $(AUDIT)/$(notdir $(BIN))
OFFLINE := ConnectionError|ConnectTimeout|Max retries|Failed to resolve|could not be audited: numpy

audit: $(AUDIT)/tools.stamp
	@$(AUDIT_BIN)/pip-audit --progress-spinner off --disable-pip --require-hashes -r requirements-lock.txt \
		> $(AUDIT)/report 2>&1; code=$$?; \
	if grep -qE '$(OFFLINE)' $(AUDIT)/report; then \
		echo "No package was checked for known faults: the list of them cannot be reached from here."; \
	else \
		cat $(AUDIT)/report; exit $$code; \
	fi

$(AUDIT)/tools.stamp: | $(BIN)/python
	@$(BIN)/python -m venv $(AUDIT)
	$(AUDIT_BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) pip-audit==2.10.1 uv==0.13.9
	@touch $@

# Not what run and test install: hashes hold for the files of the Python Package Index alone, and a torch for CPUs, or one
# that a system brings along, is another file of the same version.
locked: | $(BIN)/python ## Install exactly the files of requirements-lock.txt (Linux x86-64), by their hashes
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-lock.txt
	@touch $(VENV)/run.stamp

lock: $(AUDIT)/tools.stamp ## Write requirements-lock.txt anew after a pin of requirements.txt has changed
	$(AUDIT_BIN)/uv pip compile --quiet --generate-hashes --no-config \
		--custom-compile-command "make lock" --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
		--output-file requirements-lock.txt requirements.txt

help: ## Say what can be made
	@sed -n 's/^\([a-z]*\):.*## /\1: /p' Makefile
	@echo "PYTHON=python3.12 takes another Python; PIP_ARGS is handed to pip install."

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed, and $(PYTHON) is not. Name another one: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "Python's venv module is needed to go on."; exit 1; }

# A stamp is newer than the list of packages that it stands for.
$(VENV)/run.stamp: requirements.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -r requirements.txt
	@touch $@

$(VENV)/test.stamp: requirements-dev.txt $(VENV)/run.stamp
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -r requirements-dev.txt
	@touch $@

chromium:
ifneq ($(WITHOUT_BROWSER),)
	@echo "NO_BROWSER is set: the browser tests are left out."
else
	@for name in chromium chromium-browser google-chrome; do command -v $$name > /dev/null && exit 0; done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium; \
	else \
		echo "The browser tests need Chromium: install it, or leave them out with make test NO_BROWSER=1"; exit 1; \
	fi
endif
