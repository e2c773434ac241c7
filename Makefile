# make           says what there is
# make demo      builds metactl and shows it at work, in a throw-away host of its own
# make test      everything is tested
PREFIX ?= /usr/local
SHELL := /bin/bash

.PHONY: help demo test check build install uninstall bench fmt

help:
	@echo 'make demo               build metactl and see it at work (as root; touches nothing of this machine)'
	@echo 'make check              format, lints, unit and quick tests: minutes'
	@echo 'make test               all tests, and the proof that they leave nothing behind'
	@echo 'make build              the release build, into target/metactl/'
	@echo 'make install PREFIX=DIR install it (PREFIX is $(PREFIX))'
	@echo 'make uninstall          take it away again'
	@echo 'make bench              side by side with crun'

demo:
	@scripts/prerequisites.sh demo
	@scripts/demo.sh

test:
	@scripts/test.sh all

check:
	@scripts/test.sh quick

build:
	@scripts/prerequisites.sh build
	@scripts/build.sh

# Building and installing are two commands so that only the second one needs privilege.
install:
	@scripts/install.sh install '$(DESTDIR)$(PREFIX)'

uninstall:
	@scripts/install.sh uninstall '$(DESTDIR)$(PREFIX)'

bench:
	@scripts/prerequisites.sh test
	@scripts/bench.sh

fmt:
	cargo fmt --all
	rustfmt --edition 2024 bundles/src/platforms/*.rs
