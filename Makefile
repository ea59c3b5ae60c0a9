# Each target installs what it needs first (tools/setup: quick when all is there).

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/ocicrypt-kms
TARGET := $(or $(CARGO_TARGET_DIR),target)
FUZZ_SECONDS ?= 20

.PHONY: build demo test lint deny docs api deploy features fuzz bench bench-local component dist

build:
	tools/setup build wasm
	cargo build --release --locked -p ocicrypt-kms

demo: build
	tools/setup skopeo
	example/demo $(TARGET)/release/ocicrypt-kms

test: lint deny docs api deploy features fuzz
	cargo test --profile e2e --locked --workspace --all-features

lint:
	tools/setup build wasm skopeo test embed
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-features --all-targets -- -D warnings

# Not `advisories`: that database is fetched from the network, see CONTRIBUTING.md.
deny:
	tools/setup cargo-deny
	cargo deny --locked check licenses bans sources

docs:
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --all-features --no-deps

# The library's public API is the one that host/public-api.txt says.
api:
	tools/setup cargo-public-api
	tools/public-api

# Manifests and units, against the schemas of Kubernetes and by systemd-analyze.
deploy:
	tools/setup test
	deploy/check

# Each service alone, and the library without the program.
features:
	for feature in aws azure gcp vault local,asymmetric local,cedar local,server; do \
	  cargo clippy --locked -p ocicrypt-kms --no-default-features --features cli,$$feature --lib --bins -- -D warnings || exit 1; \
	done
	cargo clippy --locked -p ocicrypt-kms --no-default-features --features local,server --lib -- -D warnings
	cargo test --locked -p ocicrypt-kms --no-default-features --features cli,local --lib --bins

fuzz:
	tools/setup cargo-fuzz
	fuzz/run $(FUZZ_SECONDS)

bench: build
	tools/setup bench
	bench/startup $(TARGET)/release/ocicrypt-kms
	bench/exchange
	bench/server $(TARGET)/release/ocicrypt-kms
	bench/controls $(TARGET)/release/ocicrypt-kms

# How much faster a program starts that has local keys and no KMS: the ratio `other / ocicrypt-kms`.
bench-local: build
	tools/setup bench
	cargo build --release --locked -p ocicrypt-kms --no-default-features --features cli,local --target-dir $(TARGET)/local
	bench/startup $(TARGET)/release/ocicrypt-kms $(TARGET)/local/release/ocicrypt-kms

component:
	tools/setup build wasm
	cargo run --locked --quiet -p ocicrypt-kms-guest-build -- component $(TARGET)/ocicrypt-kms-component.wasm

# What a release consists of, in target/dist.
dist:
	tools/setup build wasm embed dist
	tools/dist $(TARGET)/dist
