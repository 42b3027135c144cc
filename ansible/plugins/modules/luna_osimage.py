#!/usr/bin/python
# Copyright: ClusterVision. Apache License 2.0 (see LICENSE at the root of Luna's repository).
"""Keep operating systems that nodes boot, and pack them"""

DOCUMENTATION = r"""
---
module: luna_osimage
short_description: Keep operating systems that nodes boot, and pack them
version_added: "2.0.0"
author: ClusterVision (@clustervision)
description:
  - Adds, changes, packs and deletes an osimage. Its tree must lie on the head that is asked, and is never deleted.
extends_documentation_fragment:
  - clustervision.luna.head
  - clustervision.luna.head.state
options:
  name:
    description: Name of the osimage.
    type: str
    required: true
  path:
    description: Where the tree lies on the asked head. A new osimage needs it.
    type: str
  kernver:
    description: Version of the kernel to boot. The newest in the tree for a new osimage. Empty as if left out.
    type: str
  kernopts:
    description: Kernel options. An empty text is none.
    type: str
  dracutmodules:
    description: Dracut modules of the initrd, comma separated; C(-x) leaves C(x) out. Empty as if left out.
    type: str
  kernmodules:
    description: Kernel modules of the initrd, comma separated; C(-x) leaves C(x) out. Empty as if left out.
    type: str
  grab_exclude_list:
    description: What C(luna osimage grab) leaves out. Empty as if left out.
    type: str
  grab_filesystems:
    description: What C(luna osimage grab) takes, comma separated. Empty as if left out.
    type: str
  pack:
    description:
      - Pack the tree, on the asked head. The task has changed something where that made a version that there was not before.
      - What packing would make cannot be known before. In check mode the task would change something if the osimage was never packed.
    type: bool
    default: false
  copy_boot:
    description: Pack the initrd that lies in the tree instead of building one.
    type: bool
    default: false
  comment:
    description: A comment. An empty one is none.
    type: str
"""

EXAMPLES = r"""
- name: Have an osimage, packed
  clustervision.luna.luna_osimage:
    name: compute
    path: /opt/luna/os/compute
    kernopts: console=ttyS0,115200
    pack: true
"""

RETURN = r"""
msg:
  description: What was done, and what the head had to say; the reason where the task failed.
  returned: always
  type: str
  sample: "osimage compute changed"
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

from ansible_collections.clustervision.luna.plugins.module_utils.head import url
from ansible_collections.clustervision.luna.plugins.module_utils.task import Task


def main():
    """Run the module."""
    task = Task("osimage", dict(
        name=dict(required=True),
        path=dict(),
        kernver=dict(),
        kernopts=dict(),
        dracutmodules=dict(),
        kernmodules=dict(),
        grab_exclude_list=dict(),
        grab_filesystems=dict(),
        pack=dict(type="bool", default=False),
        copy_boot=dict(type="bool", default=False),
        comment=dict(),
    ))

    def pack():
        before = task.get()
        if task.check:
            if not (before and before["versions"]):
                task.changed = True
            task.said.append("osimage %s would be packed" % task.name)
            return
        for event in task.mesh.job(url("/v1/osimages/%s/pack", task.name), dict(copy_boot=task.params["copy_boot"])):
            if event.get("message"):
                task.said.append(event["message"])
            made = event.get("version")
        if made not in [v["id"] for v in before["versions"]]:
            task.changed = True
        task.said.append("osimage %s is packed: version %s" % (task.name, made))

    def present():
        fields = task.given("kernopts", "comment")
        for name in ("path", "kernver", "dracutmodules", "kernmodules", "grab_exclude_list", "grab_filesystems"):
            if task.params[name]:
                fields[name] = task.params[name]
        if task.needs("path") is None:
            new = dict(name=task.name, path=fields["path"], kernver=fields.pop("kernver", ""))
            fields = dict(task.born("/v1/osimages", new), **fields)
        task.apply(fields)
        if task.params["pack"]:
            pack()

    task.run(present)


if __name__ == "__main__":
    main()
