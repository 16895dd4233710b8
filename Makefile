# Everything here can be run by hand as well; the targets save typing and look after the Vulkan driver.

# Passed on to `tipi demo`, for instance: make demo DEMO_ARGS="--shots 4"
DEMO_ARGS ?=
# Passed on to `cargo test`: make test TEST_ARGS=--workspace
TEST_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test bench lint guide web

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-6s %s\n", $$1, $$2}' Makefile

setup: ## install a Vulkan driver if there is none
	@./scripts/setup-vulkan.sh

demo: setup ## run the demo; DEMO_ARGS="..." is passed on
	cargo build --release
	@cargo run --quiet --release -- devices >/dev/null 2>&1 || ./scripts/setup-vulkan.sh --mesa
	cargo run --release -- demo $(DEMO_ARGS)

# The tests build the program, too; `cargo build` would build it and wgpu a second time, with fewer features.
test: setup ## run all tests; TEST_ARGS="..." is passed on
	cargo test --no-run $(TEST_ARGS)
	@tipi="$${CARGO_TARGET_DIR:-target}/debug/tipi"; test ! -x "$$tipi" || "$$tipi" devices >/dev/null 2>&1 || ./scripts/setup-vulkan.sh --mesa
	cargo test $(TEST_ARGS)

bench: setup ## run the benchmarks
	cargo bench

lint: ## check formatting, lints and documentation
	cargo fmt --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps

guide: ## build the guide into target/guide, and check its links
	@./scripts/guide.sh

web: ## build the page for browsers into target/web/site
	@web/build.sh
