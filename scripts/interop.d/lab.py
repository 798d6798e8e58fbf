"""A place where client software can be installed and run as if it were alone: a network with nothing but its
own loopback, and for each client a root directory that is the system's with its package on top. Nothing of it is
seen from outside, and all of it is gone when this process is.

It must run as the first process of namespaces of its own (`unshare`, see scripts/interop).
"""

import contextlib
import glob
import os
import re
import signal
import socket
import socketserver
import struct
import subprocess
import threading
import time
import urllib.request

RELAY, RELAY_NAME = "192.0.2.1", "relay.solarmora.example"
CLIENT, CLIENT_NAME = "192.0.2.10", "app1.solarmora.example"
UNLISTED = "192.0.2.20"
GATEWAY = "192.0.2.25"
PATIENCE = 20
QUIET = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Wrong(Exception):
    """What a case found."""


def run(*command, **more):
    return subprocess.run(command, check=True, **more)


def wait_until(what, done, seconds=PATIENCE):
    """What `done` says as soon as it says anything true."""
    until = time.monotonic() + seconds
    while not (found := done()):
        if time.monotonic() > until:
            raise Wrong(f"waited {seconds} s for {what}")
        time.sleep(0.02)
    return found


def network():
    run("ip", "link", "set", "lo", "up")
    # Some programs do not try a network that is loopback alone. Both ends of this one are here.
    run("ip", "link", "add", "net0", "type", "veth", "peer", "name", "net1")
    for end in ("net0", "net1"):
        run("ip", "link", "set", end, "up")
    run("ip", "address", "add", CLIENT + "/32", "dev", "net0")
    # Reached, but no address of this machine for those that ask it for its addresses.
    for address in (RELAY, UNLISTED, GATEWAY):
        run("ip", "route", "add", "local", address, "dev", "lo", "table", "local")
    run("hostname", CLIENT_NAME.split(".")[0])
    threading.Thread(target=answer_dns, daemon=True).start()


def come_from(address):
    """From now on connections to the relay come from this address."""
    run("ip", "route", "replace", "local", RELAY, "dev", "lo", "src", address, "table", "local")


def answer_dns():
    """The relay's and the client's name have an address, and so have the domains of the mail."""
    names = {RELAY_NAME: RELAY, CLIENT_NAME: CLIENT}
    names |= dict.fromkeys(
        ["solarmora.example", "elsewhere.example", "friend.example", "third.example"], "192.0.2.66")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 53))
        while True:
            question, peer = server.recvfrom(1500)
            at, labels = 12, []
            while question[at]:
                labels.append(question[at + 1: at + 1 + question[at]].decode())
                at += 1 + question[at]
            kind = struct.unpack(">H", question[at + 1: at + 3])[0]
            known = names.get(".".join(labels).lower())
            answer = b""
            if known and kind == 1:
                answer = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + socket.inet_aton(known)
            head = question[:2] + struct.pack(
                ">HHHHH", 0x8580 | (0 if known else 3), 1, bool(answer), 0, 0)
            server.sendto(head + question[12: at + 5] + answer, peer)


class Sink(socketserver.ThreadingTCPServer):
    """A next hop, SMTP or LMTP: keeps each message, octet for octet, with its envelope."""

    allow_reuse_address = daemon_threads = True

    def __init__(self, address=(GATEWAY, 25)):
        self.messages = []
        super().__init__(address, Session)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Session(socketserver.StreamRequestHandler):
    def handle(self):
        def say(text):
            self.wfile.write(text.encode() + b"\r\n")

        sender, recipients, lmtp = None, [], False
        say("220 sink ESMTP")
        for line in self.rfile:
            verb = line[:4].upper()
            if verb in (b"EHLO", b"LHLO"):
                lmtp = verb == b"LHLO"
                say("250-sink\r\n250-8BITMIME\r\n250-PIPELINING\r\n250 SIZE 99999999")
                continue
            if verb == b"QUIT":
                return say("221 bye")
            if verb in (b"MAIL", b"RSET"):
                sender, recipients = line[10:].split(b">")[0].lstrip(b"<").decode(), []
            elif verb == b"RCPT":
                recipients.append(line[8:].split(b">")[0].lstrip(b"<").decode())
            elif verb == b"DATA":
                say("354 go")
                content = []
                for text in self.rfile:
                    if text == b".\r\n":
                        break
                    content.append(text[1:] if text.startswith(b".") else text)
                self.server.messages.append((sender, recipients, b"".join(content)))
                # A reply for each recipient (RFC 2033 section 4.2); the last one is said below.
                for _ in recipients[1:] if lmtp else []:
                    say("250 ok")
            say("250 ok")


class Waypost:
    """`waypost serve` with the configuration of docs/clients/README.md."""

    def __init__(self, binary, folder, configuration):
        with open(folder + "/waypost.toml", "w") as file:
            file.write(configuration)
        self.folder, self.lines = folder, []
        self.process = subprocess.Popen(
            [binary, "serve", folder + "/waypost.toml"], stderr=subprocess.PIPE, text=True)
        threading.Thread(target=self.read, daemon=True).start()
        wait_until("serve:\n" + "".join(self.lines), lambda: "ready\n" in self.lines)

    def read(self):
        for line in self.process.stderr:
            self.lines.append(line)

    def mailbox(self):
        """What came for the user of the pages, who is a user of this server."""
        found = []
        for path in glob.glob(self.folder + "/spool/maildir/solarmora.example/app/new/*"):
            with open(path, "rb") as file:
                found.append(file.read())
        return found

    def connections(self):
        """How many it has accepted."""
        with urllib.request.urlopen("http://127.0.0.1:9025/metrics") as page:
            text = page.read().decode()
        found = re.findall(r"(?m)^waypost_connections_accepted_total (\d+)", text)
        return sum(map(int, found))


class Root:
    """A root directory with the packages of one client."""

    def __init__(self, folder, name, archives):
        self.folder = f"{folder}/{name}"
        self.root = self.folder + "/root"
        for part in ("upper", "work", "root"):
            os.makedirs(f"{self.folder}/{part}")
        run("mount", "-t", "overlay", "overlay", "-o",
            f"lowerdir=/,upperdir={self.folder}/upper,workdir={self.folder}/work", self.root)
        run("mount", "-t", "proc", "proc", self.root + "/proc")
        run("mount", "-t", "tmpfs", "tmpfs", self.root + "/tmp", "-o", "mode=1777")
        run("mount", "-t", "tmpfs", "tmpfs", self.root + "/dev", "-o", "mode=755")
        for device in ("null", "zero", "random", "urandom", "full", "tty"):
            open(f"{self.root}/dev/{device}", "w").close()
            run("mount", "--bind", "/dev/" + device, f"{self.root}/dev/{device}")
        self.lines, self.daemons = [], []
        threading.Thread(target=self.syslog, daemon=True).start()
        self.write("/etc/resolv.conf", "nameserver 127.0.0.1\n")
        self.write("/etc/hosts", f"127.0.0.1 localhost\n{CLIENT} {CLIENT_NAME} app1\n"
                                 f"{RELAY} {RELAY_NAME}\n")
        self.write("/etc/hostname", "app1\n")
        self.write("/etc/mailname", CLIENT_NAME + "\n")
        with open(folder + "/ca.pem") as file:
            self.write("/etc/ssl/certs/ca-certificates.crt", file.read())
        if os.path.isdir(archives):
            self.write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", 0o755)
            os.makedirs(self.root + "/archives", exist_ok=True)
            run("mount", "--bind", archives, self.root + "/archives")
            debs = [name for name in sorted(os.listdir(archives)) if name.endswith(".deb")]
            # None: this machine has it.
            if debs:
                done = self.run("dpkg", *DPKG, *("/archives/" + deb for deb in debs))
                if done.returncode:
                    raise Wrong("install: " + done.stderr[-300:])
                self.must("ldconfig")

    def syslog(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
            server.bind(self.root + "/dev/log")
            os.chmod(self.root + "/dev/log", 0o666)
            while True:
                self.lines.append(server.recv(65536).decode(errors="replace"))

    def write(self, path, text, mode=0o644):
        """Writes a file, or puts it in the place of what stands there."""
        full = self.root + path
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.remove(full)
        with open(full, "w") as file:
            file.write(text)
        os.chmod(full, mode)

    def read(self, path):
        with contextlib.suppress(FileNotFoundError), open(self.root + path, errors="replace") as file:
            return file.read()
        return ""

    def run(self, *command, **more):
        if isinstance(more.get("input"), bytes):
            done = subprocess.run(["chroot", self.root, *command], capture_output=True, timeout=300,
                                  env=ENVIRONMENT, **more)
            done.stdout, done.stderr = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
            return done
        return subprocess.run(["chroot", self.root, *command], capture_output=True, text=True,
                              errors="replace", timeout=300, env=ENVIRONMENT, **more)

    def must(self, *command, **more):
        done = self.run(*command, **more)
        if done.returncode:
            said = (done.stdout + done.stderr).strip()[-1500:]
            raise Wrong(f"{command[0]}: {said}")
        return done

    def daemon(self, *command):
        """Starts what runs until `stop`, with all that it starts."""
        self.daemons.append(subprocess.Popen(
            ["unshare", "--pid", "--fork", "--kill-child", "chroot", self.root, *command],
            env=ENVIRONMENT, stdin=subprocess.DEVNULL, **QUIET))

    def stop(self):
        for one in self.daemons:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                with open(f"/proc/{one.pid}/task/{one.pid}/children") as file:
                    inside = file.read().split()
                # The first process of its namespace takes all others along.
                for pid in inside:
                    os.kill(int(pid), signal.SIGKILL)
            one.wait()
        self.daemons.clear()

    def log(self):
        return "\n".join(self.lines)


ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "NODE_PATH": "/usr/share/nodejs", "HOME": "/root", "LANG": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive", "USER": "root", "LOGNAME": "root",
}
# In a root of its own no other mail server is in the way.
DPKG = ["--install", "--no-triggers", "--force-unsafe-io", "--force-depends", "--force-conflicts"]
