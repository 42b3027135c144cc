# Luna. `make` alone tells what there is; each target is described after ##.
SHELL   := /bin/bash
GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
# Static binaries: luna-install runs where there is no libc.
export CGO_ENABLED ?= 0

.DEFAULT_GOAL := help
.PHONY: help deps build install generate test race lint bench demo soak clean

help: ## tell what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

deps: ## install with apt what is missing for the lab and the tests (root)
	@test/lab/deps.sh

build: ## build bin/luna and bin/luna-install
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/luna ./cmd/luna
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/luna-install ./cmd/luna-install

PREFIX ?= /usr
SHARE  := $(DESTDIR)$(PREFIX)/share

install: build ## install programs, manual and completion below $(DESTDIR)$(PREFIX)
	install -D -t $(DESTDIR)$(PREFIX)/bin bin/luna
	ln -sf luna $(DESTDIR)$(PREFIX)/bin/lpower
	ln -sf luna $(DESTDIR)$(PREFIX)/bin/lchroot
	install -D -t $(DESTDIR)$(PREFIX)/lib/luna bin/luna-install
	install -D -m 644 -t $(SHARE)/man/man1 docs/man/*.1
	install -d $(SHARE)/bash-completion/completions $(SHARE)/zsh/site-functions $(SHARE)/fish/vendor_completions.d
	for p in luna lpower lchroot; do \
		bin/luna completion bash $$p >$(SHARE)/bash-completion/completions/$$p && \
		bin/luna completion zsh $$p >$(SHARE)/zsh/site-functions/_$$p && \
		bin/luna completion fish $$p >$(SHARE)/fish/vendor_completions.d/$$p.fish || exit 1; \
	done

generate: ## write what is made of the code: the manual and the description of the API
	$(GO) test ./cmd/luna ./api -run 'TestManual|TestTheFile' -update

test: deps build ## install what is missing, then run all tests, the lab's too (root)
	$(GO) vet ./...
	$(GO) test -p 1 -timeout 35m ./... # one package at a time: machines are emulated, and want the CPUs

race: deps build ## run the tests with the race detector, but for the lab
	CGO_ENABLED=1 $(GO) test -race -timeout 30m $$($(GO) list ./... | grep -v /test)

lint: ## run golangci-lint (installs it)
	$(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.6.2 run ./...

bench: deps build ## measure, each time beside a peer in the same run
	$(GO) test -run '^$$' -bench . -benchtime 3x ./...

demo: deps build ## three heads boot a real machine and lose a head on the way (root)
	$(GO) run ./test/demo

soak: deps build ## what takes longer than make test may
	LUNA_SOAK=$(or $(LUNA_SOAK),1) $(GO) test -p 1 -timeout 6h ./...

clean: ## remove what was built, and the lab's cached image
	rm -rf bin .cache /var/cache/luna-lab
