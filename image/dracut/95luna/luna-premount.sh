#!/bin/sh
# pre-mount hook: luna-install makes the root file system at $NEWROOT. It retries by itself for ever,
# so when it ends, either all is well or it has crashed. This is not a mount hook, because where
# systemd is in the initrd it takes root=luna for a device, and its attempt to mount that comes between
# the two. Both dracut and systemd are content with a root that is mounted already.

# Runs luna-install with its words on the console and, where luna.ctty= names another
# terminal, on that too.
luna_install() {
    _ctty=$(getarg luna.ctty=) && _ctty=/dev/${_ctty##*/}
    [ -r /sys/class/tty/console/active ] && read -r _active < /sys/class/tty/console/active
    if [ -c "$_ctty" ] && [ "${_ctty##*/}" != "${_active##* }" ]; then
        # A pipe has the status of its end, and the one that counts is that of its start.
        {
            /usr/bin/luna-install
            echo $? > /run/luna-install.status
        } < /dev/console 2>&1 | tee "$_ctty" > /dev/console
        read -r _status < /run/luna-install.status
        return "$_status"
    fi
    /usr/bin/luna-install < /dev/console > /dev/console 2>&1
}

luna_mount() {
    export NEWROOT
    # That something is mounted proves nothing: luna-install may have been killed half way. A new one
    # clears up after it.
    while :; do
        luna_install
        _status=$?
        if [ $_status -ne 0 ]; then
            _message="luna-install ended with status $_status, which it never should"
        elif ismounted "$NEWROOT"; then
            return 0
        else
            _message="luna-install ended, but mounted nothing at $NEWROOT"
        fi
        warn "$_message. It starts again in 10 seconds."
        if getarg rd.break > /dev/null || getargbool 0 rd.shell || getargbool 0 luna.service; then
            emergency_shell -n luna "$_message. Leave this shell to try again."
        fi
        sleep 10
    done
}

[ "$root" = luna ] && luna_mount
