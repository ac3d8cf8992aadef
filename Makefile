# Two commands: `make serve` and `make test`. Both install on first use and need no network afterwards.
PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: serve test soak check audit secrets format constraints

serve: $(STAMP)
	$(VENV)/bin/exitramp serve

test: $(STAMP)
	$(VENV)/bin/pytest

# All reliability tests, the long ones included: under 30 minutes, nothing else should run meanwhile.
soak: $(STAMP)
	$(VENV)/bin/pytest tests/reliability -m "soak or not soak" --figures build/reliability/figures.md

check: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(MAKE) secrets audit

secrets: $(STAMP)
	$(VENV)/bin/python -m deploy.leaks

# Known vulnerabilities of what is pinned. Without PyPI's advisories it says so and does not fail.
audit: $(STAMP)
	$(VENV)/bin/python -m deploy.audit

format: $(STAMP)
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

# One resolver run for everything, so that constraints hold for all of it.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "exitramp needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[development]'
	touch $(STAMP)

constraints: $(STAMP)
	{ grep '^#' constraints.txt; $(VENV)/bin/python -m pip list --format=freeze --exclude-editable --exclude pip --exclude setuptools | sed 's/+cpu//'; \
	  grep -E '^(setuptools|async-timeout)==' constraints.txt; } | sort -fu > constraints.new
	mv constraints.new constraints.txt
