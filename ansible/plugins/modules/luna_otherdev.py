#!/usr/bin/python
# Copyright: ClusterVision. Apache License 2.0 (see LICENSE at the root of Luna's repository).
"""Keep other devices that have addresses"""

DOCUMENTATION = r"""
---
module: luna_otherdev
short_description: Keep other devices that have addresses
version_added: "2.0.0"
author: ClusterVision (@clustervision)
description:
  - Adds, changes and deletes what is no node and no switch and has addresses, such as a PDU, a file server.
extends_documentation_fragment:
  - clustervision.luna.head
  - clustervision.luna.head.state
options:
  name:
    description: Name of the device.
    type: str
    required: true
  connected:
    description:
      - The networks that the device is in, with its address in each. Given, they are all that it has.
      - A new device needs one at least.
    type: list
    elements: dict
    suboptions:
      network:
        description: Name of the network.
        type: str
        required: true
      ip:
        description: The device's address in it.
        type: str
        required: true
  comment:
    description: A comment. An empty one is none.
    type: str
"""

EXAMPLES = r"""
- name: Name a PDU that is in two networks
  clustervision.luna.luna_otherdev:
    name: pdu01
    connected:
      - {network: cluster, ip: 10.30.1.1}
      - {network: ipmi, ip: 10.31.1.1}
"""

RETURN = r"""
msg:
  description: What was done, and what the head had to say; the reason where the task failed.
  returned: always
  type: str
  sample: "otherdev pdu01 changed"
meta:
  description: Name of the object; the reason where the task failed.
  returned: always
  type: str
  sample: pdu01
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
    task = Task("otherdev", dict(
        name=dict(required=True),
        connected=dict(type="list", elements="dict", options=dict(
            network=dict(required=True),
            ip=dict(required=True),
        )),
        comment=dict(),
    ))

    def present():
        fields = task.given("comment")
        connected = task.params["connected"]
        if connected is not None:
            for c in connected:
                task.address(c["ip"])
            fields["connected"] = {c["network"]: c["ip"] for c in connected}
            if len(fields["connected"]) < len(connected):
                task.refuse("otherdev '%s' has two addresses in one network: give each network once" % task.name)
        if not connected and (connected is not None or task.get() is None):
            task.refuse("otherdev '%s' must be connected: give a network and its ip" % task.name)
        task.apply(fields)

    task.run(present)


if __name__ == "__main__":
    main()
