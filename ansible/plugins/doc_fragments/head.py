# Copyright: ClusterVision. Apache License 2.0 (see LICENSE at the root of Luna's repository).
"""The options by which everything finds a head."""


class ModuleDocFragment:
    """The options by which everything finds a head."""

    DOCUMENTATION = r"""
options:
  server:
    description:
      - The heads to ask, each as C(unix:///PATH) or C(https://HOST[:7051]). Where one does not answer, the next is asked.
      - Without it, and without the environment variable C(LUNA_SERVER), the head on the machine that the task runs on is asked.
    type: list
    elements: str
  credential:
    description:
      - File with an admin credential, for https. C(luna cluster credential) makes one.
      - Without it, and without the environment variable C(LUNA_CREDENTIAL), all of C(~/.luna/*.pem) and C(/etc/luna/admin.pem).
    type: path
  timeout:
    description: How long to wait for each answer, in seconds.
    type: int
    default: 30
"""

    STATE = r"""
options:
  state:
    description:
      - C(present) makes the object be as the other parameters say. What is left out stays as it is, or gets its default
        where the object is new.
      - C(absent) deletes it. What others use is not deleted; they are listed.
    type: str
    choices: [absent, present]
    default: present
attributes:
  check_mode:
    description: Tells what would change and changes nothing.
    support: full
  diff_mode:
    description: Shows objects before and after, as the head tells them.
    support: full
"""
