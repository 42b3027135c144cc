#!/bin/sh
# Turn what git describe says into a version that dpkg and rpm both sort rightly.
#
#	version.sh DESCRIPTION [DATE]
#
#	v2.1.0                   2.1.0
#	v2.1.0-rc1               2.1.0~rc1                    before 2.1.0
#	v2.1.0-5-g1234567        2.1.0+5.g1234567             after 2.1.0, before 2.1.1
#	v2.1.0-5-g1234567-dirty  2.1.0+5.g1234567.dirty
#	1234567 (no tag)         0~git20260131120000.1234567  before any release, in the order of DATE
#	anything else            0~dev
set -eu

description=${1:?usage: version.sh DESCRIPTION [DATE]} date=${2:-0}
version=${description%-dirty} dirty=
[ "$version" = "$description" ] || dirty=dirty
commits=$(printf '%s\n' "$version" | sed -nE 's/^.*-([0-9]+)-(g[0-9a-f]{7,40})$/\1.\2/p')
version=$(printf '%s\n' "$version" | sed -E 's/-[0-9]+-g[0-9a-f]{7,40}$//')

if printf '%s\n' "$version" | grep -Eq '^v?[0-9]+(\.[0-9]+)+(-[A-Za-z0-9.-]+)?$'; then
	# A dash parts version and release in both formats: the first becomes ~, which sorts before
	# nothing at all.
	version=$(printf '%s\n' "${version#v}" | sed -E 's/-/~/; s/-/./g')
	after=$commits${commits:+${dirty:+.}}$dirty
	echo "$version${after:++$after}"
elif printf '%s\n' "$version" | grep -Eq '^[0-9a-f]{7,40}$'; then
	echo "0~git$date.$version${dirty:+.dirty}"
else
	echo "0~dev"
fi
