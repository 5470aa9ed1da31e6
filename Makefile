PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Make waiting threads yield soon: on a busy machine, spinning makes training much slower.
export GOMP_SPINCOUNT ?= 1000
# Commands that tests start load compiled modules, which saves seconds each.
unexport PYTHONDONTWRITEBYTECODE

PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

.PHONY: demo demo-web setup test test-all test-oldest torture lint docs wheel lock clean

## Train on images of solar cells, evaluate on the test set, write a report.
demo: $(VENV)/.demo
	$(BIN)/transxnet train elpv --recipe demo

## Export the model of the last demo as a web page, in demo-web/.
demo-web: setup
	@test -n "$(DEMO_RUN)" || { echo "There is no run of the demo. First run: make demo"; exit 1; }
	$(BIN)/transxnet export $(DEMO_RUN) --format web --out demo-web --overwrite

DEMO_RUN = $(shell ls -td runs/transxnet_n-elpv-*/ 2>/dev/null | head -1)

## Create .venv with this package and all pinned dependencies.
setup: $(VENV)/.installed

# The demo needs fewer packages than the tests; the versions are the same.
$(VENV)/.demo: requirements-demo.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; name another: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --require-hashes -r requirements-demo.txt
	$(PIP) install --no-deps --no-build-isolation -e .
	touch $@

$(VENV)/.installed: requirements.txt $(VENV)/.demo
	$(PIP) install --require-hashes -r requirements.txt
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

## Build the source archive and the wheel, and test the wheel in an environment without extras.
wheel: setup
	rm -rf dist
	$(BIN)/python -c 'from setuptools import build_meta; build_meta.build_sdist("dist"); build_meta.build_wheel("dist")'
	$(BIN)/python -m pytest -m '' tests/contracts/test_wheel.py

## Build the documentation in site/; a broken link is an error.
docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# Into the same environment: the reference of the commands imports this package.
$(VENV)/.installed-docs: $(VENV)/.installed requirements-docs.txt
	$(PIP) install --require-hashes -r requirements-docs.txt
	touch $@

## Pin the dependencies again (needs uv).
lock:
	uv pip compile pyproject.toml --universal --python-version 3.11 --extra samples --extra detect --extra explain --extra pretrain --extra readers --extra channels \
		--extra export --extra mobile --extra parquet --extra ray --extra app --extra frameworks --extra dev \
		--generate-hashes --no-emit-index-url --no-header --upgrade -o requirements.txt
	uv pip compile pyproject.toml --universal --python-version 3.11 --extra samples --extra explain \
		--constraint requirements.txt --generate-hashes --no-emit-index-url --no-header -o requirements-demo.txt
	uv pip compile pyproject.toml --universal --python-version 3.11 --resolution lowest-direct --extra samples \
		--extra detect --extra explain --extra pretrain --extra readers --extra channels --extra dev \
		--generate-hashes --no-emit-index-url --no-header --upgrade -o requirements-oldest.txt
	uv pip compile pyproject.toml --universal --python-version 3.11 --extra docs \
		--constraint requirements.txt --generate-hashes --no-emit-index-url --no-header -o requirements-docs.txt

clean:
	rm -rf $(VENV) $(VENV)-oldest build dist runs site demo-web .pytest_cache .ruff_cache .mypy_cache
