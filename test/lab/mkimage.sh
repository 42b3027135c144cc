#!/bin/sh
# Build a small, real Debian 12 tree in DIR: the image that the lab packs and boots.
#
#	mkimage.sh DIR        DIR must not exist yet
#
# Real: it is installed by apt from Debian's mirrors, keeps dpkg and apt, and boots systemd to a login
# prompt. Small and quick: an emulated machine unpacks 3-4 MB/s of CPU, and takes about a second of
# CPU for every few programs that start, so what no lab machine needs is left out or masked.
#
# The tree holds nothing of any node: no network configuration, no hostname, no machine-id. That is
# the installer's work. Root has no password, on the console of a lab machine.
#
# http_proxy and apt's own proxy setting are respected; LUNA_LAB_MIRROR names another mirror.
set -eu

suite=bookworm
tree=${1:?usage: mkimage.sh DIR}
if [ -e "$tree" ]; then
	echo "mkimage: $tree exists already" >&2
	exit 1
fi

# dracut, zstd and kmod are what packing asks of an image besides its kernel. usr-is-merged stands
# in for usrmerge, which would bring 55 MB of perl. The cloud kernel is Debian's for virtual
# machines: a third of the size of the full one, and LZ4, which decompresses without a wait.
packages=systemd,systemd-sysv,udev,kmod,iproute2,dracut,zstd,linux-image-cloud-amd64,e2fsprogs,fdisk,usr-is-merged

# What dpkg does not unpack: documentation, translations, character sets, the sources of the
# hardware database (the compiled one is then made of nothing), and every kernel module but those
# that a virtual machine, the installer or a disk install may ask for.
set --
for path in \
	/usr/share/doc /usr/share/man /usr/share/info /usr/share/locale /usr/share/lintian /usr/share/bug \
	/usr/share/bash-completion /usr/share/zsh /lib/udev/hwdb.d /usr/lib/x86_64-linux-gnu/gconv \
	'/lib/modules/*/kernel'
do
	set -- "$@" --dpkgopt="path-exclude=$path/*"
done
for modules in \
	arch/x86/crypto block crypto lib drivers/ata drivers/block/loop.ko drivers/block/virtio_blk.ko \
	drivers/cdrom drivers/char/hw_random drivers/net/bonding drivers/net/ethernet \
	drivers/net/net_failover.ko drivers/net/virtio_net.ko drivers/scsi/sd_mod.ko drivers/scsi/sr_mod.ko \
	drivers/scsi/virtio_scsi.ko drivers/virtio fs/fat fs/fuse fs/isofs fs/nls fs/overlayfs fs/squashfs \
	fs/xfs net/8021q net/bridge net/core net/llc net/802 net/packet
do
	set -- "$@" --dpkgopt="path-include=/lib/modules/*/kernel/$modules*"
done

if [ -z "${http_proxy:-}" ] && command -v apt-config >/dev/null; then
	eval "$(apt-config shell proxy Acquire::http::Proxy)"
	[ -z "${proxy:-}" ] || export http_proxy="$proxy"
fi

# INITRD=No: the kernel's hook would spend half a minute on an initrd that packing makes anyway.
export INITRD=No LC_ALL=C
mmdebstrap --variant=apt --include="$packages" \
	--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
	--aptopt='Apt::Install-Recommends "false"' --dpkgopt=force-unsafe-io "$@" \
	"$suite" "$tree" ${LUNA_LAB_MIRROR:+"$LUNA_LAB_MIRROR"} >&2

echo "mkimage: configuring" >&2
# The exclusions were for the build: what is installed into the image later is installed whole.
rm -f "$tree"/etc/dpkg/dpkg.cfg.d/99mmdebstrap "$tree"/etc/apt/apt.conf.d/99mmdebstrap
rm -rf "$tree"/boot/initrd.img-* "$tree"/initrd.img* "$tree"/vmlinuz* \
	"$tree"/tmp/* "$tree"/var/log/* "$tree"/var/cache/apt/*.bin "$tree"/var/cache/debconf/*-old "$tree"/var/lib/dpkg/*-old
rm -f "$tree"/etc/hostname "$tree"/etc/resolv.conf
: >"$tree"/etc/fstab
# Empty, not absent: absent would be a "first boot", which goes through the presets of every unit.
: >"$tree"/etc/machine-id

chroot "$tree" passwd --quiet --delete root

units="$tree"/etc/systemd/system
mkdir -p "$units"/multi-user.target.wants "$units"/getty.target.wants "$units"/serial-getty@ttyS0.service.d
ln -s /lib/systemd/system/systemd-networkd.service "$units"/multi-user.target.wants/
ln -s /lib/systemd/system/serial-getty@.service "$units"/getty.target.wants/serial-getty@ttyS0.service
# Type=idle would hold the prompt back until the last job is done.
printf '[Service]\nType=simple\n' >"$units"/serial-getty@ttyS0.service.d/lab.conf

# Nothing of these says anything on a lab machine: it has no screen, no battery, no swap, no bus,
# no crash store, no earlier life, and lives for minutes.
for unit in \
	apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service \
	fstrim.timer systemd-tmpfiles-clean.timer getty@tty1.service systemd-logind.service \
	systemd-networkd-wait-online.service systemd-random-seed.service systemd-pstore.service \
	systemd-update-utmp.service systemd-update-utmp-runlevel.service systemd-journal-flush.service \
	modprobe@configfs.service modprobe@dm_mod.service modprobe@drm.service modprobe@efi_pstore.service \
	modprobe@fuse.service modprobe@loop.service kmod-static-nodes.service \
	sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-fs-fuse-connections.mount \
	dev-hugepages.mount dev-mqueue.mount proc-sys-fs-binfmt_misc.automount \
	systemd-binfmt.service systemd-ask-password-console.path systemd-ask-password-wall.path \
	systemd-network-generator.service systemd-fsck-root.service systemd-remount-fs.service \
	systemd-user-sessions.service systemd-modules-load.service getty-static.service dracut-shutdown.service
do
	ln -sf /dev/null "$units/$unit"
done

# The switch that keeps users out during boot is neither set nor, by the masked unit, unset.
mkdir -p "$tree"/etc/tmpfiles.d
: >"$tree"/etc/tmpfiles.d/systemd-nologin.conf

# The one line that tells a test: the system is up, is called this, and is reached there.
cat >"$tree"/usr/local/sbin/os-ready <<'SCRIPT'
#!/bin/sh
# Wait until the network has an address (the installer wrote its configuration), then say so on
# the console. After two minutes say it without: the missing address is then the test's finding.
for _ in $(seq 240); do
	addr=$(ip -4 -brief address show scope global | awk '{for (i = 3; i <= NF; i++) print $i}' | paste -sd,)
	[ -z "$addr" ] || break
	sleep 0.5
done
echo "OS-READY hostname=$(hostname) addr=$addr" >/dev/console
SCRIPT
chmod 755 "$tree"/usr/local/sbin/os-ready
cat >"$units"/os-ready.service <<'UNIT'
[Unit]
Description=Tell the console that the system is ready
After=multi-user.target systemd-networkd.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/os-ready

[Install]
WantedBy=multi-user.target
UNIT
ln -s /etc/systemd/system/os-ready.service "$units"/multi-user.target.wants/

# Last: newer than /usr, else the first boot rebuilds every cache (ConditionNeedsUpdate).
touch "$tree"/etc/.updated "$tree"/var/.updated
