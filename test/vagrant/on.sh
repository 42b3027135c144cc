#!/bin/sh
# on.sh HEAD LINE: run a line of shell on a head of the Vagrantfile, as root.
exec vagrant ssh "$1" -- sudo sh -c "'$2'"
