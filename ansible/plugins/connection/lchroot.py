# Copyright: ClusterVision. Apache License 2.0 (see LICENSE at the root of Luna's repository).
"""Work in the tree of an osimage, by the program lchroot."""

DOCUMENTATION = r"""
---
name: lchroot
short_description: Work in the tree of an osimage
version_added: "2.0.0"
author: ClusterVision (@clustervision)
description:
  - Runs tasks in the tree of an osimage, by the program C(lchroot). The address of the host is the osimage's name.
  - It works on the head that has the tree, as root; play it there, or on that machine.
  - Each command enters the tree by itself, and locks it as C(lchroot) does. What it leaves running ends with it, so
    tasks cannot go on in the background (C(async)), and services are not started.
  - Most images have no ssh to be asked for; what is not in the tree cannot be used. Most modules need Python there.
options:
  osimage:
    description: Name of the osimage.
    type: str
    default: inventory_hostname
    vars:
      - name: inventory_hostname
      - name: ansible_host
      - name: lchroot_osimage
  executable:
    description: The program lchroot.
    type: str
    default: lchroot
    env:
      - name: LUNA_LCHROOT
    vars:
      - name: lchroot_executable
  pipelining:
    description: Send modules through the pipe to Python, and leave no files in the tree. Each command saved is one time less to enter it.
    type: bool
    default: true
    vars:
      - name: ansible_lchroot_pipelining
  server:
    description:
      - The head that tells where the tree lies, on whose machine this runs, as C(unix:///PATH).
      - Without it, what C(lchroot) takes by itself, which is the environment variable C(LUNA_SERVER) or the head on this machine.
    type: str
    vars:
      - name: lchroot_server
"""

import os
import shutil
import subprocess
import uuid

from ansible.errors import AnsibleConnectionFailure, AnsibleError, AnsibleFileNotFound
from ansible.module_utils.common.text.converters import to_bytes, to_text
from ansible.plugins.connection import ConnectionBase
from ansible.utils.display import Display

display = Display()

# The shell in the tree says first that it is there: all that is not behind this is lchroot's own.
ENTER = 'echo %s; exec /bin/sh -c "$1"'


class Connection(ConnectionBase):
    """Each call of lchroot is one command in the tree."""

    transport = "clustervision.luna.lchroot"
    has_pipelining = True

    def _connect(self):
        """Make sure that lchroot can be called; there is no connection to keep."""
        if not self._connected:
            if os.geteuid() != 0:
                raise AnsibleConnectionFailure("only root can enter the tree of an osimage: run ansible as root on the head that has it")
            self.program = shutil.which(self.get_option("executable"))
            if not self.program:
                raise AnsibleConnectionFailure("there is no program %s: run ansible on a head" % self.get_option("executable"))
            display.vvv("ESTABLISH LCHROOT CONNECTION", host=self._image())
            self._connected = True
        return self

    def _image(self):
        """Give the osimage's name. One host of an inventory by 1.2 is IMAGE.osimages.luna, at the address IMAGE."""
        return self.get_option("osimage")

    def exec_command(self, cmd, in_data=None, sudoable=True):
        """Run a command in the tree; give its status, output and errors."""
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        display.vvv("EXEC %s" % to_text(cmd), host=self._image())
        with self._start(cmd, stdin=subprocess.PIPE) as process:
            out, err = process.communicate(in_data)
        entered, out = self._behind_marker(out)
        if not entered:
            raise self._failure(process.returncode, err)
        return process.returncode, out, err

    def put_file(self, in_path, out_path):
        """Copy a file of this machine into the tree."""
        super().put_file(in_path, out_path)
        display.vvv("PUT %s TO %s" % (in_path, out_path), host=self._image())
        if not os.path.exists(to_bytes(in_path)):
            raise AnsibleFileNotFound("there is no file %s on this machine" % in_path)
        with open(to_bytes(in_path), "rb") as f, self._start("cat > " + self._shell.quote(out_path), stdin=f) as process:
            out, err = process.communicate()
        entered, unused = self._behind_marker(out)
        self._check(entered, process.returncode, err, "write %s" % out_path)

    def fetch_file(self, in_path, out_path):
        """Copy a file of the tree to this machine."""
        super().fetch_file(in_path, out_path)
        display.vvv("FETCH %s TO %s" % (in_path, out_path), host=self._image())
        read = "test -r %s && echo yes && exec cat < %s" % ((self._shell.quote(in_path),) * 2)
        with self._start(read, stdin=subprocess.DEVNULL) as process:
            entered = self._skip_to_marker(process.stdout)
            if entered and process.stdout.readline() == b"yes\n":
                with open(to_bytes(out_path), "wb") as f:
                    shutil.copyfileobj(process.stdout, f)
            unused, err = process.communicate()
        self._check(entered, process.returncode, err, "read %s" % in_path)

    def close(self):
        """Forget the connection."""
        self._connected = False

    def _start(self, cmd, stdin):
        """Start a command in the tree, behind a line that says so."""
        self._connect()
        self.marker = "luna-%s" % uuid.uuid4().hex
        argv = [self.program]
        if self.get_option("server"):
            argv += ["--server", self.get_option("server")]
        argv += [self._image(), "/bin/sh", "-c", ENTER % self.marker, "sh", to_text(cmd)]
        try:
            return subprocess.Popen([to_bytes(a) for a in argv], stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        except OSError as e:
            raise AnsibleConnectionFailure("cannot run %s: %s" % (self.program, e))

    def _behind_marker(self, out):
        """Give what the command printed, without what lchroot did, and whether there was a command."""
        before, marker, behind = out.partition(to_bytes(self.marker) + b"\n")
        return bool(marker), behind

    def _skip_to_marker(self, stream):
        """Read to the marker, and tell whether it was there."""
        wanted = to_bytes(self.marker) + b"\n"
        for line in stream:
            if line == wanted:
                return True
        return False

    def _check(self, entered, code, err, what):
        if not entered:
            raise self._failure(code, err)
        if code != 0:
            raise AnsibleError("cannot %s in osimage '%s': %s" % (what, self._image(), to_text(err).strip() or "exit status %d" % code))

    def _failure(self, code, err):
        """Give the exception of an lchroot that did not come to the command. Its words tell why."""
        words = [line.split(":", 2)[-1] for line in to_text(err).splitlines() if line]
        return AnsibleConnectionFailure("cannot enter osimage '%s': %s" % (self._image(), " ".join(words) or "lchroot ended with %d" % code))
