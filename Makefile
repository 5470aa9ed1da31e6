PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Make waiting threads yield soon: on a busy machine, spinning makes training tens of times slower.
export GOMP_SPINCOUNT ?= 1000

.PHONY: demo setup test test-all test-oldest torture lint docs lock clean

## Train on images of solar cells, evaluate on the test set, write a report.
demo: setup
	$(BIN)/transxnet train elpv --recipe demo

## Create .venv with the pinned dependencies and this package.
setup: $(VENV)/.installed

$(VENV)/.installed: requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; name another: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

## Run the tests that take minutes at most; test-all adds the long ones.
test: setup
	$(BIN)/python -m pytest -n auto --dist loadfile

test-all: setup
	$(BIN)/python -m pytest -n auto --dist loadfile -m ''

## Run the tests that depend most on other packages, with the oldest supported versions.
test-oldest: $(VENV)-oldest/.installed
	PYTHONPATH=src $(VENV)-oldest/bin/python -m pytest $(OLDEST_TESTS)

OLDEST_TESTS ?= tests/api tests/untrusted_files tests/data tests/heads tests/layers tests/models tests/contracts \
	tests/training/test_train.py tests/training/test_train_dense.py tests/training/test_train_resume.py \
	tests/prediction/test_predict.py

$(VENV)-oldest/.installed: requirements-oldest.txt
	$(PYTHON) -m venv $(VENV)-oldest
	$(VENV)-oldest/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-oldest.txt
	touch $@

## Fault injection: kill trainings at every point and at random times, and make their disks fail. Takes up to an hour.
torture: setup
	$(BIN)/python -m pytest -n auto --dist worksteal -m '' tests/fault_injection

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

## Build the documentation in site/; a broken link is an error.
docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# Into the same environment: the reference of the commands imports this package.
$(VENV)/.installed-docs: $(VENV)/.installed requirements-docs.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-docs.txt
	touch $@

## Pin the dependencies again (needs uv).
lock:
	uv pip compile pyproject.toml --universal --python-version 3.11 --extra samples --extra detect --extra explain --extra readers \
		--extra export --extra parquet --extra ray --extra app --extra dev \
		--generate-hashes --no-emit-index-url --no-header --upgrade -o requirements.txt
	uv pip compile pyproject.toml --universal --python-version 3.11 --resolution lowest-direct --extra samples \
		--extra detect --extra explain --extra readers --extra dev \
		--generate-hashes --no-emit-index-url --no-header --upgrade -o requirements-oldest.txt
	$(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"], sep="\n")' \
		| uv pip compile - --universal --python-version 3.11 --constraints requirements.txt \
		--generate-hashes --no-emit-index-url --no-header --no-annotate --upgrade -o requirements-docs.txt

clean:
	rm -rf $(VENV) $(VENV)-oldest runs site .pytest_cache .ruff_cache .mypy_cache
