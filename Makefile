# `make help` is the contents page.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
UV_VERSION := 0.9
export PATH := $(HOME)/.local/bin:$(PATH)
RUN := uv run --locked

.PHONY: help
help: ## This page
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  \033[1m%-14s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## Install uv (when it is missing) and the locked Python environment
	@command -v uv >/dev/null || python3 -m pip --version >/dev/null 2>&1 || apt-get install -qq -y python3-pip
	@command -v uv >/dev/null || python3 -m pip install --quiet --user 'uv>=$(UV_VERSION)' || python3 -m pip install --quiet --user --break-system-packages 'uv>=$(UV_VERSION)'
	@uv sync --locked --quiet

.PHONY: demo
demo: setup ## The main job on a bare machine: a cluster, a real model, a fallback under load
	@$(RUN) python -m tests.demo up

.PHONY: demo-down
demo-down: setup ## Take the demo away; leaves nothing but the cache of built programs
	@$(RUN) python -m tests.demo down

.PHONY: test
test: setup lint type verify test-unit test-gateway test-clients test-faults test-models test-operator ## Everything but the end-to-end tier

.PHONY: test-unit
test-unit: setup ## Pure decisions and golden manifests: seconds
	@$(RUN) pytest -q -n 2 tests/unit

.PHONY: test-gateway
test-gateway: setup ## The gateway on real sockets
	@$(RUN) pytest -q -n 4 --dist worksteal tests/gateway

.PHONY: test-faults
test-faults: setup ## Random faults, judged by a model; random bytes, against a second parser
	@$(RUN) pytest -q tests/faults tests/agreement tests/fuzz

.PHONY: fuzz
fuzz: setup ## The same with draws that nobody has seen yet
	@POINTSMAN_DRAW=new $(RUN) pytest -q tests/faults tests/agreement tests/fuzz

.PHONY: test-clients
test-clients: setup ## The official Python and Node.js clients, and OpenAI's own tests, through the gateway
	@$(RUN) pytest -q tests/clients

.PHONY: test-models
test-models: setup programs ## Pulls over real sockets into a store that a real Ollama serves
	@$(RUN) pytest -q tests/models

.PHONY: test-operator
test-operator: setup programs ## The operator on a real API server with real controllers
	@$(RUN) pytest -q -n 2 --dist worksteal tests/operator

.PHONY: e2e
e2e: setup programs images test-compiled ## The longest tier: real pods and a real engine; 128 faults against a real gateway
	@$(RUN) pytest -q tests/conform tests/e2e tests/cluster tests/scale

.PHONY: e2e-vllm
e2e-vllm: setup programs ## A real vLLM on a CPU, in a cluster, frozen, killed, starved, damaged: 15 minutes; writes docs/vllm-run.md
	@$(RUN) python -m tests.e2e_vllm --write

.PHONY: test-compiled
test-compiled: setup ## The gateway's tests once more, on its compiled data path
	@PYTHONPATH="$$($(RUN) python -m tests.compiled)" $(RUN) pytest -q -n 4 --dist worksteal tests/gateway tests/faults tests/fuzz tests/unit/dialects

.PHONY: agreement
agreement: setup ## 10,000 random requests: where explain says that they go, and where they go
	@$(RUN) python -m tests.agreement --write

.PHONY: faults
faults: setup ## 100,000 requests under random faults, then the same while the configuration changes; writes the figures
	@$(RUN) python -m tests.faults --write
	@$(RUN) python -m tests.faults --reload --write

.PHONY: pulls
pulls: setup programs ## 2 GB from every kind of source: killed at random moments, shared, beside ollama pull; writes the figures
	@$(RUN) python -m tests.pulls --write

.PHONY: bursts
bursts: setup programs ## Half an hour of bursts on a whole cluster, the operator's leader killed twice; writes the figures
	@$(RUN) python -m tests.bursts --write

.PHONY: keda
keda: setup programs ## A real KEDA scales a backend: 12 minutes to build it, 4 to run; writes docs/keda-run.md
	@$(RUN) python -m tests.keda --write

.PHONY: scale
scale: setup programs ## 1,000 backends and 1,000 routes: what they cost, how fast changes are carried out; writes docs/scale.md
	@$(RUN) python -m tests.scale --write

.PHONY: lint
lint: setup ## ruff and the import contracts
	@$(RUN) ruff check
	@$(RUN) ruff format --check
	@$(RUN) lint-imports

.PHONY: type
type: setup ## mypy, strict
	@$(RUN) mypy

.PHONY: generate
generate: setup ## Write what comes from code: CRDs, RBAC rules, reference pages, plain manifests
	@$(RUN) python -m tests.generate

.PHONY: verify
verify: setup programs ## What is generated is committed and fresh
	@$(RUN) pytest -q tests/unit/test_generated.py tests/operator/test_chart.py -k 'fresh'

.PHONY: programs
programs: setup ## Build the programs that the test cluster needs (once; cached outside the checkout)
	@$(RUN) python -m tests.cluster programs

.PHONY: images
images: setup ## Build the images without a daemon
	@$(RUN) python -m tests.cluster build-image

.PHONY: cluster
cluster: setup ## A real one-node Kubernetes on this machine (or your KUBECONFIG, or kind)
	@$(RUN) python -m tests.cluster up

.PHONY: cluster-down
cluster-down: setup ## Take it away
	@$(RUN) python -m tests.cluster down

.PHONY: bench
bench: setup ## CPU, latency and memory of the gateway beside its peers, streams that wait: ten minutes; a soak: thirty
	@$(RUN) python -m tests.bench --write
