PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.complete
PIPELINE ?= deploy/flights/flights.toml
UNIT := .venv/.unit-tests

.DEFAULT_GOAL := help
.PHONY: help setup run story blame up test test-faults test-demo check format bench bench-verdicts soak schemas lock clean

help: ## list every verb
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv and install what the lock file names

$(STAMP): requirements.lock build.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 14) else f"Python 3.11, 3.12 or 3.13 is needed; $(PYTHON) is {v[0]}.{v[1]}. Say make PYTHON=python3.12")'
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r build.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@touch $(STAMP)

run: setup ## the main job on real flights: prepare, bring up, send 20,000, report, stop
	$(BIN)/python -m deploy.flights.run

story: setup ## a model's life while flights go by: added, promoted, broken on purpose, rolled back (2 minutes)
	$(BIN)/python -m deploy.flights.story

blame: setup ## two planted faults while flights go by, and whom the monitor blames (1 minute)
	$(BIN)/python -m deploy.flights.blame

up: setup ## bring the flights pipeline up and keep it running (Ctrl-C stops it)
	$(BIN)/python -m deploy.flights.prepare
	$(BIN)/rendezvous up $(PIPELINE)

# Some shells forbid it, and then each of the hundreds of processes of a run compiles all that it imports anew.
test test-faults test-demo: export PYTHONDONTWRITEBYTECODE =

test: setup ## every test, those on real Kafka included; the others take the time that those wait
	@nice -n 10 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder tests/unit >$(UNIT) 2>&1 & unit=$$!; trap 'kill $$unit; exit 130' INT TERM; \
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder tests/faults tests/broker; failed=$$?; \
	echo "the tests without Kafka:"; wait $$unit || failed=1; cat $(UNIT); exit $$failed

test-faults: setup ## every fault at full length, and its table in the README (29 minutes, a quiet machine)
	FAULTS=long $(BIN)/python -m pytest tests/faults

test-demo: setup ## the story and the blame of the demo, told in short and held to their words (3 minutes)
	$(BIN)/python -m pytest tests/demo

check: setup ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup ## measure against hand-written loops (OUT=FILE for the figures as JSON)
	$(BIN)/python -m tests.bench $(if $(OUT),--out $(OUT))

bench-verdicts: setup ## verdicts on seeded faults: right cause, delay, false alarms (OUT=FILE for the figures as JSON)
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m tests.bench.verdicts $(if $(OUT),--out $(OUT))

soak: setup ## ten minutes at 1,000 events per second: memory of each role
	$(BIN)/python -m tests.bench.soak

schemas: setup ## write the JSON Schemas of decisions, labels, verdicts, minutes, rows, scores and pipeline files anew
	for name in decision label minute pipeline row score verdict; do $(BIN)/python -m schemas.json_schemas $$name.schema.json > schemas/$$name.schema.json; done

lock: ## resolve the lock files anew (needs uv)
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --extra demo --extra report --extra s3 --extra onnx --extra http --extra frame --group dev pyproject.toml -o requirements.lock
	printf 'setuptools==83.0.0\nwheel==0.48.0\npip==26.3\n' | uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --no-header - -o build.lock

clean: ## remove the environment, the state folder and what the demo made
	rm -rf .venv .rendezvous deploy/flights/models deploy/flights/build
