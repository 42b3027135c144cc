#!/bin/sh
# power.sh NODE: switch a node on by its BMC, from the first head.
exec "$(dirname "$0")/on.sh" head1 "lpower $1 on"
