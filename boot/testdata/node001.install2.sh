#!/bin/bash
# What luna-install does on node001.cluster. It is rendered from the plan to be
# read: luna-install works from the plan itself, and does more than this shows
# (it retries, verifies, reports to any head, and seeds while it unpacks).

export LUNA_NODE='node001'
export LUNA_GROUP='compute'
export LUNA_OSIMAGE='compute'
export LUNA_VERSION='0123456789abcdef'
heads=(10.30.0.251:7050 10.30.0.253:7050 10.30.0.252:7050)

# --- install.prescript


# --- install.partscript
mount -t tmpfs tmpfs /sysroot


# --- install.download, install.unpack
# 1000 bytes, 5000 unpacked, from the swarm; from one head after the other where no peer delivers
artifact=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
for head in "${heads[@]}"; do
    curl -fsS "http://$head/artifacts/$artifact" | tar --zstd --xattrs --xattrs-include='*' --acls --numeric-owner -xpf - -C /sysroot && break
done

# --- install.setnet
echo 'node001.cluster' >/sysroot/etc/hostname
# BOOTIF, the NIC with 52:54:00:00:00:01: 10.30.0.1/16 via 10.30.255.254, in cluster
# ib0: 10.31.0.1/16, in ipmi
#   MTU=2044
#   CONNECTED_MODE=yes

# --- install.postscript
echo 'root:secret' | chpasswd -R /sysroot


# --- install.success, then seed for 30 s and hand over
