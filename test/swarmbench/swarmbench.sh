# shellcheck shell=bash
# Package swarm as a delivery method of the swarm harness: copy or link into its methods directory,
# with SWARMBENCH the path of the built command. SWARM_HEAD and SWARM_NODE are more flags for each;
# the send buffer is scaled down with the link rate.
SELF_BARRIER=1
SWARM_SEND=${SWARM_SEND:-16384}
per_head() { local i o=; for ((i = 1; i <= H; i++)); do o+=",http://$(head_ip "$i"):7050$1"; done; echo "${o#,}"; }
method_prepare() { "$SWARMBENCH" describe -file "$IMG" -desc "$WORK/desc.json" || die describe; }
start_head() {
  exec "$SWARMBENCH" head -listen "$(head_ip "$1")" -file "$IMG" -desc "$WORK/desc.json" \
    -ready "$WORK/head$1.ready" -peers 64 -send "$SWARM_SEND" ${SWARM_HEAD:-}
}
head_ready() { [ -e "$WORK/head$1.ready" ]; }
start_node() {
  exec "$SWARMBENCH" node -listen "$(node_ip "$1")" -file "$(node_file "$1")" -desc "$WORK/desc.json" \
    -trackers "$(per_head /announce)" -http "$(per_head /image)" \
    -ready "$WORK/n$1/ready" -start "$WORK/go" -done "$WORK/n$1/done" -send "$SWARM_SEND" ${SWARM_NODE:-}
}
