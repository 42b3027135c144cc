# Copyright: ClusterVision. Apache License 2.0 (see LICENSE at the root of Luna's repository).
"""The nodes and osimages of a Luna cluster as an inventory."""

DOCUMENTATION = r"""
---
name: luna
short_description: Nodes and osimages of a Luna cluster
version_added: "2.0.0"
author: ClusterVision (@clustervision)
description:
  - Nodes are in the group C(groups.luna), and in C(GROUP.groups.luna) by their group. Each has its C(bmc_ip), or C(false).
  - Osimages are in the group C(osimages.luna), as C(IMAGE.osimages.luna), to be entered by the connection plugin C(clustervision.luna.lchroot).
  - Groups and their names are those of Luna 1.2. Ansible calls the dots in them invalid characters, and takes them; the setting
    C(force_valid_group_names = ignore) of ansible.cfg silences the warning.
  - The source is a file that ends in C(luna.yml) or C(luna.yaml).
extends_documentation_fragment:
  - constructed
options:
  plugin:
    description: Marks the file as one for this plugin.
    type: str
    required: true
    choices: [clustervision.luna.luna]
  server:
    description:
      - The heads to ask, each as C(unix:///PATH) or C(https://HOST[:7051]). Where one does not answer, the next is asked.
      - Without it, the head on this machine.
    type: list
    elements: str
    env:
      - name: LUNA_SERVER
  credential:
    description:
      - File with an admin credential, for https. C(luna cluster credential) makes one.
      - Without it, all of C(~/.luna/*.pem) and C(/etc/luna/admin.pem).
    type: path
    env:
      - name: LUNA_CREDENTIAL
  timeout:
    description: How long to wait for each answer, in seconds.
    type: int
    default: 30
  addresses:
    description:
      - Set C(ansible_host) of each node to its own address on the interface that it boots from, C(BOOTIF), so that no name server is needed.
      - IPv4 where it has one.
    type: bool
    default: true
  tags:
    description: Make a group C(TAG.tags.luna) of the nodes that have a tag.
    type: bool
    default: true
"""

EXAMPLES = r"""
# site.luna.yml, on a head
plugin: clustervision.luna.luna

# Elsewhere; and nodes whose status is known in groups by it
---
plugin: clustervision.luna.luna
server: [https://10.30.255.254, https://10.30.255.253, https://10.30.255.252]
credential: ~/.luna/site.pem
keyed_groups:
  - prefix: status
    key: luna.status.stage
"""

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Constructable
from ansible.utils.display import Display

from ansible_collections.clustervision.luna.plugins.module_utils.head import Mesh, Refused

try:
    from ansible.template import trust_as_template

    def untrusted(text):
        """Give a text that is no template: which it is not, from ansible-core 2.19 on."""
        return text
except ImportError:
    from ansible.utils.unsafe_proxy import wrap_var as untrusted

    def trust_as_template(text):
        """Give a text that may be a template: which all are, before ansible-core 2.19."""
        return text

IMAGES = "osimages.luna"
GROUPS = "groups.luna"
TAGS = "tags.luna"


class InventoryModule(BaseInventoryPlugin, Constructable):
    """Reads nodes, groups and osimages from a head."""

    NAME = "clustervision.luna.luna"

    def verify_file(self, path):
        """Tell whether the file may be one for this plugin."""
        return super().verify_file(path) and path.endswith(("luna.yml", "luna.yaml"))

    def parse(self, inventory, loader, path, cache=True):
        """Fill the inventory."""
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        try:
            mesh = Mesh(self.get_option("server"), self.get_option("credential"), self.get_option("timeout"), Display().warning)
            groups, nodes, images = (as_data(mesh.get("/v1/" + what)) for what in ("groups", "nodes", "osimages"))
        except Refused as e:
            raise AnsibleParserError("luna: %s" % e)
        self._add_nodes([g["name"] for g in groups], nodes)
        self.inventory.add_group(IMAGES)
        self.inventory.set_variable(IMAGES, "ansible_connection", trust_as_template("clustervision.luna.lchroot"))
        for image in images:
            host = image["name"] + "." + IMAGES
            self.inventory.add_host(host, IMAGES)
            self.inventory.set_variable(host, "ansible_host", image["name"])

    def _add_nodes(self, groups, nodes):
        self.inventory.add_group(GROUPS)
        for group in sorted(set(groups) | {n["group"] for n in nodes}):
            self.inventory.add_group(group + "." + GROUPS)
            self.inventory.add_child(GROUPS, group + "." + GROUPS)
        for node in nodes:
            name, interfaces = node["name"], node["interfaces"]
            self.inventory.add_host(name, GROUPS)
            self.inventory.add_child(node["group"] + "." + GROUPS, name)
            own = interfaces.get("BOOTIF") or {}
            address = own.get("4") or own.get("6")
            if address and self.get_option("addresses"):
                self.inventory.set_variable(name, "ansible_host", address)
            self.inventory.set_variable(name, "bmc_ip", (interfaces.get("BMC") or {}).get("4") or False)
            self.inventory.set_variable(name, "luna", node)
            for tag in node["tags"] if self.get_option("tags") else []:
                self.inventory.add_group(tag + "." + TAGS)
                self.inventory.add_child(tag + "." + TAGS, name)
            self._construct(name)

    def _construct(self, host):
        strict = self.get_option("strict")
        variables = self.inventory.get_host(host).get_vars()
        self._set_composite_vars(self.get_option("compose"), variables, host, strict=strict)
        self._add_host_to_composed_groups(self.get_option("groups"), variables, host, strict=strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, host, strict=strict)


def as_data(value):
    """Give what a head says as Ansible is to take it: as it is, never as a template.

    From ansible-core 2.19 on, text is no template unless it is trusted. But ansible-inventory --list
    shows what is not as {"__ansible_unsafe": TEXT}, which its readers do not expect. So what cannot be
    a template is trusted.
    """
    if isinstance(value, dict):
        return {k: as_data(v) for k, v in value.items()}
    if isinstance(value, list):
        return [as_data(v) for v in value]
    if isinstance(value, str):
        return untrusted(value) if "{" in value or value.startswith("#") else trust_as_template(value)
    return value
