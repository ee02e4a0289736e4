# ptorrent. Cargo does the building; these are the words for it. `make help` lists them.

CARGO  = cargo
PREFIX = /usr/local

help: ## list the targets
	@grep -E '^[a-z]+:.*## ' Makefile | sed 's/:.*## /\t/'

debug: ## build with assertions and debug information
	$(CARGO) build

release: ## build the binary that make install installs
	$(CARGO) build --release

minimal: ## build without HTTPS: fewer crates, a smaller binary
	$(CARGO) build --release --no-default-features

test: ## run all tests that need no other program
	$(CARGO) test

check: ## formatting, lints and tests of both builds, and who imports whom: what to run before a commit
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets --test interop -- -D warnings
	$(CARGO) clippy --no-default-features --all-targets --test interop -- -D warnings
	$(CARGO) test --no-default-features
	$(CARGO) test --test tracker_http --test https

sim: ## replay the simulator with one seed: make sim SEED=n
	SEED=$(SEED) $(CARGO) test --no-default-features --test sim -- --nocapture

miri: ## run the unit tests without I/O under Miri (installs a nightly compiler): make miri ARGS=quick
	scripts/miri.sh $(ARGS)

asan: ## run the loopback tests under AddressSanitizer: make asan ARGS=quick
	scripts/asan.sh $(ARGS)

fuzz: ## fuzz all decoders under libFuzzer: make fuzz TARGET=wire TIME=60, ARGS=quick, ARGS=CRASH_FILE
	TARGET="$(TARGET)" TIME="$(TIME)" scripts/fuzz.sh $(ARGS)

interop: ## download from and seed to real clients, which scripts/setup-peers.sh installs
	$(CARGO) test --release --test interop -- --test-threads=4

bench: ## compare with other clients on this machine: make bench ARGS=--quick, ARGS=--help
	$(CARGO) bench --bench clients -- $(ARGS)

demo: release ## a tracker, a seeder and a leecher on loopback
	scripts/demo.sh target/release/ptorrent

size: ## crates, build time and binary size of both builds
	scripts/size.sh

install: release ## install binary and man page below PREFIX (and DESTDIR)
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/man/man1
	install -m 755 target/release/ptorrent $(DESTDIR)$(PREFIX)/bin/ptorrent
	install -m 644 docs/ptorrent.1 $(DESTDIR)$(PREFIX)/share/man/man1/ptorrent.1

clean: ## remove all that was built
	$(CARGO) clean

.PHONY: help debug release minimal test check sim miri asan fuzz interop bench demo size install clean
