# Everything that contributors and CI run; needs only Python and make.
#
# Environments live under .envs/NAME, one for each set of pinned versions in constraints/NAME.txt:
#   airflow   the Airflow face with its newest release; the demo, the linters and most tests run here
#   prefect   the Prefect face with its newest release; its demo and its tests run here
#   both      both faces beside each other, with the newest Prefect that Airflow's fastapi allows
#   docs      builds the documentation as a site

SHELL := /bin/sh
PYTHON ?= python3
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

ENVIRONMENTS := airflow prefect both docs
AIRFLOW := .envs/airflow/bin
PREFECT := .envs/prefect/bin
BOTH := .envs/both/bin

# The tests of each face; test-core runs all others.
AIRFLOW_TESTS := tests/airflow tests/conformance/test_airflow.py
# What starts servers of its own comes first: those that tests share run until the end, and take time while they idle.
AIRFLOW_E2E_TESTS := tests/quickstart/test_airflow.py tests/chaos tests/e2e
PREFECT_TESTS := tests/prefect tests/conformance/test_prefect.py
PREFECT_E2E_TESTS := tests/quickstart/test_prefect.py tests/prefect_e2e
# What differs with Prefect's version: its private API, blocks, tasks, hooks, its server, and what is shown there.
OLD_PREFECT_TESTS := $(patsubst %,tests/prefect/test_%.py,internals credentials jobs tasks hooks display server hidden_values)
TESTS_OF_FACES := $(AIRFLOW_TESTS) $(AIRFLOW_E2E_TESTS) $(PREFECT_TESTS) $(PREFECT_E2E_TESTS) tests/both

# What each environment installs of this distribution, and the groups of tools beside it.
EXTRAS_airflow := airflow,openlineage,mlflow,functions,local,examples
GROUPS_airflow := --group test --group fuzz --group postgresql --group lint --group browser
EXTRAS_prefect := prefect,mlflow,functions,local,examples
GROUPS_prefect := --group test --group browser
# Prefect names this ceiling itself since 3.9.1; older releases leave it out and break above it.
PINS_prefect := 'fastapi<0.151'
EXTRAS_both := airflow,prefect
GROUPS_both := --group test
GROUPS_docs := --group docs

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: .envs/airflow/stamp ## run the example DAGs in a real Airflow on an embedded FirecREST
	@exec $(AIRFLOW)/python -m demo

.PHONY: demo-prefect
demo-prefect: .envs/prefect/stamp ## run the example flows with a real Prefect server on an embedded FirecREST
	@exec $(PREFECT)/python -m demo.prefect

.PHONY: test
test: lint test-prefect test-airflow-e2e test-core test-airflow test-both docs ## run all tests, in environments built here

.PHONY: test-airflow
test-airflow: .envs/airflow/stamp ## run the tests of the Airflow face
	$(AIRFLOW)/python benchmarks/import_cost.py --check
	$(AIRFLOW)/python -m pytest $(AIRFLOW_TESTS) $(PYTEST_ARGS)

.PHONY: test-airflow-e2e
test-airflow-e2e: .envs/airflow/stamp ## run the tests with a real Airflow
	$(AIRFLOW)/python -m pytest $(AIRFLOW_E2E_TESTS) $(PYTEST_ARGS)

.PHONY: test-core
test-core: .envs/airflow/stamp ## run the tests of the core, of the embedded server, and of the repository itself
	$(AIRFLOW)/python -m pytest $(TESTS_OF_FACES:%=--ignore %) $(PYTEST_ARGS)

.PHONY: test-prefect
test-prefect: .envs/prefect/stamp ## run the tests of the Prefect face
	$(PREFECT)/python benchmarks/import_cost.py prefect --check
	$(PREFECT)/python -m pytest $(PREFECT_E2E_TESTS) $(PYTEST_ARGS)
	$(PREFECT)/python -m pytest $(PREFECT_TESTS) $(PYTEST_ARGS)

.PHONY: test-both
test-both: .envs/both/stamp ## run tests of the Prefect face beside Airflow, with the oldest supported Prefect
	$(BOTH)/python -m pytest tests/both $(OLD_PREFECT_TESTS) $(PYTEST_ARGS)

# mypy reads the types of Prefect, which is not in the environment that it runs in, from the other one.
.PHONY: lint
lint: .envs/airflow/stamp .envs/prefect/stamp ## run ruff, mypy and import-linter
	$(AIRFLOW)/ruff check .
	$(AIRFLOW)/ruff format --check .
	$(AIRFLOW)/mypy
	$(AIRFLOW)/mypy --python-executable $(PREFECT)/python prefect_firecrest
	$(AIRFLOW)/lint-imports

# A broken link is an error. The site loads nothing from other hosts.
.PHONY: docs
docs: .envs/docs/stamp ## build the documentation as a site in build/site
	NO_MKDOCS_2_WARNING=1 .envs/docs/bin/mkdocs build --quiet

.PHONY: format
format: .envs/airflow/stamp ## format the code and fix what ruff can fix
	$(AIRFLOW)/ruff check --fix .
	$(AIRFLOW)/ruff format .

.PHONY: screenshots
screenshots: .envs/airflow/stamp .envs/prefect/stamp ## take the screenshots in docs/images (needs Chromium)
	$(AIRFLOW)/python docs/screenshots.py
	$(PREFECT)/python docs/screenshots_prefect.py

.PHONY: architecture
architecture: .envs/airflow/stamp ## draw the picture in docs/architecture.md (needs Graphviz)
	$(AIRFLOW)/python docs/architecture_picture.py

.PHONY: constraints
constraints: $(ENVIRONMENTS:%=constrain-%) ## pin the newest versions in constraints/

.PHONY: $(ENVIRONMENTS:%=constrain-%)
$(ENVIRONMENTS:%=constrain-%): constrain-%:
	rm -rf .envs/fresh-$*
	$(PYTHON) -m venv .envs/fresh-$*
	.envs/fresh-$*/bin/pip install --quiet --upgrade 'pip>=25.1'
	.envs/fresh-$*/bin/pip install --quiet --editable '.$(EXTRAS_$*:%=[%])' \
	  $(GROUPS_$*) $(PINS_$*)
	mkdir -p constraints
	{ echo '# Made by `make constraints`: the versions that development and CI use.'; \
	  .envs/fresh-$*/bin/pip freeze --exclude-editable; } > constraints/$*.txt
	rm -rf .envs/fresh-$*

# An environment is made once and brought up to date when its versions or our requirements change. Byte code is written
# where it is used: that is a small part of what is installed.
.envs/%/stamp: pyproject.toml constraints/%.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + ": name another with make PYTHON=...")'
	@echo "Building the environment .envs/$* (a minute or two) ..."
	@test -x .envs/$*/bin/pip || $(PYTHON) -m venv .envs/$*
	@.envs/$*/bin/pip install --quiet --upgrade 'pip>=25.1'
	@.envs/$*/bin/pip install --quiet --no-compile --editable '.$(EXTRAS_$*:%=[%])' $(GROUPS_$*) --constraint constraints/$*.txt
	@touch $@

.PHONY: clean
clean: ## remove the environments and what the demo left
	rm -rf .envs .demo .demo-prefect build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
