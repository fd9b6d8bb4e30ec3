# Everything the house needs is fetched by these targets; nothing is installed by hand.
# Needs: JDK 17, Maven, Rust, Python 3.10 or newer, a C compiler. Fetched tools live in CACHE, outside the tree.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/spark-deep-learning
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
SBT_VERSION := $(shell sed -n 's/^sbt.version=//p' project/build.properties)

# The first Python from 3.10 on, the first JDK 17.
PYTHON3 ?= $(shell for p in python3.11 python3.12 python3.13 python3.10 python3; do \
	command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && command -v $$p && break; done)
JAVA_17 := $(shell for h in "$${JAVA_HOME:-}" $$(ls -d /usr/lib/jvm/*17* 2>/dev/null) $$(dirname $$(dirname $$(readlink -f $$(command -v java)))); do \
	test -n "$$h" -a -x "$$h/bin/javac" && [[ "$$("$$h/bin/java" -version 2>&1)" == *'"17'* ]] && echo "$$h" && break; done)

VENV := $(CACHE)/venv-$(shell sha256sum python/requirements.lock | cut -c1-12)
PY := $(VENV)/bin/python
NASM := $(CACHE)/nasm
SBT_LAUNCH := $(CACHE)/sbt-launch-$(SBT_VERSION).jar

export JAVA_HOME := $(JAVA_17)
export PATH := $(VENV)/bin:$(JAVA_17)/bin:$(NASM)/usr/bin:$(PATH)
export PYO3_PYTHON := $(PY)
export PYSPARK_PYTHON := $(PY)
export PYSPARK_DRIVER_PYTHON := $(PY)
export COURSIER_CACHE := $(CACHE)/coursier

SBT := $(JAVA_17)/bin/java -Xmx2g -Xss8m -Dsbt.override.build.repos=true -Dsbt.repository.config=project/repositories \
	-Dsbt.global.base=$(CACHE)/sbt -Dsbt.boot.directory=$(CACHE)/sbt/boot -Dsbt.ivy.home=$(CACHE)/ivy \
	-Dsbt.server.forcestart=false -Dsbt.server.autostart=false -Dsbt.supershell=false -Dsbt.color=false -jar $(SBT_LAUNCH)

.PHONY: help setup
help:  ## What each target does
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

setup: $(VENV)/done $(NASM)/done $(SBT_LAUNCH) check-tools  ## Fetch Python packages, nasm and sbt into the cache

.PHONY: check-tools
check-tools:
	@test -n "$(PYTHON3)" || { echo "no Python 3.10 or newer found: install one or set PYTHON3=/path/to/python3" >&2; exit 1; }
	@test -n "$(JAVA_17)" || { echo "no JDK 17 found: install one or set JAVA_HOME to it" >&2; exit 1; }
	@command -v cargo >/dev/null || { echo "no cargo found: install Rust (rustup.rs) 1.88 or newer" >&2; exit 1; }
	@command -v mvn >/dev/null || { echo "no mvn found: install Maven 3" >&2; exit 1; }

$(VENV)/done: python/requirements.lock | check-tools
	$(PYTHON3) -m venv --clear $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps -r python/requirements.lock
	touch $@

# libjpeg-turbo's SIMD needs nasm: the one on PATH, else Debian's package unpacked without root. Without either the
# build goes on with the pure Rust JPEG decoder and says so.
$(NASM)/done:
	@mkdir -p $(NASM)/lists/partial $(NASM)/cache/archives/partial $(NASM)/usr/bin
	@if command -v nasm >/dev/null; then :; \
	elif command -v apt-get >/dev/null && command -v dpkg >/dev/null && cd $(NASM) \
		&& apt-get -qq -o Dir::State::lists=$(NASM)/lists -o Dir::Cache=$(NASM)/cache update >/dev/null 2>&1 \
		&& apt-get -qq -o Dir::State::lists=$(NASM)/lists -o Dir::Cache=$(NASM)/cache download nasm >/dev/null \
		&& dpkg -x nasm_*.deb $(NASM); then rm -rf $(NASM)/lists $(NASM)/cache $(NASM)/*.deb; \
	else echo "no nasm found and none could be fetched: JPEG is decoded by the slower pure Rust decoder. Install nasm and run make clean." >&2; fi
	@touch $@

$(SBT_LAUNCH): | check-tools
	@mkdir -p $(CACHE)
	mvn -q -B dependency:copy -Dartifact=org.scala-sbt:sbt-launch:$(SBT_VERSION) -DoutputDirectory=$(CACHE) -Dmdep.useBaseVersion=true
	@touch $@
