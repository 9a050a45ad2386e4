# Gwanmun (관문). `make demo` and `make test` set up whatever is missing; both are instant the second time.
# ARGS goes to the command: make demo ARGS=--scripted, make test ARGS="-k journal".

SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
# Debian keeps mosquitto in /usr/sbin, which is not on every user's path.
export PATH := $(PATH):/usr/sbin:/sbin
.DELETE_ON_ERROR:
.NOTPARALLEL:

.PHONY: help demo test test-all lint bench bench-full chaos fuzz ble-vm fresh-check lock clean setup system

help: ## 이 도움말 / this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

demo: setup ## 작은 건물을 이 컴퓨터에서 실행 / a small building on this machine (ARGS=--scripted)
	@$(BIN)/gwanmun demo $(ARGS)

test: setup ## 빠른 시험 (5분쯤) / the quick tests (about 5 minutes)
	@$(BIN)/python -m pytest -n 2 -m "not slow" $(ARGS)

# In CI a package that is missing is an error, not a skipped test.
test-all: setup ## 느린 시험까지 모두 / every test, the slow ones too
	@scripts/setup.sh $(if $(filter true,$(CI)),,--optional) all
	@$(MAKE) --no-print-directory $(VENV)/.pcsc
	@$(BIN)/python -m pytest -n 2 --dist loadgroup $(ARGS)

lint: $(VENV)/.project ## 형식, 타입, import 방향 / style, types, import direction
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup $(VENV)/.peers ## 속도 측정 / speed figures, into bench/results.json
	@$(BIN)/python -m bench $(ARGS)

# Beside `make bench`, as it takes some 20 minutes and 8 GB of disk.
bench-full: setup ## 천만 건에서의 질문 속도 / every question that a page asks, of ten million events, into bench/results-full.json
	@$(BIN)/python -m bench --full $(ARGS)

chaos: setup ## 무엇이든 망가뜨리고 기록을 셈 / break everything, then count every record (ARGS="--seed 7 --minutes 5")
	@scripts/setup.sh --optional chaos
	@$(BIN)/python -m testbed.chaos $(ARGS)

fuzz: setup ## 파서 하나를 퍼징 / fuzz one parser (ARGS="--seconds 60 response"; without a name: the list)
	@$(BIN)/python -m fuzz $(ARGS)

ble-vm: setup ## 실제 bluetoothd로 블루투스 드라이버를 시험 / Bluetooth drivers on a real bluetoothd, in QEMU (ARGS="central")
	@scripts/setup.sh vm
	@scripts/ble-vm.sh $(ARGS)

fresh-check: ## 새 Debian 12에서 README의 두 명령을 실행 / both README commands on a fresh Debian 12
	@scripts/setup.sh fresh
	@scripts/fresh-check.sh

lock: ## 버전을 다시 잠금 / lock versions anew (ARGS=--upgrade)
	@scripts/lock.sh $(ARGS)

clean: ## 만든 것을 모두 지움 / remove everything made here
	rm -rf $(VENV) build dist bench/results.json bench/results-full.json .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .fuzz .ble-vm
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

setup: system $(VENV)/.project

system:
	@scripts/setup.sh run

$(VENV)/.locked: requirements.lock requirements-build.lock scripts/venv.sh
	@scripts/venv.sh $(VENV)
	@touch $@

# Other readers, measured beside ours. What cannot be installed here is left out of the table, and said.
$(VENV)/.peers: bench/peers.lock $(VENV)/.locked
	@$(BIN)/python -m pip --disable-pip-version-check install -qq --require-hashes --only-binary :all: -r bench/peers.lock || true
	@touch $@

# PC/SC comes as source only. Where it cannot be built, its tests are skipped, and fail in CI.
$(VENV)/.pcsc: deploy/pcsc.lock $(VENV)/.locked
	@if $(BIN)/python -m pip --disable-pip-version-check install -qq --require-hashes --no-build-isolation --use-pep517 -r deploy/pcsc.lock; then touch $@; fi

# The project itself, editable: sources are read from here.
$(VENV)/.project: $(VENV)/.locked pyproject.toml
	@$(BIN)/python -m pip --disable-pip-version-check install -qq --no-index --no-deps --no-build-isolation -e .
	@touch $@
