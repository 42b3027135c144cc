# Luna. `make` alone tells what there is; each target is described after ##.
SHELL   := /bin/bash
GO      ?= go
# Once: the next commit may come while this runs.
ifndef VERSION
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
endif
LDFLAGS := -s -w -X main.version=$(VERSION)
# Static binaries: luna-install runs where there is no libc.
export CGO_ENABLED ?= 0

.DEFAULT_GOAL := help
.PHONY: help deps build install install-client install-head packages generate test race lint bench demo vagrant-test soak clean

help: ## tell what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

deps: ## install with apt what is missing for the lab and the tests (root)
	@test/lab/deps.sh

build: ## build bin/luna and bin/luna-install
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/luna ./cmd/luna
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/luna-install ./cmd/luna-install

PREFIX ?= /usr
BIN    ?= bin
LUNA   ?= bin/luna
SHARE  := $(DESTDIR)$(PREFIX)/share
LIB    := $(DESTDIR)$(PREFIX)/lib

install: build install-client install-head ## install everything below $(DESTDIR)$(PREFIX), and agent.yaml in $(DESTDIR)/etc

# These two are the lists of what the packages luna-client and luna hold.
install-client:
	install -D -t $(DESTDIR)$(PREFIX)/bin $(BIN)/luna
	ln -sf luna $(DESTDIR)$(PREFIX)/bin/lpower
	ln -sf luna $(DESTDIR)$(PREFIX)/bin/lchroot
	install -D -m 644 -t $(SHARE)/man/man1 docs/man/*.1
	gzip -9nf $(SHARE)/man/man1/*.1
	install -d $(SHARE)/bash-completion/completions $(SHARE)/zsh/site-functions $(SHARE)/fish/vendor_completions.d
	for p in luna lpower lchroot; do \
		$(LUNA) completion bash $$p >$(SHARE)/bash-completion/completions/$$p && \
		$(LUNA) completion zsh $$p >$(SHARE)/zsh/site-functions/_$$p && \
		$(LUNA) completion fish $$p >$(SHARE)/fish/vendor_completions.d/$$p.fish || exit 1; \
	done
	install -D -m 644 LICENSE $(SHARE)/doc/luna-client/copyright

install-head:
	install -D -t $(LIB)/luna $(BIN)/luna-install
	install -D packaging/selinux/module.sh $(LIB)/luna/luna-selinux
	install -D -m 644 -t $(LIB)/systemd/system packaging/systemd/luna.service
	install -D -m 644 packaging/systemd/tmpfiles.conf $(LIB)/tmpfiles.d/luna.conf
	install -D -m 644 packaging/systemd/sysusers.conf $(LIB)/sysusers.d/luna.conf
	install -D -m 644 -t $(LIB)/firewalld/services packaging/firewalld/*.xml
	install -D -m 644 -t $(SHARE)/selinux/packages/luna packaging/selinux/luna.*
	ansible/install.sh $(SHARE)
	install -D -m 644 LICENSE $(SHARE)/doc/luna/copyright
	@# What an administrator wrote is kept.
	[ -e $(DESTDIR)/etc/luna/agent.yaml ] || install -D -m 644 -t $(DESTDIR)/etc/luna packaging/agent.yaml

DIST ?= dist

packages: ## build the packages into dist; ARCH=amd64 FORMAT=deb builds less
	@ARCHES='$(ARCH)' FORMATS='$(FORMAT)' GO='$(GO)' packaging/build.sh '$(VERSION)' '$(DIST)'

generate: ## write what is made of the code: the manual and the description of the API
	$(GO) test ./cmd/luna ./api -run 'TestManual|TestTheFile' -update

test: deps build ## install what is missing, then run all tests, the lab's too (root)
	$(GO) vet ./...
	$(GO) test -p 2 -timeout 35m $$($(GO) list ./... | grep -v /test)
	$(GO) test -p 1 -timeout 35m ./test/... # one at a time: machines are emulated, and want the CPUs

race: deps build ## run the tests with the race detector, but for the lab
	CGO_ENABLED=1 $(GO) test -race -timeout 30m $$($(GO) list ./... | grep -v /test)

lint: ## run golangci-lint (installs it)
	$(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.6.2 run ./...

bench: deps build ## measure, each time beside a peer in the same run
	$(GO) test -run '^$$' -bench . -benchtime 3x ./...

demo: deps build ## three heads boot a real machine and lose a head on the way (root)
	$(GO) run ./test/demo

vagrant-test: ## the demo's story on virtual machines: three heads and two nodes (libvirt, KVM)
	test/vagrant/run.sh

soak: deps build ## what takes longer than make test may
	LUNA_SOAK=$(or $(LUNA_SOAK),1) $(GO) test -p 1 -timeout 6h ./...

clean: ## remove what was built, and the lab's cached image
	rm -rf bin dist .cache /var/cache/luna-lab
