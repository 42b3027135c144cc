#!/usr/bin/python
# Copyright: ClusterVision. Apache License 2.0 (see LICENSE at the root of Luna's repository).
"""Keep how management controllers of nodes are set up"""

DOCUMENTATION = r"""
---
module: luna_bmcsetup
short_description: Keep how management controllers of nodes are set up
version_added: "2.0.0"
author: ClusterVision (@clustervision)
description:
  - Adds, changes and deletes a bmcsetup, the user, password and channels that the BMCs of a group get.
extends_documentation_fragment:
  - clustervision.luna.head
  - clustervision.luna.head.state
options:
  name:
    description: Name of the bmcsetup.
    type: str
    required: true
  user:
    description: Name of the user. C(ladmin) for a new bmcsetup.
    type: str
  password:
    description: Password of the user.
    type: str
  userid:
    description: Number of the user, 1 to 63. 3 for a new bmcsetup.
    type: int
  mgmtchannel:
    description: Channel that the user may use. 1 for a new bmcsetup.
    type: int
  netchannel:
    description: Channel of the network interface. 1 for a new bmcsetup.
    type: int
  comment:
    description: A comment. An empty one is none.
    type: str
"""

EXAMPLES = r"""
- name: Set BMCs up
  clustervision.luna.luna_bmcsetup:
    name: base
    user: ladmin
    password: "{{ vault_bmc_password }}"
    userid: 3
"""

RETURN = r"""
msg:
  description: What was done, and what the head had to say; the reason where the task failed.
  returned: always
  type: str
  sample: "bmcsetup base changed"
meta:
  description: Name of the object; the reason where the task failed.
  returned: always
  type: str
  sample: base
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
    task = Task("bmcsetup", dict(
        name=dict(required=True),
        user=dict(),
        password=dict(no_log=True),
        userid=dict(type="int"),
        mgmtchannel=dict(type="int"),
        netchannel=dict(type="int"),
        comment=dict(),
    ))
    task.run(lambda: task.apply(task.given("user", "password", "userid", "mgmtchannel", "netchannel", "comment")))


if __name__ == "__main__":
    main()
