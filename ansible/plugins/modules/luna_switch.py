#!/usr/bin/python
# Copyright: ClusterVision. Apache License 2.0 (see LICENSE at the root of Luna's repository).
"""Keep switches, by which nodes are found"""

DOCUMENTATION = r"""
---
module: luna_switch
short_description: Keep switches, by which nodes are found
version_added: "2.0.0"
author: ClusterVision (@clustervision)
description:
  - Adds, changes and deletes a switch. Luna reads its table of ports and MAC addresses by SNMP.
extends_documentation_fragment:
  - clustervision.luna.head
  - clustervision.luna.head.state
options:
  name:
    description: Name of the switch.
    type: str
    required: true
  network:
    description: The network that the switch is in. A new switch needs it.
    type: str
  ip:
    description: Its address. A new switch needs it.
    type: str
  read:
    description: SNMP community to read with. C(public) for a new switch.
    type: str
  rw:
    description: SNMP community to write with. C(private) for a new switch.
    type: str
  oid:
    description: OID of the bridge's table. C(.1.3.6.1.2.1.17.7.1.2.2.1.2) for a new switch.
    type: str
  comment:
    description: A comment. An empty one is none.
    type: str
"""

EXAMPLES = r"""
- name: Name a switch
  clustervision.luna.luna_switch:
    name: switch01
    network: ipmi
    ip: 10.31.253.21
"""

RETURN = r"""
msg:
  description: What was done, and what the head had to say; the reason where the task failed.
  returned: always
  type: str
  sample: "switch switch01 changed"
meta:
  description: Name of the object; the reason where the task failed.
  returned: always
  type: str
  sample: switch01
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
    task = Task("switch", dict(
        name=dict(required=True),
        network=dict(),
        ip=dict(),
        read=dict(),
        rw=dict(),
        oid=dict(),
        comment=dict(),
    ))

    def present():
        task.needs("network", "ip")
        if task.params["ip"] is not None:
            task.address(task.params["ip"])
        task.apply(task.given("network", "ip", "read", "rw", "oid", "comment"))

    task.run(present)


if __name__ == "__main__":
    main()
