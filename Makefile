# AcademyHub: `make run` starts the academy on this machine; `make test` proves it. `make help` lists the rest.

.DEFAULT_GOAL := help
BIN := .venv/bin
JOBS ?= $(shell nproc)

.PHONY: help run test attacks check images bench-spawn bench-exchange bench-grading bench-gpus clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## set everything up and start the academy on 127.0.0.1:8000
	@setup/venv.sh local
	@exec $(BIN)/academy run $(ARGS)

test: ## install what the tests want, then run all of them
	@setup/venv.sh test
	@setup/tests.sh
	@$(MAKE) --no-print-directory check
	@if docker info >/dev/null 2>&1; then $(BIN)/academy images build; fi
	$(BIN)/pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder --durations 15 $(ARGS)

attacks: ## try to cheat the grader in every way we know; build/attacks.json
	@setup/venv.sh test
	@setup/tests.sh
	@$(BIN)/academy images build sandbox
	@$(BIN)/python -m tests.attacks -n $(JOBS) $(ARGS)

check: ## ruff, mypy, import-linter
	@setup/venv.sh test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

images: ## build the notebook and sandbox images
	@setup/venv.sh local
	$(BIN)/academy images build $(ARGS)

bench-spawn: ## stock DockerSpawner against ours
	@setup/venv.sh test
	@setup/tests.sh
	@$(BIN)/academy images build
	$(BIN)/python -m benchmarks.spawn

bench-exchange: ## 300 students submit within a minute; five kills
	@setup/venv.sh test
	@setup/tests.sh
	$(BIN)/python -m benchmarks.exchange

bench-grading: ## stock nbgrader autograde against ours; submit to score; gates nobody may pass
	@setup/venv.sh test
	@setup/tests.sh
	@$(BIN)/academy images build sandbox
	$(BIN)/python -m benchmarks.grading

bench-gpus: ## a simulated week against first come, first served; what a decision costs
	@setup/venv.sh test
	$(BIN)/python -m benchmarks.gpus

clean: ## remove what was built (data/ stays)
	rm -rf build .venv
