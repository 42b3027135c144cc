#!/bin/sh
# Give each node of the Vagrantfile a BMC: virtualbmc on this workstation, at the address that
# Luna computes for it. Run as root, after the nodes are defined; `bmc.sh stop` takes them away.
# It needs virtualbmc (pip install virtualbmc) and its daemon, vbmcd.
set -eu
bridge=$(virsh net-info luna | sed -n 's/^Bridge: *//p')
for number in 1 2; do
	name=luna_$(printf 'node%03d' $number) address=10.31.0.$number
	vbmc delete "$name" 2>/dev/null || true
	ip address del "$address/16" dev "$bridge" 2>/dev/null || true
	[ "${1:-}" != stop ] || continue
	ip address add "$address/16" dev "$bridge"
	vbmc add "$name" --address "$address" --port 623 --username admin --password luna
	vbmc start "$name"
done
