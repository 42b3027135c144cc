# Copyright: ClusterVision. Apache License 2.0 (see LICENSE at the root of Luna's repository).
"""How every module makes an object present or absent.

What a playbook says of an object becomes a document of that one object, in the form of `luna
export`, and a head makes it true: it validates, finds the difference, and tells it. So a module
knows names of parameters and little else, and check mode and diff are the head's dry run.
"""

import ipaddress
import re

from ansible.module_utils.basic import AnsibleModule, env_fallback

from ansible_collections.clustervision.luna.plugins.module_utils.head import Mesh, Refused, url

# In the order and with the spelling of the API's paths and the document's sections.
PLURALS = {
    "network": "networks", "osimage": "osimages", "bmcsetup": "bmcsetups", "group": "groups",
    "switch": "switches", "otherdev": "otherdevs", "node": "nodes",
}

NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")


def head_options():
    """Give the options by which a module finds a head (doc fragment clustervision.luna.head)."""
    return dict(
        server=dict(type="list", elements="str", fallback=(env_fallback, ["LUNA_SERVER"])),
        credential=dict(type="path", fallback=(env_fallback, ["LUNA_CREDENTIAL"])),
        timeout=dict(type="int", default=30),
    )


class Task:
    """A run of a module about one object.

    noun is the type of the object, options the module's own ones; rules are AnsibleModule's.
    """

    def __init__(self, noun, options, **rules):
        spec = dict(state=dict(choices=["absent", "present"], default="present"))
        spec.update(head_options())
        spec.update(options)
        self.module = AnsibleModule(argument_spec=spec, supports_check_mode=True, **rules)
        self.params = self.module.params
        self.check = self.module.check_mode
        self.noun = noun
        self.name = self.params.get("name") or "general"
        self.changed = False
        self.diffs = []
        self.said = []
        self.mesh = None

    def run(self, present, absent=None):
        """Do what the state asks for, by the function for it, and end the module."""
        try:
            self.mesh = Mesh(self.params["server"], self.params["credential"], self.params["timeout"], self.module.warn)
            if "name" in self.params and not NAME.match(self.name):
                self.refuse("'%s' cannot name a %s: use up to 63 letters, digits, '.', '_' and '-', and begin with a letter or "
                            "digit" % (self.name, self.noun))
            if self.params["state"] == "present":
                present()
            else:
                (absent or self.delete)()
            self.module.exit_json(**self.result())
        except Refused as e:
            self.fail(e)

    def result(self):
        """Give what the module returns."""
        about = self.noun if self.noun == "cluster" else "%s %s" % (self.noun, self.name)
        verb = "would be changed" if self.check else "changed"
        said = self.said or ["%s %s" % (about, verb if self.changed else "is as it should be")]
        r = dict(changed=self.changed, msg="\n".join(said), meta=self.name)
        if self.diffs and self.module._diff:
            r["diff"] = self.diffs
        if self.params["state"] == "present" and not self.check:
            try:
                r["object"] = self.get()
            except Refused as e:  # what was to be done is done
                self.module.warn("the object cannot be shown: %s" % e)
        return r

    def fail(self, e):
        """End the module with a refusal."""
        reason = str(e).replace("the document cannot be read: ", "", 1)  # the user wrote none
        self.module.fail_json(msg=reason, meta=reason, changed=self.changed, kind=e.kind, users=e.users)

    def refuse(self, text):
        """Refuse what is wrong with the parameters."""
        raise Refused("invalid", text, self.noun, self.name)

    def given(self, *names):
        """Give the parameters of these names that the playbook gives."""
        return {n: self.params[n] for n in names if self.params[n] is not None}

    def get(self):
        """Give the object as the API shows it; None where there is none."""
        path = "/v1/cluster" if self.noun == "cluster" else url("/v1/" + PLURALS[self.noun] + "/%s", self.name)
        try:
            return self.mesh.get(path)
        except Refused as e:
            if e.kind == "not-found":
                return None
            raise

    def needs(self, *names):
        """Refuse a new object for which one of these is not given; give the object as it is."""
        now = self.get()
        missing = [n for n in names if not self.params[n]]
        if now is None and missing:
            self.refuse("%s '%s' is new: give its %s" % (self.noun, self.name, " and ".join(missing)))
        return now

    def address(self, text):
        """Give the family of an IP address, "4" or "6"."""
        try:
            return str(ipaddress.ip_address(text).version)
        except ValueError:
            self.refuse("'%s' is no IP address" % text)

    def apply(self, fields):
        """Make the object be as the fields say, those of its entry in a document."""
        self.write("POST", "/v1/document", {"luna": 1, PLURALS[self.noun]: {self.name: fields}})

    def delete(self):
        """Delete the object, if it is there."""
        try:
            self.write("DELETE", url("/v1/" + PLURALS[self.noun] + "/%s", self.name))
        except Refused as e:
            if e.kind != "not-found" or e.object_type not in ("", self.noun):
                raise
            self.said.append("there is no %s %s" % (self.noun, self.name))

    def write(self, method, path, body=None):
        """Make a change, or tell what it would do; whether it did anything is the head's to say."""
        if self.check or self.module._diff:
            changes = self.mesh.preview(method, path, body).get("changes") or []
            self.diffs += [diff_of(c) for c in changes]
            if self.check:
                self.changed = self.changed or bool(changes)
                return
        written = self.mesh.change(method, path, body)
        self.changed = self.changed or written["entry"] != 0
        if written.get("notice"):
            self.said.append(written["notice"])

    def born(self, path, fields):
        """Give how a new object would be: with all that the asked head finds out or sets by default.

        Nothing is made. What the head refuses, such as a tree without a kernel, is refused here.
        """
        for c in self.mesh.preview("POST", path, fields).get("changes") or []:
            if c["object"] == self.noun and c["name"] == self.name:
                return c["after"]
        return {}


def diff_of(change):
    """Give a change of the API as Ansible shows differences."""
    title = "%s/%s" % (change["object"], change["name"])
    before, after = change["before"], change["after"]
    if isinstance(before, dict) and isinstance(after, dict):  # what stays the same is left out
        same = [k for k in before if k in after and before[k] == after[k]]
        before = {k: v for k, v in before.items() if k not in same}
        after = {k: v for k, v in after.items() if k not in same}
    return dict(
        before="" if before is None else before, after="" if after is None else after,
        before_header="%s/%s" % (change["object"], change.get("was") or change["name"]), after_header=title,
    )
