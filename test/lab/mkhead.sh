#!/bin/sh
# Build a Debian 12 tree in DIR that a container boots from: a server as an administrator gets it from
# a provider, before anything of Luna is on it.
#
#	mkhead.sh DIR        DIR must not exist yet
#
# It has systemd, dbus and sshd; python3 and python3-apt, which Ansible asks for; and what the
# packages of Luna depend on, because a lab has no way to Debian's mirrors. Root comes in by the key
# DIR/root/.ssh/id_ed25519, also from one head to another. It is of this machine's lab alone.
#
# http_proxy and apt's own proxy setting are respected; LUNA_LAB_MIRROR names another mirror.
set -eu

suite=bookworm
tree=${1:?usage: mkhead.sh DIR}
if [ -e "$tree" ]; then
	echo "mkhead: $tree exists already" >&2
	exit 1
fi

# Up to ca-certificates it is the server; then come the dependencies of packaging/nfpm.yaml, and what
# is in the way on a real server: name server, firewall (a container has its own), tools to look with.
packages=systemd,systemd-sysv,udev,dbus,openssh-server,python3,python3-apt,iproute2,iputils-ping,procps,sudo,usr-is-merged
packages=$packages,ca-certificates,curl,ipxe,rsync,zstd,xz-utils,lz4,lzop,man-db,bash-completion,bind9,firewalld,rpm,attr

set --
for path in /usr/share/doc /usr/share/man /usr/share/info /usr/share/locale /usr/share/lintian \
	/usr/share/bug /lib/udev/hwdb.d /usr/lib/x86_64-linux-gnu/gconv
do
	set -- "$@" --dpkgopt="path-exclude=$path/*"
done

if [ -z "${http_proxy:-}" ] && command -v apt-config >/dev/null; then
	eval "$(apt-config shell proxy Acquire::http::Proxy)"
	[ -z "${proxy:-}" ] || export http_proxy="$proxy"
fi

export LC_ALL=C
mmdebstrap --variant=apt --include="$packages" \
	--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
	--aptopt='Apt::Install-Recommends "false"' --dpkgopt=force-unsafe-io "$@" \
	"$suite" "$tree" ${LUNA_LAB_MIRROR:+"$LUNA_LAB_MIRROR"} >&2

echo "mkhead: configuring" >&2
# The exclusions were for the build: what a test installs is installed whole.
rm -f "$tree"/etc/dpkg/dpkg.cfg.d/99mmdebstrap "$tree"/etc/apt/apt.conf.d/99mmdebstrap
rm -rf "$tree"/tmp/* "$tree"/var/log/* "$tree"/var/cache/apt/*.bin
rm -f "$tree"/etc/hostname "$tree"/etc/resolv.conf
: >"$tree"/etc/fstab
# Empty, not absent: absent would be a "first boot", which goes through the presets of every unit.
: >"$tree"/etc/machine-id

# The mirror cannot be reached from a lab, and waiting for it is no part of any test.
rm -f "$tree"/etc/apt/sources.list "$tree"/etc/apt/sources.list.d/*

install -d -m 700 "$tree"/root/.ssh
ssh-keygen -q -t ed25519 -N '' -C 'the lab of Luna' -f "$tree"/root/.ssh/id_ed25519
install -m 600 "$tree"/root/.ssh/id_ed25519.pub "$tree"/root/.ssh/authorized_keys
# Names of peers are looked up nowhere: it would take sshd as long as the resolver's patience.
printf 'UseDNS no\n' >"$tree"/etc/ssh/sshd_config.d/lab.conf

# What lives for minutes has no use for these; bind9 and firewalld are started by who wants them.
units="$tree"/etc/systemd/system
for unit in \
	apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer man-db.timer \
	fstrim.timer systemd-tmpfiles-clean.timer getty@tty1.service console-getty.service getty-static.service \
	systemd-pstore.service systemd-random-seed.service systemd-udevd.service systemd-udev-trigger.service \
	systemd-timesyncd.service systemd-networkd-wait-online.service
do
	ln -sf /dev/null "$units/$unit"
done
rm -f "$units"/multi-user.target.wants/named.service "$units"/bind9.service \
	"$units"/multi-user.target.wants/firewalld.service "$units"/dbus-org.fedoraproject.FirewallD1.service

# Last: newer than /usr, else the first boot rebuilds every cache (ConditionNeedsUpdate).
touch "$tree"/etc/.updated "$tree"/var/.updated
