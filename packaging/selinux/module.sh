#!/bin/sh
# Compile and load the SELinux module of Luna's agent, or remove it. The packages run it; where SELinux
# is off it does nothing.
#
#	luna-selinux build DIR    only compile DIR/luna.pp
#	luna-selinux install      compile, load, label what is there
#	luna-selinux remove       unload, label what is left as it was
set -eu

source=${LUNA_SELINUX_SOURCE:-/usr/share/selinux/packages/luna}

enabled() { command -v selinuxenabled >/dev/null && selinuxenabled; }

label() { restorecon -R /usr/bin/luna /usr/lib/luna /etc/luna /var/lib/luna /run/luna 2>/dev/null || true; }

build() {
	checkmodule -M -m -o "$1"/luna.mod "$source"/luna.te >/dev/null
	semodule_package -o "$1"/luna.pp -m "$1"/luna.mod -f "$source"/luna.fc
}

case "${1:-}" in
build)
	build "${2:?usage: luna-selinux build DIR}"
	;;
install)
	enabled || exit 0
	for tool in checkmodule semodule_package semodule restorecon; do
		if ! command -v "$tool" >/dev/null; then
			echo "luna: SELinux is on and $tool is missing: the agent runs, but in no domain of its own." >&2
			echo "luna: install checkpolicy and policycoreutils (Debian: semodule-utils too), then run $0 install" >&2
			exit 0
		fi
	done
	dir=$(mktemp -d)
	trap 'rm -rf "$dir"' EXIT
	build "$dir"
	semodule -i "$dir"/luna.pp
	label
	;;
remove)
	if enabled && command -v semodule >/dev/null && semodule -l | grep -qw luna; then
		semodule -r luna
		label
	fi
	;;
*)
	sed -n '2,/^set/s/^#//p' "$0" >&2
	exit 2
	;;
esac
