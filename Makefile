SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

MODULES := . agent collector analyzer deploy/standalone scripts
COMMANDS := bin/ebbwatch bin/ebbwatch-agent bin/ebbwatch-collector bin/ebbwatch-analyzer bin/lab
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
GOBUILD = CGO_ENABLED=0 scripts/progress.sh 'building $@' go build -trimpath -ldflags '-s -w -X github.com/ebbwatch/ebbwatch/internal/cli.version=$(VERSION)'

export EBBWATCH_BIN := $(CURDIR)/bin/ebbwatch

.PHONY: help
help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: up
up: setup bin/ebbwatch ## Run all of Ebbwatch on this host (ARGS='--data DIR --page-port N …')
	@exec bin/ebbwatch up $(ARGS)

.PHONY: demo
demo: setup bin/ebbwatch bin/lab ## Attack a lab of network namespaces and report what is found
	@scripts/setup-lab.sh
	@exec bin/lab demo $(ARGS)

.PHONY: demo-llm
demo-llm: setup bin/ebbwatch bin/lab ## The same, with the report worded by a small model on loopback
	@scripts/setup-lab.sh
	@scripts/setup-llm.sh
	@exec bin/lab demo --llm $(ARGS)

.PHONY: build
build: $(COMMANDS) ## Build every command into bin/

.PHONY: setup
setup: ## Fetch the ClickHouse engine into the cache, if it is not there
	@scripts/setup-clickhouse.sh >/dev/null

# Go knows what changed; make does not try to.
.PHONY: $(COMMANDS)
bin/ebbwatch: ; @$(GOBUILD) -o $@ ./deploy/standalone
bin/ebbwatch-agent: ; @$(GOBUILD) -o $@ ./agent
bin/ebbwatch-collector: ; @$(GOBUILD) -o $@ ./collector
bin/ebbwatch-analyzer: ; @$(GOBUILD) -o $@ ./analyzer
bin/lab: ; @$(GOBUILD) -o $@ ./scripts/lab

.PHONY: test
test: ## Test everything, as continuous integration does (some 10 minutes)
	@scripts/test.sh $(MODULES)

.PHONY: test-kernel
test-kernel: ## Test the agent on Debian's Linux 6.1 in a virtual machine (docs/kernels.md: other kernels)
	@scripts/kernel.sh $(ARGS)

.PHONY: lint
lint: ## Check Go, C and shell code
	@scripts/lint.sh $(MODULES)

.PHONY: bench
bench: setup bin/ebbwatch ## Measure, as JSON lines (ONLY=datapath for the names with that prefix)
	@scripts/bench.sh $(ONLY)

ROWS ?= 100000000

.PHONY: bench-queries
bench-queries: setup bin/ebbwatch ## Build a day of 100 million flows, once, and time what people ask of it
	@go build -o bin/bench-collector-internal-bench ./collector/internal/bench
	@bin/bench-collector-internal-bench -build-day $(ROWS) -only query_

SEED ?= 1
KILLS ?= 50

.PHONY: chaos
chaos: setup bin/ebbwatch ## Kill collectors, NATS and ClickHouse under load, then count (SEED=n KILLS=n)
	@scripts/chaos.sh -seed $(SEED) -kills $(KILLS) $(ARGS)

.PHONY: generate
generate: ## Generate what is generated and committed (BPF objects, API types, documents)
	@scripts/setup-packages.sh clang-14:clang-14 llvm-strip-14:llvm-14 clang-format-14:clang-format-14 /usr/include/bpf/bpf_helpers.h:libbpf-dev
	@for module in $(MODULES); do (cd $$module && go generate ./...); done

.PHONY: clean
clean: ## Remove what was built here (not the cache)
	@rm -rf bin
