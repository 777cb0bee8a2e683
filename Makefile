# `make` lists what can be made. LINK=static|staticx and PYTHON=python3.x choose how `make build` links: see README.md.
# SNAPSHOT=0 leaves out the snapshot of the initialized interpreter, which LINK=static has: see CONTRIBUTING.md.

SHELL := /bin/bash
PREFIX ?= /usr/local
IMAGE ?= run
export LINK PYTHON SNAPSHOT STALLS QUICK ENGINES RESULTS

.PHONY: help build test lint image demo bench soak boots elsewhere reproducible release install clean

help: ## List the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' Makefile | expand -t 20

build: ## Make dist/run, one static file, and its manual pages; installs what is missing when root on Debian or Ubuntu
	@build/build.sh

test: build ## Run all tests against dist/run (PYTEST_ARGS="-k word" picks some, STALLS=1 has processors stand still)
	@build/check.sh test $(PYTEST_ARGS)

lint: ## Check the sources: ruff and mypy over Python, shellcheck over shell
	@build/check.sh lint

image: ## Build the image `run` with docker/Dockerfile: nothing in it but /bin/run
	docker build $(DOCKER_BUILD_ARGS) -f docker/Dockerfile -t $(IMAGE) .

demo: build ## Show the main job: services in order, one fails and all are stopped; one command, and what it leaves behind
	@build/demo.sh dist/run

bench: ## Measure all builds beside other inits, and services beside other supervisors (QUICK=1: only what limits name)
	@build/check.sh bench

soak: build ## Put dist/run under full load for MINUTES (10), count every orphan, signal, line and kilobyte
	@build/check.sh soak --minutes $(or $(MINUTES),10)

boots: build ## Start dist/run as PID 1 of Debian's kernel in qemu, on an old processor and with 5-level paging
	@build/check.sh boots

elsewhere: build ## Run the same cases in podman, gVisor, nspawn, Swarm and so on (ENGINES="podman gvisor" picks, RESULTS=1 notes it)
	@build/check.sh elsewhere

reproducible: build ## Build again, here and in another folder, and compare the bytes
	@build/reproducible.sh

release: ## Make dist/release: both builds by version and architecture, manual pages, licences, SHA256SUMS
	@build/release.sh

install: ## Install dist/run and its manual pages into DESTDIR and PREFIX
	@[ -x dist/run ] || { echo "dist/run is not there: type 'make build' first" >&2; exit 1; }
	install -D -m 0755 dist/run $(DESTDIR)$(PREFIX)/bin/run
	install -D -m 0644 dist/run.1 $(DESTDIR)$(PREFIX)/share/man/man1/run.1
	install -D -m 0644 dist/run.toml.5 $(DESTDIR)$(PREFIX)/share/man/man5/run.toml.5

clean: ## Remove all that was made
	rm -rf dist *.egg-info
	find .work -mindepth 1 ! -name .gitignore -delete
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
