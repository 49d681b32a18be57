# The commands of the project. `make` alone lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test lint audit bench nexmark generate images cluster-up cluster-down kind clean

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/millrace
export CARGO_TARGET_DIR ?= $(CACHE)/target
SERVERS := cargo run --quiet --package millrace-tests --bin millrace-servers --

help: ## List these commands
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## Run the smallest example in one process: needs nothing but Rust
	@cargo run --quiet --package millrace -- run examples/quickstart

test: ## Run everything that this machine can: installs real servers and a Kubernetes cluster on the first run
	@tests/run.sh

lint: ## Check format and lints
	@tests/run.sh lint

audit: ## Check licences and known vulnerabilities of all dependencies
	@test -x $(CACHE)/bin/cargo-deny || env -u CARGO_TARGET_DIR cargo install --quiet --locked --root $(CACHE) cargo-deny
	@$(CACHE)/bin/cargo-deny check

bench: ## Measure what there are goals for: goal and measured side by side (release builds, so the first run takes long)
	@tests/bench.sh

nexmark: ## Compare Millrace with Flink on Nexmark: the results, or with ARGUMENTS=--bench the cost (installs Flink, 312 MB, on the first run)
	@tests/setup/install.sh flink
	@cargo run --quiet --package millrace-tests --bin millrace-nexmark -- $(ARGUMENTS)

generate: ## Write the generated files again: CRDs, charts, reference
	@cargo run --quiet --package millrace-crds --bin generate

images: ## Pack the images of worker and operator as archives, without a container engine (TAG=…)
	@$(SERVERS) images --release $(if $(TAG),--tag $(TAG))

cluster-up: ## Start a Kubernetes cluster on this machine and leave it running
	@tests/setup/install.sh debian kubernetes helm coredns pause
	@$(SERVERS) up cluster

cluster-down: ## Remove that cluster
	@$(SERVERS) down cluster

KIND_CLUSTER ?= millrace-tests
kind: ## Run the tests that need a cluster in kind instead (needs Docker and kind)
	@kind create cluster --name $(KIND_CLUSTER) --kubeconfig $(CACHE)/kind.kubeconfig --wait 120s
	@trap 'kind delete cluster --name $(KIND_CLUSTER)' EXIT; \
	  MILLRACE_TEST_KUBECONFIG=$(CACHE)/kind.kubeconfig MILLRACE_TEST_KIND=$(KIND_CLUSTER) \
	  MILLRACE_TEST_HOST=$$(docker network inspect kind --format '{{range .IPAM.Config}}{{println .Gateway}}{{end}}' | grep -m 1 '\.') \
	  tests/run.sh install cluster

clean: ## Remove what was built; the installed servers stay
	@cargo clean --quiet
	@rm -rf $(CACHE)/images
