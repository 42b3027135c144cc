# Copyright: ClusterVision. Apache License 2.0 (see LICENSE at the root of Luna's repository).
"""What all of the collection says to a head: its HTTP API, over its socket or TLS.

Any head takes any request, so a list of heads is one head that is harder to lose: where one
does not answer, the next is asked. A change is sent to a second head only where it is certain
that the first never had it.
"""

import errno
import glob
import http.client
import json
import os
import re
import socket
import ssl
import tempfile
import time
from urllib.parse import quote, urlsplit

SOCKET = "unix:///run/luna/luna.sock"
PORT = 7051
# How long a head may take to be there, in seconds: one that is off must not hold up every task.
CONNECT_TIME = 3
# Silence on a connection that waits for a long job after which the peer is asked if it lives.
KEEPALIVE = 15


class Refused(Exception):
    """A head's answer that is a refusal, or its absence, in an administrator's words.

    kind is the API's word for its class (Refusal in the API's description): not-found, exists,
    invalid, in-use, refused, denied, unavailable, unknown, internal.
    """

    def __init__(self, kind, message, object_type="", name="", users=()):
        super().__init__(" ".join([message] + list(users)))
        self.kind = kind
        self.object_type = object_type
        self.name = name
        self.users = list(users)


class _NotReached(Exception):
    """The request did not get to the head."""


class _NoAnswer(Exception):
    """The request may have got to the head."""


class _SocketConnection(http.client.HTTPConnection):
    """HTTP over a head's own socket."""

    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class _Head:
    """One head, by its address; contexts gives the TLS contexts to try, one for each credential."""

    def __init__(self, address, contexts):
        self.address = address
        self.contexts = contexts
        url = urlsplit(address)
        self.socket = url.path if url.scheme == "unix" else ""
        try:
            self.host, self.port = url.hostname, url.port or PORT
        except ValueError:
            self.host = None
        if not (url.scheme == "unix" and self.socket and not url.netloc
                or url.scheme == "https" and self.host and not url.path.strip("/")):
            raise Refused("invalid", "'%s' is no address of a head: give unix:///PATH or https://HOST[:%d]" % (address, PORT))

    def send(self, method, path, body, timeout):
        """Send a request and give the answer, an HTTPResponse, with its connection."""
        connection = self._connect()
        try:
            connection.sock.settimeout(timeout)
            headers = {} if body is None else {"Content-Type": "application/json"}
            connection.request(method, path, body, headers)
            return connection.getresponse(), connection
        except ssl.SSLError as e:  # of TLS 1.3 the client hears only now that its certificate was refused
            connection.close()
            if "alert" not in str(e).lower():
                raise _NoAnswer("%s: %s" % (self.address, e))
            raise Refused("denied", "%s refuses the credential (%s): make one with `luna cluster credential` on a head "
                          "of its cluster, as root" % (self.address, e.reason))
        except socket.timeout:
            connection.close()
            raise _NoAnswer("%s: no answer within %s s" % (self.address, timeout))
        except (OSError, http.client.HTTPException) as e:
            connection.close()
            raise _NoAnswer("%s: the connection broke off: %s" % (self.address, e or type(e).__name__))

    def _connect(self):
        if self.socket:
            connection = _SocketConnection(self.socket, CONNECT_TIME)
            try:
                connection.connect()
            except OSError as e:
                raise _NotReached(self._socket_error(e))
            return connection
        untrusted = None
        for context in self.contexts():
            connection = http.client.HTTPSConnection(self.host, self.port, timeout=CONNECT_TIME, context=context)
            try:
                connection.connect()
                keep_alive(connection.sock)
                return connection
            except (OSError, ssl.CertificateError) as e:
                if not (isinstance(e, ssl.CertificateError) or getattr(e, "reason", "") == "CERTIFICATE_VERIFY_FAILED"):
                    late = isinstance(e, socket.timeout)
                    raise _NotReached("%s: %s" % (self.address, "no answer within %d s" % CONNECT_TIME if late else e.strerror or e))
                untrusted = e  # a credential of another cluster, or an address that is not in the certificate
        raise Refused("denied", "the certificate of %s is of no cluster that the credentials are for, or has another name "
                      "or address (%s)" % (self.address, getattr(untrusted, "verify_message", untrusted)))

    def _socket_error(self, e):
        if e.errno == errno.EACCES:
            return "the socket %s is for root alone: use become, or server: https://HEAD with an admin credential" % self.socket
        if e.errno in (errno.ENOENT, errno.ECONNREFUSED):
            return "nobody listens on %s: is the agent running? try `systemctl status luna`" % self.socket
        return "%s: %s" % (self.address, e.strerror or e)


def keep_alive(sock):
    """Notice within a minute or so that the other side has lost its power."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", KEEPALIVE), ("TCP_KEEPINTVL", KEEPALIVE), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


def context_of(credential):
    """Give the TLS context of an admin credential: a PEM file of CA, certificate and key."""
    with open(credential) as f:
        pem = f.read()
    certificates = CERTIFICATE.findall(pem)
    key = CERTIFICATE.sub("", pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata="\n".join(certificates))
    # Of what was loaded this tells the authorities; who shows himself with one is the rest.
    authorities = {ssl.DER_cert_to_PEM_cert(der).strip() for der in context.get_ca_certs(binary_form=True)}
    own = [c for c in certificates if ssl.DER_cert_to_PEM_cert(ssl.PEM_cert_to_DER_cert(c)).strip() not in authorities]
    if not authorities or not own:
        raise ValueError("it is not what `luna cluster credential` prints: CA, certificate and key")
    with tempfile.NamedTemporaryFile("w", prefix="luna-") as f:  # mode 0600; ssl reads files alone
        f.write("\n".join(own) + "\n" + key)
        f.flush()
        context.load_cert_chain(f.name)
    return context


def credential_files(asked):
    """Give the files to look for credentials in: as the luna command does."""
    if asked:
        return [os.path.expanduser(asked)]
    files = sorted(glob.glob(os.path.expanduser("~/.luna/*.pem")))
    return files + [f for f in ["/etc/luna/admin.pem"] if os.access(f, os.R_OK)]


def keep_credential(cluster, pem):
    """Store the credential of the first administrator where the luna command does; give the file."""
    directory = os.path.expanduser("~/.luna")
    os.makedirs(directory, mode=0o700, exist_ok=True)
    path = os.path.join(directory, cluster + ".pem")
    with os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as f:
        f.write(pem)
    return path


class Mesh:
    """The heads of a cluster, asked one after the other until one answers.

    warn is called with what the user should know: a head that does not answer, an answer that
    may be old.
    """

    def __init__(self, servers=None, credential=None, timeout=30, warn=None):
        self.timeout = timeout
        self.warn = warn or (lambda text: None)
        self.credential = credential
        self._contexts = None
        named = [s.strip() for s in servers or [] if s.strip()]  # an empty variable is none
        self.heads = [_Head(s, self._tls) for s in named or [SOCKET]]
        self.warned = set()

    def _tls(self):
        if self._contexts is None:
            self._contexts = []
            files = credential_files(self.credential)
            for f in files:
                try:
                    self._contexts.append(context_of(f))
                except (OSError, ValueError) as e:
                    if self.credential:
                        raise Refused("denied", "cannot use the credential %s: %s" % (f, e))
                    self._warn_once("the credential %s is passed over: %s" % (f, e))
            if not self._contexts:
                raise Refused("denied", "an admin credential is needed for https and none is in ~/.luna or at /etc/luna/admin.pem: "
                              "make one with `luna cluster credential` on a head as root, and name it by the option credential")
        return self._contexts

    def _warn_once(self, text):
        if text not in self.warned:
            self.warned.add(text)
            self.warn(text)

    def get(self, path):
        """Read."""
        return self._ask("GET", path)

    def preview(self, method, path, body=None):
        """Give what a change would do: the API's Written."""
        return self._ask(method, dry(path), body)

    def change(self, method, path, body=None):
        """Make a change and give the API's Written.

        Where its answer was lost, others are asked for a while what it would do: nothing means
        that it is made, and then the Written has an entry of -1.
        """
        try:
            return self._ask(method, path, body, changes=True)
        except Refused as e:
            if e.kind != "unknown":
                raise
            if not self._made(method, path, body):
                raise
            self._warn_once("%s; another head says that it was made" % e)
            return {"entry": -1}

    def _made(self, method, path, body):
        """Look whether a change was made whose answer was lost. An election takes a second or two."""
        end = time.time() + 12
        while time.time() < end:
            try:
                if not self.preview(method, path, body).get("changes"):
                    return True
            except Refused as e:
                if method == "DELETE" and e.kind == "not-found":
                    return True
                if e.kind not in ("unavailable", "unknown"):
                    return False
            time.sleep(0.5)
        return False

    def job(self, path, body):
        """Do what takes long, and give its events as they come. Its last one says done."""
        response, connection = self._reach("POST", path, body, None, changes=True)
        with connection_of(connection):
            try:
                for line in response:
                    event = json.loads(line.decode())
                    if event.get("error"):
                        raise refusal(event["error"])
                    yield event
                    if event.get("phase") == "done":
                        return
            except (OSError, ValueError, http.client.HTTPException):
                pass
        raise Refused("unknown", "the head stopped answering in the middle of the job: look at its log, and try again")

    def _ask(self, method, path, body=None, changes=False):
        response, connection = self._reach(method, path, body, self.timeout, changes)
        with connection_of(connection):
            try:
                return json.loads(response.read().decode() or "null")
            except (OSError, ValueError, http.client.HTTPException) as e:
                raise Refused("unknown" if changes else "unavailable", "the answer of the head broke off: %s" % e)

    def _reach(self, method, path, body, timeout, changes):
        """Send a request to the first head that takes it, and give its answer.

        A head that cannot tell whether it knows the newest state is asked last, as one that is away.
        """
        data = None if body is None else json.dumps(body).encode()
        failures, old = [], None
        for head in list(self.heads):
            try:
                answer = head.send(method, path, data, timeout)
                stale = answer[0].headers.get("Luna-Stale")
                if stale and not changes and not old:
                    old = answer
                    failures.append("%s: %s" % (head.address, stale))
                    self._last(head)
                    continue
                taken = checked(answer)
                for text in failures:
                    self._warn_once("asked %s instead: %s" % (head.address, text))
                if stale:
                    self._warn_once(stale)
                return taken
            except _NotReached as e:
                failures.append(str(e))
            except _NoAnswer as e:
                if changes:
                    self._last(head)
                    raise Refused("unknown", "the change may have been made or not: %s: look, or run this again, "
                                  "which changes only what is still missing" % e)
                failures.append(str(e))
            except Refused as e:
                if e.kind != "unavailable":
                    raise
                failures.append("%s: %s" % (head.address, e))
            self._last(head)
        if old:
            for text in failures:
                self._warn_once(text)
            return checked(old)
        raise Refused("unavailable", "no head takes the request: " + "; ".join(failures))

    def _last(self, head):
        """Ask this one last from now on."""
        self.heads.remove(head)
        self.heads.append(head)


class connection_of:
    """Closes a connection in the end."""

    def __init__(self, connection):
        self.connection = connection

    def __enter__(self):
        return self.connection

    def __exit__(self, *unused):
        self.connection.close()


def checked(answer):
    """Give an answer that is one; raise one that is a refusal."""
    response, connection = answer
    if response.status >= 300:
        with connection_of(connection):
            raise read_refusal(response)
    return answer


def dry(path):
    """Give the path of a change that is only tried."""
    return path + ("&" if "?" in path else "?") + "dry_run=true"


def url(pattern, *names):
    """Give a path with names in it."""
    return pattern % tuple(quote(n, safe="") for n in names)


def refusal(e):
    """Give the exception of a refusal as the API writes it."""
    return Refused(e["kind"], e["message"], e.get("object", ""), e.get("name", ""), e.get("users") or [])


def read_refusal(response):
    """Give the exception of an answer that is none."""
    text = response.read(1 << 20).decode(errors="replace")
    try:
        return refusal(json.loads(text))
    except (ValueError, KeyError, TypeError):
        pass
    if response.status in (404, 405):
        return Refused("internal", "the head runs a release of Luna that does not know this: upgrade luna on all heads first")
    return Refused("internal", "unexpected answer %d %s: %s" % (response.status, response.reason, text.strip()[:200]))
