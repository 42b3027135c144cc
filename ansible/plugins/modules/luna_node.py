#!/usr/bin/python
# Copyright: ClusterVision. Apache License 2.0 (see LICENSE at the root of Luna's repository).
"""Keep nodes"""

DOCUMENTATION = r"""
---
module: luna_node
short_description: Keep nodes
version_added: "2.0.0"
author: ClusterVision (@clustervision)
description:
  - Adds, changes and deletes a node. An interface for which no address is given gets the lowest free one.
extends_documentation_fragment:
  - clustervision.luna.head
  - clustervision.luna.head.state
options:
  name:
    description: Name of the node.
    type: str
    required: true
  group:
    description: Its group. A new node needs it.
    type: str
  interfaces:
    description: Addresses that the node is to have. Interfaces that are not listed keep theirs.
    type: list
    elements: dict
    suboptions:
      name:
        description: Name of the interface, as the group has it.
        type: str
        required: true
      ip:
        description: Its addresses, one of IPv4 and one of IPv6 at most.
        type: list
        elements: str
        default: []
  localboot:
    description: Boot from the disk. No for a new node.
    type: bool
  setupbmc:
    description: Set the BMC up when the node is installed. Yes for a new node.
    type: bool
  service:
    description: Stop with a shell before the installation. No for a new node.
    type: bool
  mac:
    description: Its MAC address; another node that had it loses it. Empty for none.
    type: str
  switch:
    description: The switch that it hangs on. Empty for none.
    type: str
  port:
    description: The port of that switch. Empty for none.
    type: str
  tags:
    description: Its tags. Given, they are all that it has.
    type: list
    elements: str
  comment:
    description: A comment. An empty one is none.
    type: str
"""

EXAMPLES = r"""
- name: Have a node at an address of its own
  clustervision.luna.luna_node:
    name: node001
    group: compute
    mac: "52:54:00:00:00:01"
    interfaces:
      - name: BOOTIF
        ip: [10.30.0.1]

- name: Have ten nodes, at the next free addresses
  clustervision.luna.luna_node:
    name: "{{ 'node%03d' | format(item) }}"
    group: compute
  loop: "{{ range(1, 11) }}"
"""

RETURN = r"""
msg:
  description: What was done, and what the head had to say; the reason where the task failed.
  returned: always
  type: str
  sample: "node node001 changed"
meta:
  description: Name of the object; the reason where the task failed.
  returned: always
  type: str
  sample: node001
object:
  description: The object as the API shows it, with no password in it.
  returned: if the state is present, and not in check mode
  type: dict
kind:
  description: Why the task failed, as one word of the API (not-found, invalid, in-use, refused, denied, unavailable, unknown, internal).
  returned: failure
  type: str
  sample: in-use
users:
  description: What uses the object, where it was therefore not deleted.
  returned: failure
  type: list
  elements: str
  sample: ["[group/compute]"]
"""

from ansible_collections.clustervision.luna.plugins.module_utils.task import Task


def main():
    """Run the module."""
    task = Task("node", dict(
        name=dict(required=True),
        group=dict(),
        interfaces=dict(type="list", elements="dict", options=dict(
            name=dict(required=True),
            ip=dict(type="list", elements="str", default=[]),
        )),
        localboot=dict(type="bool"),
        setupbmc=dict(type="bool"),
        service=dict(type="bool"),
        mac=dict(),
        switch=dict(),
        port=dict(),
        tags=dict(type="list", elements="str"),
        comment=dict(),
    ))

    def addresses(given):
        """Give the addresses as a document has them: by family."""
        result = {}
        for one in given:
            entry = result.setdefault(one["name"], {})
            for ip in one["ip"]:
                family = task.address(ip)
                if family in entry:
                    task.refuse("interface '%s' of node '%s' has two IPv%s addresses, %s and %s: one is all it can have"
                                % (one["name"], task.name, family, entry[family], ip))
                entry[family] = ip
        return result

    def present():
        task.needs("group")
        fields = task.given("group", "localboot", "setupbmc", "service", "tags", "comment")
        for name, value in task.given("mac", "switch", "port").items():
            fields[name] = value or None
        if task.params["interfaces"]:
            fields["interfaces"] = addresses(task.params["interfaces"])
        task.apply(fields)

    task.run(present)


if __name__ == "__main__":
    main()
