#!/bin/sh
# cmdline hook: root=luna is a root that this initrd knows how to mount.

[ -z "$root" ] && root=$(getarg root=)
if [ "$root" = luna ]; then
    # shellcheck disable=SC2034
    rootok=1
fi
