#!/bin/sh
# The story of `make demo`, told on heads that somebody installed: a mesh that is there gets
# an image and nodes, the nodes are switched on, the head that answers DHCP is killed while
# they download, and all of them end with the image.
#
# It knows nothing of what the machines are. These tell it:
#
#	HEADS	the heads' names
#	NODES	the nodes' hardware addresses, the first being that of node001
#	TREE	the operating system's tree, on the first head
#	ON	a command that runs its second argument, a line of shell, on the head that its
#		first one names, as root
#	POWER	a command that switches on the node that its argument names
#	PATIENCE	seconds until a node must be installed (900)
set -eu
: "${HEADS:?}" "${NODES:?}" "${TREE:?}" "${ON:?}" "${POWER:?}" "${PATIENCE:=900}"
here=$(dirname "$0")
began=$(date +%s)
first=${HEADS%% *}

say() { printf '%4d s  %s\n' $(($(date +%s) - began)) "$*"; }
on() { $ON "$@" </dev/null; }

# until_so WHAT SECONDS COMMAND... waits until the command succeeds.
until_so() {
	what=$1 end=$(($(date +%s) + $2))
	shift 2
	until "$@"; do
		if [ "$(date +%s)" -gt "$end" ]; then
			say "given up: $what"
			on "$asked" 'luna cluster status' || true
			exit 1
		fi
		sleep 1
	done
	say "$what"
}

# value HEAD FIELD COMMAND... prints a field of what a luna command says in JSON.
value() {
	head=$1 field=$2
	shift 2
	on "$head" "luna $* -o json" | sed -n "s/^ *\"$field\": \"\{0,1\}\([^\",]*\)\"\{0,1\},\{0,1\}\$/\1/p" | head -n 1
}

is() { [ "$(value "$asked" "$2" "$3")" = "$1" ]; }
voters() { [ "$(on "$asked" 'luna head list -o json' | grep -c '"role": "voter"')" = "$1" ]; }
alive() { [ "$(on "$asked" 'luna head list -o json' | grep -c '"state": "alive"')" = "$1" ]; }
another() { holder=$(value "$asked" dhcp_holder 'network show cluster') && [ -n "$holder" ] && [ "$holder" != "$1" ]; }
stage_of() { value "$asked" stage "node show $1"; }
downloading() { for node in $names; do [ "$(stage_of "$node")" != install.download ] || return 0; done; return 1; }

# shellcheck disable=SC2086 # the names are words
set -- $HEADS
asked=$first heads=$#
until_so "$heads heads are one mesh: $HEADS" 120 voters "$heads"

inventory=$(mktemp)
trap 'rm -f "$inventory"' EXIT
sed "s|TREE|$TREE|" "$here/site.yaml" >"$inventory"
names=
number=0
for mac in $NODES; do
	number=$((number + 1))
	node=$(printf 'node%03d' $number)
	names="$names $node"
	printf '  %s:\n    group: compute\n    mac: "%s"\n' "$node" "$mac" >>"$inventory"
done
$ON "$first" 'luna apply -f - --yes' <"$inventory"
say "the inventory is site.yaml, and $number nodes"
on "$first" 'luna osimage pack compute'
say "$first has packed the image"

until_so "a head answers DHCP" 60 another ""
for node in $names; do $POWER "$node"; done
say "switched on:$names"
until_so "a node downloads its image" "$PATIENCE" downloading
another "" # sets holder
dead=$holder
on "$dead" 'systemctl kill --signal=KILL luna; systemctl stop luna'
say "kill -9 of $dead, which answers DHCP"
for head in $HEADS; do [ "$head" = "$dead" ] || asked=$head; done
until_so "another head answers DHCP" 60 another "$dead"
for node in $names; do until_so "$node has its image" "$PATIENCE" is install.success stage "node show $node"; done

on "$dead" 'systemctl start luna'
until_so "$dead is back" 120 alive "$heads"
until_so "any head may go down now" 120 on "$asked" 'luna cluster safe >/dev/null'
on "$asked" 'luna cluster status'
say "done: $number nodes have the image, and a head died on the way"
