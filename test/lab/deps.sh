#!/bin/sh
# Install what the lab and the tests run. This is the only list of these packages.
#
# It looks first and is silent and quick (some ten milliseconds) when nothing is missing, so the
# Makefile calls it before every test and demo. `deps.sh --list` prints the list.
set -eu

# qemu-system-x86, ovmf      the machines, and their UEFI firmware (SeaBIOS comes with QEMU)
# ipxe-qemu                  the network ROM that a BIOS machine boots with
# ipxe                       the loaders that heads hand out: undionly.kpxe, ipxe.efi, snponly.efi
# dnsmasq-base               a DHCP and TFTP server that is not ours, for the lab's own tests
# mmdebstrap                 builds the Debian tree that is packed and booted
# iproute2, util-linux       ip, tc, bridge; nsenter, unshare, flock
# zstd, acl, attr,           independent checkers: an unpacked tree is compared by these and not by
# libcap2-bin, cpio          the code that unpacked it
# aria2                      a BitTorrent client that is not ours, for the tests of the swarm
# openipmi                   ipmi_sim, a BMC without a machine (test/lab/bmcsim)
# ipmitool                   an IPMI client that is not ours; the installer runs it too
# bind9, bind9-utils         a name server and a DHCP server that are not ours: they load what Luna
# isc-dhcp-server            writes for them, and answer from it
# rsync, openssh-server      what grab takes a host with, and the host that is taken
# xfsprogs                   a file system that shares blocks, for clones
# lz4, xz-utils, bzip2       initrds as images made them
# busybox                    a tree of one file, to run commands in
# curl, wget, bsdutils       what people type beside luna (test/conformance); bsdutils has script(1)
# sqlite3, jq                programs that luna is measured beside
# bash-completion, zsh, fish   shells to press the tabulator in, which luna completes words for
# systemd-container          systemd-nspawn: heads with a systemd of their own
# openssh-client             to come into them, and makes the key for it
# rpm                        looks at the packages for the RHEL family, and installs them in a tree
# checkpolicy, semodule-utils   compile the SELinux module
# groff-base                 looks whether the man pages are well-formed
# vagrant, vagrant-libvirt, shellcheck   look whether the Vagrant site and its scripts are sound
# ansible-core, ansible-lint   plays the collection, and looks whether it is sound
packages="qemu-system-x86 ovmf ipxe-qemu ipxe dnsmasq-base mmdebstrap iproute2 util-linux
zstd acl attr libcap2-bin cpio aria2 openipmi ipmitool bash-completion zsh fish groff-base
bind9 bind9-utils isc-dhcp-server
rsync openssh-server xfsprogs lz4 xz-utils bzip2 busybox
curl wget bsdutils sqlite3 jq vagrant vagrant-libvirt shellcheck
systemd-container openssh-client rpm checkpolicy semodule-utils libxml2-utils ansible-core ansible-lint"

if [ "${1:-}" = --list ]; then
	printf '%s\n' $packages
	exit 0
fi

if ! command -v apt-get >/dev/null; then
	echo "deps: this is not Debian: install the equivalents of these by hand:" $packages >&2
	exit 1
fi

# One dpkg-query for all of them; a name that dpkg has never heard of goes to stderr and is
# missing from the answer, which is what is asked.
installed=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' $packages 2>/dev/null || true)
missing=
for package in $packages; do
	case "
$installed
" in
	*"
$package installed
"*) ;;
	*) missing="$missing $package" ;;
	esac
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
	echo "deps: not installed:$missing; run as root: apt-get install --no-install-recommends$missing" >&2
	exit 1
fi

# A service that comes with a package would take port 22, 53 or 67 from what is tested: mask it.
mask() { mkdir -p /etc/systemd/system && ln -sfn /dev/null "/etc/systemd/system/$1.service"; }
case "$missing " in *" bind9 "*) mask named ;; esac
case "$missing " in *" openssh-server "*) mask ssh ;; esac
case "$missing " in *" isc-dhcp-server "*) mask isc-dhcp-server ;; esac

# Another apt may be at work on the same machine: wait for its lock and do not fail.
apt="apt-get -qq -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
echo "deps: installing$missing" >&2
export DEBIAN_FRONTEND=noninteractive
# The package lists may be absent (a container image) or too old to be good; a mirror of
# something unrelated that cannot be reached is no reason to stop.
$apt update >"$log" 2>&1 || echo "deps: apt-get update failed, trying with the old lists: $(tail -n 1 "$log")" >&2
if ! $apt install -y --no-install-recommends $missing >"$log" 2>&1; then
	tail -n 20 "$log" >&2
	echo "deps: apt-get could not install:$missing" >&2
	exit 1
fi
