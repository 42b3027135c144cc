#!/usr/bin/python
# Copyright: ClusterVision. Apache License 2.0 (see LICENSE at the root of Luna's repository).
"""Keep groups of nodes"""

DOCUMENTATION = r"""
---
module: luna_group
short_description: Keep groups of nodes
version_added: "2.0.0"
author: ClusterVision (@clustervision)
description:
  - Adds, changes and deletes a group, what its nodes boot, their interfaces and the scripts that install them.
extends_documentation_fragment:
  - clustervision.luna.head
  - clustervision.luna.head.state
options:
  name:
    description: Name of the group.
    type: str
    required: true
  osimage:
    description: The osimage that its nodes boot. A new group needs it.
    type: str
  bmcsetup:
    description: The bmcsetup of its nodes. Empty for none.
    type: str
  domain:
    description: The network by whose name the host names of its nodes end. Empty for none.
    type: str
  interfaces:
    description:
      - Its interfaces. Given, they are all that it has; left out, they stay as they are.
      - C(BOOTIF) is the interface that a node boots from, C(BMC) its management controller. A node gets an address for each network.
    type: list
    elements: dict
    suboptions:
      name:
        description: Name of the interface.
        type: str
        required: true
      networks:
        description: Its networks, one of IPv4 and one of IPv6 at most. Left out, an interface that is there keeps its own.
        type: list
        elements: str
      params:
        description: Further lines for the interface's configuration. Left out, an interface that is there keeps its own.
        type: str
  torrent_if:
    description: Kept for playbooks of Luna 1.2; nothing obeys it. Empty for none.
    type: str
  prescript:
    description: Script that runs before the disks are made. An empty text is an empty script.
    type: str
  partscript:
    description: Script that makes and mounts the disks at C(/sysroot). A tmpfs for a new group.
    type: str
  postscript:
    description: Script that runs when the image is there.
    type: str
  comment:
    description: A comment. An empty one is none.
    type: str
"""

EXAMPLES = r"""
- name: Have a group
  clustervision.luna.luna_group:
    name: compute
    osimage: compute
    bmcsetup: base
    domain: cluster
    interfaces:
      - name: BOOTIF
        networks: [cluster]
      - name: BMC
        networks: [ipmi]
"""

RETURN = r"""
msg:
  description: What was done, and what the head had to say; the reason where the task failed.
  returned: always
  type: str
  sample: "group compute changed"
meta:
  description: Name of the object; the reason where the task failed.
  returned: always
  type: str
  sample: compute
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
    task = Task("group", dict(
        name=dict(required=True),
        osimage=dict(),
        bmcsetup=dict(),
        domain=dict(),
        interfaces=dict(type="list", elements="dict", options=dict(
            name=dict(required=True),
            networks=dict(type="list", elements="str"),
            params=dict(),
        )),
        torrent_if=dict(),
        prescript=dict(),
        partscript=dict(),
        postscript=dict(),
        comment=dict(),
    ))

    def interfaces(given):
        """Give the interfaces as a document has them: with a network for each family."""
        families = {n["name"]: str(n["version"]) for n in task.mesh.get("/v1/networks")}
        have = (task.get() or {}).get("interfaces") or {}
        result = {}
        for one in given:
            name, entry = one["name"], {}
            if name in result:
                task.refuse("interface '%s' of group '%s' is there twice" % (name, task.name))
            for network in one["networks"] or []:
                if network not in families:
                    task.refuse("Object '%s' of type 'network' does not exist: interface '%s' of group '%s' is to have it" % (network, name, task.name))
                family = families[network]
                if family in entry:
                    task.refuse("interface '%s' of group '%s' has two IPv%s networks, '%s' and '%s': one is all it can have"
                                % (name, task.name, family, entry[family], network))
                entry[family] = network
            if one["networks"] is None:
                entry = {f: have[name][f] for f in ("4", "6") if have.get(name, {}).get(f)}
            params = have.get(name, {}).get("params") if one["params"] is None else one["params"]
            if params:
                entry["params"] = params
            result[name] = entry
        return result

    def present():
        task.needs("osimage")
        fields = task.given("osimage", "prescript", "partscript", "postscript", "comment")
        for name, value in task.given("bmcsetup", "domain", "torrent_if").items():
            fields[name] = value or None
        if task.params["interfaces"] is not None:
            fields["interfaces"] = interfaces(task.params["interfaces"])
        task.apply(fields)

    task.run(present)


if __name__ == "__main__":
    main()
