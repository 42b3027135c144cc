#!/usr/bin/python
# Copyright: ClusterVision. Apache License 2.0 (see LICENSE at the root of Luna's repository).
"""Keep the cluster, what stands for all of it"""

DOCUMENTATION = r"""
---
module: luna_cluster
short_description: Keep the cluster, what stands for all of it
version_added: "2.0.0"
author: ClusterVision (@clustervision)
description:
  - Makes a cluster of a head, changes its settings, has it serve DHCP, and deletes it.
  - Making one is for root on a head, over its socket. The credential of its first administrator is stored in C(~/.luna).
extends_documentation_fragment:
  - clustervision.luna.head
options:
  state:
    description:
      - C(present) makes the cluster be as the other parameters say. What is left out stays as it is, or gets its default
        where the cluster is new.
      - C(absent) deletes the cluster. The heads stay a mesh, in which a cluster can be made anew; trees of osimages stay.
    type: str
    choices: [absent, present]
    default: present
  force:
    description: With state C(absent), delete all that is in the cluster too, and also where the mesh has several heads.
    type: bool
    default: false
  frontend_address:
    description: The address that administrators call the site by. A new cluster needs it.
    type: str
  frontend_port:
    description: TCP port on which the heads serve nodes.
    type: int
  frontend_https:
    description: Nodes fetch what they boot over https.
    type: bool
  nodeprefix:
    description: How the names of nodes begin. C(node) for a new cluster.
    type: str
  nodedigits:
    description: How many digits the names of nodes have. 3 for a new cluster.
    type: int
  user:
    description: The user that owns the path.
    type: str
  path:
    description: The cluster's directory on every head. C(/opt/luna) for a new cluster.
    type: str
  replicas:
    description: How many heads must hold an image version before nodes boot it.
    type: int
  seed_seconds:
    description: How long a node goes on seeding before it hands over to its system.
    type: int
  server_port:
    description: Of the lweb of Luna 1.2. Kept, and obeyed by nobody.
    type: int
  tracker_interval:
    description: Seconds between two announces of a peer.
    type: int
  tracker_min_interval:
    description: Seconds that a peer waits at least.
    type: int
  tracker_maxpeers:
    description: How many peers one answer names at most.
    type: int
  torrent_listen_port_min:
    description: Of the ltorrent of Luna 1.2. Kept, and obeyed by nobody.
    type: int
  torrent_listen_port_max:
    description: Of the ltorrent of Luna 1.2. Kept, and obeyed by nobody.
    type: int
  torrent_pidfile:
    description: Of the ltorrent of Luna 1.2. Kept, and obeyed by nobody. Empty for none.
    type: str
  lweb_num_proc:
    description: Of the lweb of Luna 1.2. Kept, and obeyed by nobody.
    type: int
  lweb_pidfile:
    description: Of the lweb of Luna 1.2. Kept, and obeyed by nobody. Empty for none.
    type: str
  cluster_ips:
    description: Of the two heads of Luna 1.2. Kept, and obeyed by nobody. Empty for none.
    type: str
  named_include_file:
    description: Where I(makedns) writes what named.conf includes. Empty for none.
    type: str
  named_zone_dir:
    description: Where I(makedns) writes the zones. Empty for none.
    type: str
  comment:
    description: A comment. An empty one is none.
    type: str
  makedhcp:
    description:
      - Serve DHCP on the network I(dhcp_net), with the range for unknown machines.
      - With none of the three given there is nothing to do where a network has a range, for nothing is generated any more.
    type: bool
    default: false
  dhcp_net:
    description: Name of the network for I(makedhcp).
    type: str
  dhcp_range_start:
    description: First address of the range.
    type: str
  dhcp_range_end:
    description: Last address of the range.
    type: str
  native_dhcp_ha:
    description: Of Luna 1.2. There is nothing to do for it, the heads take over from one another by themselves.
    type: bool
    default: false
  makedns:
    description:
      - Write the DNS zones as files for BIND, on the asked head, where it has the directory I(named_zone_dir).
      - The task has changed something where a file says something else than before, but for the serial of its zone.
    type: bool
    default: false
attributes:
  check_mode:
    description: Tells what would change and changes nothing. That a cluster can be made is known only by making it.
    support: full
  diff_mode:
    description: Shows objects before and after, as the head tells them.
    support: full
"""

EXAMPLES = r"""
- name: Have a cluster with DHCP
  clustervision.luna.luna_cluster:
    frontend_address: 10.30.255.254

- name: Serve DHCP
  clustervision.luna.luna_cluster:
    makedhcp: true
    dhcp_net: cluster
    dhcp_range_start: 10.30.128.1
    dhcp_range_end: 10.30.140.255

- name: Delete it with all that is in it
  clustervision.luna.luna_cluster:
    state: absent
    force: true
"""

RETURN = r"""
msg:
  description: What was done, and what the head had to say; the reason where the task failed.
  returned: always
  type: str
  sample: "cluster changed"
meta:
  description: Always C(general), the name of every cluster; the reason where the task failed.
  returned: always
  type: str
  sample: general
object:
  description: The cluster as the API shows it.
  returned: if the state is present, and not in check mode
  type: dict
kind:
  description: Why the task failed, as one word of the API (not-found, invalid, in-use, refused, denied, unavailable, unknown, internal).
  returned: failure
  type: str
  sample: in-use
users:
  description: What is in the cluster, where it was therefore not deleted.
  returned: failure
  type: list
  elements: str
  sample: ["[network/cluster]"]
"""

from ansible_collections.clustervision.luna.plugins.module_utils.head import keep_credential, url
from ansible_collections.clustervision.luna.plugins.module_utils.task import Task

AT_INIT = ("frontend_address", "nodeprefix", "nodedigits", "user", "path")
TEXTS = AT_INIT[:2] + AT_INIT[3:] + (
    "torrent_pidfile", "lweb_pidfile", "cluster_ips", "named_include_file", "named_zone_dir", "comment",
)
NUMBERS = (
    "nodedigits", "frontend_port", "replicas", "seed_seconds", "server_port", "tracker_interval", "tracker_min_interval",
    "tracker_maxpeers", "torrent_listen_port_min", "torrent_listen_port_max", "lweb_num_proc",
)
RANGE = ("dhcp_net", "dhcp_range_start", "dhcp_range_end")


class Cluster(Task):
    """The task about the cluster, which is the one object without a name."""

    def __init__(self):
        options = dict(
            force=dict(type="bool", default=False),
            frontend_https=dict(type="bool"),
            makedhcp=dict(type="bool", default=False),
            native_dhcp_ha=dict(type="bool", default=False),
            makedns=dict(type="bool", default=False),
        )
        options.update((name, dict()) for name in TEXTS + RANGE)
        options.update((name, dict(type="int")) for name in NUMBERS)
        super().__init__("cluster", options)

    def present(self):
        """Make the cluster, change it, and do what is asked for beside."""
        fields = self.given("frontend_https", *(TEXTS + NUMBERS))
        if "frontend_address" in fields:
            self.address(fields["frontend_address"])
        there = self.get() is not None
        if not there:
            self.init({n: fields.pop(n) for n in AT_INIT if n in fields})
        if there or not self.check:  # what is not made cannot be asked what would change
            if fields:
                self.write("PATCH", "/v1/cluster", fields)
            self.makedhcp()
            if self.params["makedns"]:
                self.makedns()

    def init(self, fields):
        """Make a cluster of the head behind the socket."""
        if not fields.get("frontend_address"):
            self.refuse("there is no cluster yet: give its frontend_address")
        self.changed = True
        if self.check:
            self.said.append("a cluster would be made")
            return
        made = self.mesh.change("POST", "/v1/cluster", fields)
        if "credential" in made:
            path = keep_credential(made["uuid"], made["credential"])
            self.said.append("head %s is now the first of cluster %s; the admin credential is in %s" % (made["head"], made["uuid"], path))

    def makedhcp(self):
        """Serve DHCP."""
        given = self.given(*RANGE)
        for name in RANGE[1:]:
            if name in given:
                self.address(given[name])
        if not self.params["makedhcp"]:
            if given:
                self.module.warn("%s: nothing is done for this without makedhcp" % ", ".join(sorted(given)))
            return
        if not given:
            if not (self.get() or {}).get("dhcp"):
                self.refuse("Network range should be specified: no network has DHCP yet; give dhcp_net, dhcp_range_start and dhcp_range_end")
            return
        if len(given) < len(RANGE):
            self.refuse("Network range should be specified: give dhcp_net, dhcp_range_start and dhcp_range_end together")
        self.write("PUT", url("/v1/networks/%s/range", given["dhcp_net"]), {"start": given["dhcp_range_start"], "end": given["dhcp_range_end"]})

    def makedns(self):
        """Write the zones for BIND."""
        zones = self.mesh.get("/v1/zones")
        changes = [f for f in zones["files"] if f.get("changed")]
        self.said += zones.get("notices") or []
        if not changes:
            return
        if not self.check:
            zones = self.mesh.change("POST", "/v1/zones")
            self.said += zones["notices"]
        self.said += [f["path"] for f in zones["files"]]
        self.changed = self.changed or bool(zones["files"])

    def absent(self):
        """Delete the cluster."""
        if self.get() is None:
            self.said.append("there is no cluster")
            return
        heads = [h["name"] for h in self.mesh.get("/v1/heads")]
        force = self.params["force"]
        if len(heads) > 1 and not force:
            self.refuse("the mesh has %d heads (%s), and on all of them everything would be deleted: say force: true if this is meant"
                        % (len(heads), ", ".join(heads)))
        self.write("DELETE", "/v1/cluster?force=%s" % ("true" if force else "false"))


def main():
    """Run the module."""
    task = Cluster()
    task.run(task.present, task.absent)


if __name__ == "__main__":
    main()
