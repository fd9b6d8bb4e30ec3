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
# Names of files are UTF-8 for the JVM only where the locale says so.
export LC_ALL := C.UTF-8
export PATH := $(VENV)/bin:$(JAVA_17)/bin:$(NASM)/usr/bin:$(PATH)
export PYO3_PYTHON := $(PY)
export PYSPARK_PYTHON := $(PY)
export PYSPARK_DRIVER_PYTHON := $(PY)
export COURSIER_CACHE := $(CACHE)/coursier
export CARGO_TARGET_DIR := $(CURDIR)/target
export TF_CPP_MIN_LOG_LEVEL ?= 3

SBT := $(JAVA_17)/bin/java -Xmx2g -Xss8m -Dsbt.override.build.repos=true -Dsbt.repository.config=project/repositories \
	-Dsbt.global.base=$(CACHE)/sbt -Dsbt.boot.directory=$(CACHE)/sbt/boot -Dsbt.ivy.home=$(CACHE)/ivy \
	-Dsbt.server.forcestart=false -Dsbt.server.autostart=false -Dsbt.supershell=false -Dsbt.color=false -jar $(SBT_LAUNCH)
export SBT

# Flags of every cargo call. libjpeg-turbo has its SIMD on x86-64 only through nasm; without it the pure Rust decoder is faster.
export CARGO_FLAGS = --locked $(shell test "$$(uname -m)" != x86_64 || command -v nasm >/dev/null || \
	test -x $(NASM)/usr/bin/nasm || echo --no-default-features)

JAR := dist/spark-deep-learning_2.13-$(VERSION).jar
STAMPS := target/stamps
RUST_SOURCES := Cargo.toml Cargo.lock $(shell find rust -type f ! -name '*.md' ! -path '*/tests/*')
WHEEL_SOURCES := $(RUST_SOURCES) pyproject.toml README.md LICENSE NOTICE $(shell find python -type f ! -path '*/__pycache__/*' ! -name '*.so')
JAR_SOURCES := $(RUST_SOURCES) build.sbt LICENSE NOTICE \
	$(shell find project -maxdepth 1 -type f; find jvm/src/main spark-package/examples/scala -type f)

# What the tests run: the wheel as installed, never the source tree, and the jar as built.
SITE := $(CURDIR)/target/site
export SPARKDL_TEST_JAR := $(CURDIR)/$(JAR)
export SPARKDL_TEST_SITE := $(SITE)

.PHONY: help setup build check-contents test demo bench zoo format lint lock clean
help:  ## What each target does
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

setup: $(VENV)/done $(NASM)/done $(SBT_LAUNCH) check-tools  ## Fetch Python packages, nasm and sbt into the cache

.PHONY: check-tools
check-tools:
	@test -n "$(PYTHON3)" || { echo "no Python 3.10 or newer found: install one or set PYTHON3=/path/to/python3" >&2; exit 1; }
	@test -n "$(JAVA_17)" || { echo "no JDK 17 found: install one or set JAVA_HOME to it" >&2; exit 1; }
	@command -v cargo >/dev/null || { echo "no cargo found: install Rust (rustup.rs) 1.88 or newer" >&2; exit 1; }
	@command -v mvn >/dev/null || { echo "no mvn found: install Maven 3" >&2; exit 1; }

# The folder's name holds the digest of the lock, so a changed lock gets a new one.
$(VENV)/done: | check-tools
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
	else echo "no nasm found and none could be fetched: JPEG is decoded by the slower pure Rust decoder. Install nasm and build again." >&2; fi
	@touch $@

$(SBT_LAUNCH): | check-tools
	@mkdir -p $(CACHE)
	mvn -q -B dependency:copy -Dartifact=org.scala-sbt:sbt-launch:$(SBT_VERSION) -DoutputDirectory=$(CACHE) -Dmdep.useBaseVersion=true
	@touch $@

build: setup $(STAMPS)/wheel $(STAMPS)/jar  ## The wheel, the jar and a Maven-layout repository, in dist/

$(STAMPS)/wheel: $(WHEEL_SOURCES) | $(VENV)/done $(NASM)/done
	@mkdir -p dist $(STAMPS)
	rm -f dist/*.whl
	$(VENV)/bin/maturin build --release --out dist --interpreter $(PY) $(CARGO_FLAGS)
	rm -rf $(SITE)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps --target $(SITE) dist/*.whl
	touch $@

$(STAMPS)/jar: $(JAR_SOURCES) | $(VENV)/done $(NASM)/done $(SBT_LAUNCH)
	@mkdir -p dist $(STAMPS)
	rm -rf dist/*.jar dist/maven dist/examples
	$(SBT) publish examples/package
	cp dist/maven/sparkdl/spark-deep-learning_2.13/$(VERSION)/$(notdir $(JAR)) $(JAR)
	mkdir -p dist/examples && cp spark-package/examples/target/scala-2.13/*-examples_2.13-$(VERSION).jar dist/examples/
	touch $@

check-contents: build  ## What the jar and the wheel carry, against spark-package/contents.allow
	.ci/contents

test: build  ## All tests of the three languages, against the built wheel and jar
	PYTHONPATH=$(SITE) .ci/test

# FLOWERS: a folder with one folder of pictures per class.
demo: build  ## The main job on labelled photographs: demo/report.html (FLOWERS=folder to choose them)
	PYTHONPATH=$(SITE) $(PY) spark-package/examples/demo.py

# ONNX, to write the rival's network; the tests do without it.
ONNX := $(CACHE)/onnx-1.23.2
$(ONNX)/done: | $(VENV)/done
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps --target $(ONNX) onnx==1.23.2
	touch $@

bench: build $(ONNX)/done  ## Pictures per second and memory, ours and the rivals', in one interleaved run: dist/bench.json
	cargo build --release $(CARGO_FLAGS) -p sparkdl-core --example throughput
	SPARKDL_BENCH_ONNX=$(ONNX) $(PY) tests/bench/bench.py
	PYTHONPATH=$(SITE) $(PY) tests/bench/loading.py
	PYTHONPATH=$(SITE) $(PY) tests/bench/keras_stages.py
	PYTHONPATH=$(SITE) $(PY) tests/bench/frozen.py
	PYTHONPATH=$(SITE) $(PY) tests/bench/trials.py

# SPARKS: versions, each of 450 MB.
SPARKS ?= 4.0.1 4.3.0
sparks: build  ## The jar on other versions of Spark (SPARKS=versions)
	for version in $(SPARKS); do test -d $(CACHE)/sparks/$$version || { rm -rf $(CACHE)/sparks/part; \
		$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps --target $(CACHE)/sparks/part pyspark==$$version \
		&& mv $(CACHE)/sparks/part $(CACHE)/sparks/$$version; }; done
	SPARKDL_TEST_SPARKS="$(SPARKS)" SPARKDL_TEST_SPARKS_FOLDER=$(CACHE)/sparks $(PY) -m pytest -q tests/submit/test_other_spark.py

# ZOO: names of networks, to compare some; each takes a minute or so.
zoo: build  ## Every built-in network in every form of Keras file, compared with Keras: dist/zoo.md
	PYTHONPATH=$(SITE) $(PY) tests/fixtures/make_named_models.py --check $(addprefix --only ,$(ZOO))
	PYTHONPATH=$(SITE) $(PY) tests/zoo/zoo.py $(ZOO)
	PYTHONPATH=$(SITE) SPARKDL_ZOO_JVM="$(ZOO)" $(PY) -m pytest -q tests/submit/test_networks.py

format: setup  ## Format the three languages
	cargo fmt
	$(VENV)/bin/ruff format python tests spark-package
	$(SBT) scalafmtAll scalafmtSbt

lint: setup  ## Format checks and lints of the three languages
	.ci/lint

lock: | check-tools  ## Pin python/requirements.in anew
	$(PYTHON3) -m venv --clear target/lock-venv
	target/lock-venv/bin/pip install --quiet --disable-pip-version-check -r python/requirements.in
	{ sed -n '/^#/p' python/requirements.lock; target/lock-venv/bin/pip freeze; } > target/requirements.lock
	mv target/requirements.lock python/requirements.lock

clean:  ## Remove what was built; the cache of fetched tools stays
	rm -rf target dist demo jvm/target project/target project/project spark-package/examples/target
