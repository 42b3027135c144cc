#!/bin/bash
# The dracut module that makes an initrd install this node with Luna. It is placed into a tree only
# for the time in which luna builds the initrd; beside it then stand luna-install, the lists
# drivers and commands, and what the image adds to them.

# called by dracut; 255: only when it is asked for
check() {
    return 255
}

# called by dracut
depends() {
    echo base udev-rules fs-lib
}

# The entries of a list: words, without comments.
luna_list() {
    sed -e 's/#.*//' "$@"
}

# called by dracut
installkernel() {
    # For whatever machine it will boot on. What this kernel does not have is passed over.
    # shellcheck disable=SC2046
    hostonly='' instmods $(luna_list "$moddir/drivers" "$moddir/drivers.added")
}

# called by dracut
install() {
    local _m
    inst_simple "$moddir/luna-install" /usr/bin/luna-install || return 1
    # What it trusts when it is told to ask the heads over TLS: their own authority, and what the image trusts.
    inst_simple "$moddir/ca.pem" /etc/luna/ca.pem || return 1
    inst_multiple -o /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/certs/ca-certificates.crt
    inst_hook cmdline 99 "$moddir/luna-parse.sh" || return 1
    inst_hook pre-mount 99 "$moddir/luna-premount.sh" || return 1
    # shellcheck disable=SC2046
    inst_multiple -o $(luna_list "$moddir/commands")
    inst_multiple -o /etc/mke2fs.conf

    # Interfaces must have the names here that they will have in the OS.
    inst_multiple -o {/usr,}/lib/systemd/network/{73-usb-net-by-mac,99-default}.link
    for _m in /etc/systemd/network/*.link; do
        [[ -e $_m ]] && inst_simple "$_m"
    done
    inst_rules 60-net.rules 70-persistent-net.rules 71-prefixdevname.rules

    # Tell luna that it came to this, and which modules dracut passed over.
    for _m in $(luna_list "$moddir/modules.added"); do
        dracut_module_included "$_m" || echo "$_m"
    done > /.luna/missing
}
