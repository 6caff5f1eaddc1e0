# `make` alone lists the targets: the text behind each `##` is its help.

SHELL       := bash
.SHELLFLAGS := -eu -o pipefail -c

TOOLS    := bin/tools
LOADTEST := bin/loadtest
VERSION   = $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
TIMEOUT  ?= 20m
FUZZTIME ?= 20s
BENCH    ?= .
COUNT    ?= 1
TORTURE  ?= 10m
STEPS    ?= 1000000

.PHONY: help build run test check simulate fuzz torture bench report topology cover clean go tools tally loadtest

help: ## list these targets
	@awk -F ':[^#]*## ' '/^[a-z]+:.*## / { printf "make %-8s  %s\n", $$1, $$2 }' Makefile

build: go ## build bin/keyfleet, static, reproducible and stamped with its version
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION)' -o bin/keyfleet ./cmd/keyfleet

run: build ## build, then run a whole fleet on this machine: keyfleet dev
	bin/keyfleet dev

test: go tally ## run every test, after installing what the tests need
	@.ci/needs
	@$(TOOLS)/tally $$(.ci/needs race && echo -race) -shuffle=on -timeout=$(TIMEOUT) ./...

check: go tools tally ## gofmt, go vet, linters, dead code, structure of the tree, the same binary twice
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "gofmt these: $$unformatted"; exit 1; }
	go vet ./...
	$(TOOLS)/staticcheck ./...
	$(TOOLS)/golangci-lint config verify
	$(TOOLS)/golangci-lint run
	@dead=$$($(TOOLS)/deadcode -test ./...); test -z "$$dead" || { echo "$$dead"; exit 1; }
	go test -count=1 -run '^TestStructure' ./cmd/keyfleet
	@.ci/reproducible
	go -C .ci/tools vet ./tally
	go -C .ci/tools test ./tally

fuzz: go ## fuzz each target for FUZZTIME (20s)
	@.ci/fuzz $(FUZZTIME)

simulate: go ## simulate STEPS (1000000) steps of what the world does to a fleet, on all cores
	KEYFLEET_SIM_STEPS=$(STEPS) go test -timeout=0 -count=1 -v -run '^TestSimulation$$' ./verifier

torture: simulate ## simulate, torture a fleet for TORTURE (10m), damage every file, cut the power
	KEYFLEET_TORTURE=$(TORTURE) go test -timeout=0 -count=1 -v -run '^TestTorture$$' ./loadtest
	go test -timeout=0 -count=1 -v -run '^TestDamagedFiles$$|^TestALossOfPowerTakesNothingAcknowledged$$' ./cmd/keyfleet -every-damage -power-cuts 60

bench: go loadtest ## run the benchmarks that match BENCH, COUNT times, into bin/bench.txt; by default all, and load tests
	@mkdir -p bin
	go test -run '^$$' -bench '$(BENCH)' -benchmem -count $(COUNT) ./... | tee bin/bench.txt
	@echo "Compare two such files with $(TOOLS)/benchstat OLD NEW; make tools builds it"
	@if [[ '$(BENCH)' == . ]]; then $(LOADTEST) run --out bin/results; fi

report: loadtest ## run the load tests, on a quiet machine, into loadtest/results, which README shows
	$(LOADTEST) run --out loadtest/results
	@echo "Compare two runs with $(LOADTEST) page NEW/run.json OLD/run.json >page.html"

topology: build ## as root: a hub of three NATS servers, two registries and three PoPs on this machine; see docs/deploy.md
	CGO_ENABLED=0 go build -trimpath -o bin/nats-server github.com/nats-io/nats-server/v2
	deploy/topology up
	@echo "deploy/topology cut ams takes a PoP's line away, heal gives it back, down ends it; deploy/topology alone says more"

cover: go ## measure what the tests reach, into bin/coverage.html
	@mkdir -p bin
	go test -timeout=$(TIMEOUT) -coverpkg=./... -coverprofile=bin/coverage.out ./...
	@go tool cover -html=bin/coverage.out -o bin/coverage.html
	@go tool cover -func=bin/coverage.out | tail -n 1

clean: ## remove what the targets above have built
	rm -rf bin

go:
	@command -v go >/dev/null || { echo "Keyfleet is built with Go 1.26 or newer: install it and put it on the PATH" >&2; exit 1; }

# The linters and benchstat, at the versions pinned in .ci/tools/go.mod. Go
# itself knows whether they are up to date, also after an upgrade of Go.
tools: go
	@go -C .ci/tools build -o ../../$(TOOLS)/ tool

loadtest: build
	@go build -o $(LOADTEST) ./loadtest

tally: go
	@go -C .ci/tools build -o ../../$(TOOLS)/ ./tally
