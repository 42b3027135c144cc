#!/bin/sh
# Bring the site of the Vagrantfile up, run the scenario on it, and take it down; what it leaves
# where something fails is for you to look at (vagrant ssh head1; vagrant destroy -f).
# It takes root for bmc.sh (sudo), KVM, vagrant with vagrant-libvirt, ansible, and virtualbmc
# with its daemon.
set -eu
cd "$(dirname "$0")"
for program in vagrant virsh ansible-playbook vbmc; do
	command -v "$program" >/dev/null || { echo "run.sh: $program is missing" >&2; exit 1; }
done
[ -w /dev/kvm ] || { echo "run.sh: there is no KVM here, or not for $(id -un)" >&2; exit 1; }
sudo vbmc list >/dev/null || { echo "run.sh: the daemon of virtualbmc does not run: start vbmcd" >&2; exit 1; }
heads=
for number in $(seq "${LUNA_HEADS:-3}"); do heads="$heads head$number"; done

make -C ../.. packages ARCH=amd64

# The collection as Ansible finds one: by its name in a directory.
collections=$(mktemp -d)
trap 'rm -rf "$collections"' EXIT
mkdir -p "$collections/ansible_collections/clustervision"
ln -s "$(cd ../../ansible && pwd)" "$collections/ansible_collections/clustervision/luna"
export ANSIBLE_COLLECTIONS_PATH="$collections"

vagrant up --provider=libvirt
for node in node001 node002; do # defined, and switched off until the scenario wants it
	vagrant up --provider=libvirt --no-provision "$node"
	virsh --connect qemu:///system destroy "luna_$node"
done
sudo ./bmc.sh

# The head that reaches the BMCs runs the power commands, as an administrator would.
HEADS=${heads# } NODES='52:54:00:00:00:01 52:54:00:00:00:02' TREE=/opt/luna/os/compute \
	ON=./on.sh POWER=./power.sh ./scenario.sh

sudo ./bmc.sh stop
vagrant destroy -f
