#!/usr/bin/python
# Copyright: ClusterVision. Apache License 2.0 (see LICENSE at the root of Luna's repository).
"""Keep networks"""

DOCUMENTATION = r"""
---
module: luna_network
short_description: Keep networks
version_added: "2.0.0"
author: ClusterVision (@clustervision)
description:
  - Adds, changes and deletes a network. One that moves takes every address in it along.
extends_documentation_fragment:
  - clustervision.luna.head
  - clustervision.luna.head.state
options:
  name:
    description: Name of the network.
    type: str
    required: true
  network:
    description: Any address of the network. A new network needs it.
    type: str
  prefix:
    description: Length of the prefix, 1 to 30, or to 126 for IPv6. A new network needs it.
    type: int
  ns_hostname:
    description: Name of the network's name server. The asked head's own for a new network.
    type: str
  ns_ip:
    description: Address of the name server. The last one for a new network.
    type: str
  include:
    description: Further lines of the forward zone. An empty text is none.
    type: str
  rev_include:
    description: Further lines of the reverse zone. An empty text is none.
    type: str
  comment:
    description: A comment. An empty one is none.
    type: str
"""

EXAMPLES = r"""
- name: Have the network that nodes boot from
  clustervision.luna.luna_network:
    name: cluster
    network: 10.30.0.0
    prefix: 16
    ns_hostname: master
"""

RETURN = r"""
msg:
  description: What was done, and what the head had to say; the reason where the task failed.
  returned: always
  type: str
  sample: "network cluster changed"
meta:
  description: Name of the object; the reason where the task failed.
  returned: always
  type: str
  sample: cluster
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
    task = Task("network", dict(
        name=dict(required=True),
        network=dict(),
        prefix=dict(type="int"),
        ns_hostname=dict(),
        ns_ip=dict(),
        include=dict(),
        rev_include=dict(),
        comment=dict(),
    ))

    def present():
        fields = task.given("ns_hostname", "ns_ip", "include", "rev_include", "comment")
        place = task.given("network", "prefix")
        now = task.needs("network", "prefix")
        if place:
            base = place.get("network", (now or {}).get("NETWORK"))
            length, longest = place.get("prefix", (now or {}).get("PREFIX")), 30 if task.address(base) == "4" else 126
            if not 1 <= length <= longest:
                task.refuse("Prefix should be in the range [1..%d]" % longest)
            fields["network"] = "%s/%d" % (base, length)
        if fields.get("ns_ip") is not None:
            task.address(fields["ns_ip"])
        if now is None:
            new = dict(name=task.name, prefix=fields["network"], **task.given("ns_hostname", "ns_ip"))
            fields = dict(task.born("/v1/networks", new), **fields)
        task.apply(fields)

    task.run(present)


if __name__ == "__main__":
    main()
