#!/bin/sh
# Build the packages; `make packages` calls it.
#
#	build.sh DESCRIPTION DIRECTORY
#
# DESCRIPTION is what git describe says, DIRECTORY where the packages go. ARCHES and FORMATS in the
# environment say which: by default amd64 and arm64, deb and rpm. Nothing else of the checkout is
# written to but a directory in .cache, which goes away.
set -eu
umask 022 # the packages have the modes of what is put together here

description=${1:?usage: build.sh DESCRIPTION DIRECTORY} dist=${2:?usage: build.sh DESCRIPTION DIRECTORY}
cd "$(dirname "$0")"/..
# nfpm is not in go.mod: it brings a hundred modules, for programs that nobody runs. 2.44 and later
# need some that cannot be had.
nfpm="${GO:=go} run github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.43.4"

date=$(git log -1 --format=%cd --date=format:%Y%m%d%H%M%S 2>/dev/null || true)
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || date +%s)
VERSION=$(packaging/version.sh "$description" "$date")
export SOURCE_DATE_EPOCH VERSION CGO_ENABLED=0

mkdir -p .cache "$dist"
work=$(mktemp -d "$PWD"/.cache/packages.XXXXXX)
trap 'rm -rf "$work"' EXIT
trap 'exit 143' INT TERM

compile() { # PROGRAM ARCH
	GOARCH=$2 $GO build -trimpath -ldflags "-s -w -X main.version=$description" -o "$work/bin-$2/" ./cmd/"$1"
}

here=$($GO env GOHOSTARCH)
compile luna "$here" # it tells the completion of any
for ARCH in ${ARCHES:-amd64 arm64}; do
	[ "$ARCH" = "$here" ] || compile luna "$ARCH"
	compile luna-install "$ARCH"
	for part in head client; do
		case $part in head) package=luna ;; client) package=luna-client ;; esac
		STAGE=$work/$package-$ARCH
		export ARCH STAGE
		make -s install-$part DESTDIR="$STAGE" PREFIX=/usr BIN="$work/bin-$ARCH" LUNA="$work/bin-$here/luna"
		for format in ${FORMATS:-deb rpm}; do
			$nfpm package -f packaging/"$package".yaml -p "$format" -t "$dist" >"$work"/log || { cat "$work"/log >&2; exit 1; }
			sed -n 's/^created package: //p' "$work"/log
		done
	done
done
