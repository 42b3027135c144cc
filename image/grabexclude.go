package image

// DefaultGrabExclude is what a grab leaves out unless an image says otherwise: what is not a file of
// the system, what makes the machine that very machine, what it gathered while it ran.
const DefaultGrabExclude = `# What a grab leaves out, as patterns of rsync ("man rsync", FILTER RULES). A pattern that begins with
# a slash begins at the host's root. "/dir/*" keeps the directory and leaves out what is in it. What
# matches stays in the image as it is there.

# Not files: what the kernel shows, and what lives as long as the machine runs
/proc/*
/sys/*
/dev/*
/run/*
/var/run/*
/var/lock/*
/tmp/*
/var/tmp/*
lost+found
/swapfile
/swap.img
/.autorelabel

# Other people's: homes, and what is mounted by hand
/home/*
/media/*
/mnt/*
/root/.ssh/known_hosts*
/root/.ssh/id_*
/root/.bash_history
/root/.cache/*

# Who this machine is
/etc/hostname
/etc/machine-id
/var/lib/dbus/machine-id
/etc/ssh/ssh_host_*
/etc/iscsi/initiatorname.iscsi
/etc/nvme/hostid
/etc/nvme/hostnqn
/etc/pki/tls/private/localhost.key
/var/lib/systemd/random-seed
/var/lib/systemd/credential.secret
/var/lib/luna/*

# Its network, which the installer writes for each node
/etc/resolv.conf
/etc/network/interfaces
/etc/network/interfaces.d/*
/etc/netplan/*
/etc/NetworkManager/system-connections/*
/etc/sysconfig/network
+ /etc/sysconfig/network-scripts/ifcfg-lo
/etc/sysconfig/network-scripts/ifcfg-*
/etc/sysconfig/network-scripts/route*-*
/etc/systemd/network/*.network
/etc/udev/rules.d/70-persistent-net.rules
/var/lib/NetworkManager/*
/var/lib/dhclient/*
/var/lib/dhcp/*
/var/lib/dhcpcd/*

# Its disks and boot loader
/etc/fstab
/etc/crypttab
/etc/mdadm.conf
/etc/mdadm/mdadm.conf
/etc/lvm/archive/*
/etc/lvm/backup/*
/etc/lvm/cache/*
/etc/lvm/devices/*
/etc/multipath/bindings
/etc/multipath/wwids
/boot/efi/*
/boot/grub/*
/boot/grub2/*
/boot/loader/entries/*
/boot/*-rescue-*

# What it gathered: logs without their directories, crashes, mail, what can be had again
+ /var/log/**/
/var/log/**
/var/crash/*
/var/lib/systemd/coredump/*
/var/lib/systemd/timers/*
/var/mail/*
/var/spool/mail/*
/var/account/*
/var/cache/apt/*.bin
/var/cache/apt/archives/*.deb
/var/cache/dnf/*
/var/cache/yum/*
/var/lib/apt/lists/*
`
