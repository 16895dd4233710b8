# Everything here can be run by hand as well; the targets save typing and look after the Vulkan driver.

# Passed on to `tipi demo`, for instance: make demo DEMO_ARGS="--shots 4"
DEMO_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test bench lint guide

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-6s %s\n", $$1, $$2}' Makefile

setup: ## install a Vulkan driver if there is none
	@./scripts/setup-vulkan.sh

demo: setup ## run the demo; DEMO_ARGS="..." is passed on
	cargo build --release
	@cargo run --quiet --release -- devices >/dev/null 2>&1 || ./scripts/setup-vulkan.sh --mesa
	cargo run --release -- demo $(DEMO_ARGS)

test: setup ## run all tests
	cargo build
	@cargo run --quiet -- devices >/dev/null 2>&1 || ./scripts/setup-vulkan.sh --mesa
	cargo test

bench: setup ## run the benchmarks
	cargo bench

lint: ## check formatting, lints and documentation
	cargo fmt --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps

guide: ## build the guide into target/guide, and check its links
	@./scripts/guide.sh
