# The commands of the project. `make` alone lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test lint audit bench endurance fuzz oracle nexmark nexmark-results generate images cluster-up cluster-down kind clean

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

ORACLE := $(CACHE)/oracle
oracle: ## Compare streaming with batch over many random inputs, CASES=… (100) for each shape of query, and with DataFusion itself (from PyPI, 70 MB)
	@test -e $(ORACLE)/installed || { python3 -m venv $(ORACLE)/venv && touch $(ORACLE)/installed.part && \
	  $(ORACLE)/venv/bin/pip install -q --disable-pip-version-check datafusion==55.0.0 && mv $(ORACLE)/installed.part $(ORACLE)/installed; }
	@rm -rf $(ORACLE)/cases
	@MILLRACE_ORACLE_CASES=$(or $(CASES),100) MILLRACE_ORACLE_DUMP=$(ORACLE)/cases cargo test --quiet --package millrace-engine --test oracle -- --nocapture
	@$(ORACLE)/venv/bin/python worker/engine/tests/oracle/ask_datafusion.py $(ORACLE)/cases

fuzz: ## Try mutated inputs on every decoder and on the SQL front, each for SECONDS=… (60), or only TARGET=…
	@MILLRACE_FUZZ_SECONDS=$(or $(SECONDS),60) MILLRACE_FUZZ_TARGET=$(TARGET) cargo test --quiet --package millrace-tests --test fuzz -- --nocapture

bench: ## Measure what there are goals for: goal and measured side by side (release builds, so the first run takes long)
	@tests/bench.sh

endurance: ## Keep a shared Pipeline in the cluster at RATE=… (50000) for SECONDS=… (600), one worker killed every KILL_EVERY=… (30), and print the gaps in its output
	@tests/setup/install.sh debian kubernetes helm coredns pause kafka moto
	@cargo build --quiet --release --workspace --bins
	@MILLRACE_TEST_PROFILE=release MILLRACE_TEST_RATE=$(RATE) MILLRACE_TEST_SECONDS=$(SECONDS) MILLRACE_TEST_KILL_EVERY=$(KILL_EVERY) \
	  $(CARGO_TARGET_DIR)/release/millrace-endurance

nexmark: ## Compare Millrace with Flink on Nexmark: results, CPU and memory of each query; ARGUMENTS=… such as "--queries q0,q5" (a release build; installs Flink, 312 MB, on the first run)
	@tests/setup/install.sh flink
	@cargo build --quiet --release --workspace --bins
	@$(CARGO_TARGET_DIR)/release/millrace-nexmark --bench $(ARGUMENTS)

nexmark-results: ## The same for the results alone, with a debug build; ARGUMENTS=--bless writes what Flink answers to the golden files
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
