# Each target installs what it needs first (tools/setup: quick when all is there).

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/ocicrypt-kms
TARGET := $(or $(CARGO_TARGET_DIR),target)
# How `make build` builds: `release` for daily work, `dist` as releases are shipped.
PROFILE ?= release
FUZZ_SECONDS ?= 20
# Tests, and all that goes with them: one build of every dependency.
E2E := --profile e2e --locked --workspace --all-features
PROGRAM := -p ocicrypt-kms --locked
# Tests of features that aren't shipped: `compile` and `http-kms`.
SHIPPED_WITHOUT := doctor_checks_each_endpoint doctor_says_which_component

.PHONY: build demo test lint docs check clients features deny one-build api deploy fuzz shipped bench bench-local component dist

build:
	tools/setup build
	cargo build --profile $(PROFILE) $(PROGRAM)

demo:
	example/demo

# What a patch needs.
test: lint docs
	tools/component --sources
	cargo test $(E2E)

lint:
	tools/setup build wasm skopeo test embed
	cargo fmt --all --check
	cargo clippy $(E2E) --all-targets -- -D warnings

docs:
	RUSTDOCFLAGS="-D warnings" cargo doc $(E2E) --no-deps

# The rest of what CI runs, after `make test`.
check: deny one-build features api deploy fuzz clients shipped

# Each service alone, and the library without the program.
features:
	tools/setup build
	tools/features

# Not `advisories`: that database is fetched from the network, see CONTRIBUTING.md.
deny:
	tools/setup cargo-deny
	@[ $$(grep -c '^\[\[package\]\]' Cargo.lock) -le 600 ] || { echo "Cargo.lock has more than 600 packages; see CONTRIBUTING.md, Dependencies" >&2; exit 1; }
	cargo deny --locked check -D unmatched-skip -D unnecessary-skip licenses bans sources

# What build script and program both link is built once.
one-build:
	tools/setup build demo
	tools/one-build

# The library's public API is the one that host/public-api.txt says.
api:
	tools/setup cargo-public-api
	tools/public-api

# Manifests and units, against the schemas of Kubernetes and by systemd-analyze.
deploy:
	tools/setup test
	deploy/check

fuzz:
	tools/setup cargo-fuzz
	fuzz/run $(FUZZ_SECONDS)

# Clients of gRPC whose installation takes minutes, beside those of `make test`.
clients:
	tools/setup build test embed clients
	cargo test $(E2E) --test runner -- --ignored server::grpc_clients::

# A release's parts: the component that comes with the sources is what they give, in whichever folder. Then the tables of faults once more, with the
# program as it is shipped.
shipped:
	tools/setup build component embed test
	cargo test $(E2E) --test release
	cargo build --profile dist $(PROGRAM)
	OCICRYPT_KMS_TEST_PROGRAM=$(abspath $(TARGET))/dist/ocicrypt-kms cargo test $(E2E) --test conformance -- ::program::
	OCICRYPT_KMS_TEST_PROGRAM=$(abspath $(TARGET))/dist/ocicrypt-kms cargo test $(E2E) --test runner -- server::faults:: server::bounds:: \
		exec:: executable_memory:: panics:: $(SHIPPED_WITHOUT:%=--skip %)

bench:
	$(MAKE) build PROFILE=dist
	tools/setup bench
	bench/startup $(TARGET)/dist/ocicrypt-kms
	bench/exchange
	bench/server $(TARGET)/dist/ocicrypt-kms
	bench/controls $(TARGET)/dist/ocicrypt-kms

# How much faster a program starts that has local keys and no KMS: the ratio `other / ocicrypt-kms`.
bench-local:
	$(MAKE) build PROFILE=dist
	tools/setup bench
	cargo build --profile dist $(PROGRAM) --no-default-features --features cli,local --target-dir $(TARGET)/local
	bench/startup $(TARGET)/dist/ocicrypt-kms $(TARGET)/local/dist/ocicrypt-kms

# Builds host/component.wasm anew, after a change of component/, protocol/ or wit/.
component:
	tools/setup build component
	tools/component

# What a release consists of, in target/artifacts.
dist:
	tools/setup build component embed dist
	tools/dist $(TARGET)/artifacts
