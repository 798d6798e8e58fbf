#!/usr/bin/env python3
"""rspamd from its package, as a milter on loopback: started for the cases of scripts/interop, or by hand.

    scripts/interop.d/rspamd.py FOLDER      unpacks and starts it, prints its address as `[server] filter` takes
                                            it, and stays until the standard input ends

It scans by itself and asks nobody: no DNS, no Redis, no other worker. GTUBE is rejected; a message from a listed
address (LISTED) gets `X-Spam: Yes`; every other one is taken with fields that tell the score. Nothing is installed.
"""

import contextlib
import glob
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

LISTED = {"203.0.113.0/24": "203.0.113.9", "2001:db8:bad::/48": "2001:db8:bad::7"}
GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
PATIENCE = 60

CONFIGURATION = """
lua = "$RULESDIR/rspamd.lua";
options {
    pidfile = "@FOLDER@/pid";
    filters = "regexp";
    tempdir = "@FOLDER@";
    url_tld = "${SHAREDIR}/effective_tld_names.dat";
    hs_cache_dir = "@FOLDER@";
    cache_file = "@FOLDER@/symbols.cache";
    control_socket = "@FOLDER@/control.sock mode=0600";
    local_addrs = [];
    # Nobody answers there, and nothing is asked.
    dns { nameserver = ["127.0.0.1:9"]; timeout = 100ms; retransmits = 1; }
}
logging { type = "console"; level = "info"; }
worker "rspamd_proxy" {
    bind_socket = "127.0.0.1:@PORT@";
    bind_socket = "@FOLDER@/milter.sock mode=0666";
    milter = yes;
    count = 1;
    upstream "local" { default = yes; self_scan = yes; }
    spam_header = "X-Spam";
}
actions { reject = 15; add_header = 4; greylist = null; }
modules { path = "${PLUGINSDIR}/milter_headers.lua"; path = "${PLUGINSDIR}/multimap.lua"; }
milter_headers {
    use = ["x-spamd-bar", "x-spam-status", "x-spamd-result"];
    extended_spam_headers = true;
    skip_local = false;
    skip_authenticated = false;
}
multimap { LISTED { type = "ip"; map = "@FOLDER@/listed.map"; symbol = "LISTED"; score = 5.0; } }
"""


def unpack(folder):
    """The package and what it needs, unpacked; the folder that stands for the root directory."""
    root, archives = folder + "/root", folder + "/archives"
    if not os.path.exists(root + "/usr/bin/rspamd"):
        os.makedirs(archives + "/partial", exist_ok=True)
        subprocess.run(
            ["apt-get", "--quiet=2", "--yes", "--no-install-recommends", "--download-only",
             "-o", "Dir::Cache::archives=" + archives, "-o", "Debug::NoLocking=1",
             "-o", "APT::Sandbox::User=root", "install", "rspamd"],
            check=True, stdout=subprocess.DEVNULL)
        for archive in glob.glob(archives + "/*.deb"):
            subprocess.run(["dpkg", "-x", archive, root], check=True)
    return root


class Rspamd:
    """A running one. `address` and `socket` are where it listens, as `[server] filter` takes them."""

    def __init__(self, folder):
        folder = os.path.abspath(folder)
        os.makedirs(folder, exist_ok=True)
        root = unpack(folder)
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = listener.getsockname()[1]
        self.address, self.socket = f"milter:127.0.0.1:{self.port}", f"milter:unix:{folder}/milter.sock"
        with open(folder + "/rspamd.conf", "w") as file:
            file.write(CONFIGURATION.replace("@FOLDER@", folder).replace("@PORT@", str(self.port)))
        with open(folder + "/listed.map", "w") as file:
            file.write("".join(network + "\n" for network in LISTED))
        share = root + "/usr/share/rspamd"
        places = {"SHAREDIR": share, "LUALIBDIR": share + "/lualib", "PLUGINSDIR": share + "/plugins",
                  "RULESDIR": share + "/rules"}
        places |= dict.fromkeys(["CONFDIR", "LOCAL_CONFDIR", "DBDIR", "RUNDIR", "LOGDIR"], folder)
        libraries = [root + "/usr/lib/rspamd"] + glob.glob(root + "/usr/lib/*-linux-gnu")
        self.logged = folder + "/log"
        with open(self.logged, "w") as log:
            self.process = subprocess.Popen(
                [root + "/usr/bin/rspamd", "--no-fork", "--insecure", "--config", folder + "/rspamd.conf"]
                + [f"--var={name}={place}" for name, place in places.items()],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=folder,
                env=dict(os.environ, LD_LIBRARY_PATH=":".join(libraries), **places))
        try:
            self.wait_until("a connection", self.accepts)
        except BaseException:
            self.stop()
            raise

    def accepts(self):
        if self.process.poll() is not None:
            raise SystemExit("rspamd ended:\n" + self.log()[-3000:])
        with contextlib.suppress(OSError):
            with socket.create_connection(("127.0.0.1", self.port), 1) as probe:
                probe.sendall(b"\0\0\0\1Q")
            return True
        return False

    def log(self):
        with open(self.logged, errors="replace") as file:
            return file.read()

    def wait_until(self, what, done):
        until = time.monotonic() + PATIENCE
        while not (found := done()):
            if time.monotonic() > until:
                raise SystemExit(f"rspamd: waited {PATIENCE} s for {what}:\n" + self.log()[-3000:])
            time.sleep(0.02)
        return found

    def judged(self, message_id):
        """The line in which it tells what it thought of a message."""
        line = rf"rspamd_task_write_log: id: <{re.escape(message_id)}>,.*"
        return self.wait_until("the judgement of " + message_id, lambda: re.findall(line, self.log()))[-1]

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def message(message_id, text):
    """A message without a blemish that a rule of rspamd's own would tell."""
    return (f"From: Marie <marie@elsewhere.example>\r\nTo: x@solarmora.com\r\nSubject: interop\r\n"
            f"Date: Sun, 22 Nov 2026 12:00:00 +0000\r\nMessage-ID: <{message_id}>\r\n"
            f"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
            f"Content-Transfer-Encoding: 8bit\r\n\r\n{text}\r\n").encode()


def cases(filter_ask, folder):
    """Asks it by the program `filter_ask`; prints a line a case; the exit status."""
    rspamd = Rspamd(folder)
    failed = 0

    def ask(name, text, *more, to=None):
        """The verdicts on a message, and rspamd's own word on it; a text where there is no verdict."""
        own = name.replace(" ", "-").replace(",", "") + "@interop.example"
        octets = message(own, text)
        done = subprocess.run(
            [filter_ask, "-", "--json", "--milter", to or rspamd.address, "--sender", "marie@elsewhere.example",
             "--recipient", "x@solarmora.com", "--own-name", "mx.solarmora.com", *more],
            input=octets, capture_output=True, timeout=PATIENCE)
        if done.returncode:
            return done.stderr.decode(), "", octets
        return [json.loads(line) for line in done.stdout.splitlines()], rspamd.judged(own), octets

    def field(verdict, name):
        edits = [edit for one in verdict["headers"] for edit in one.values()]
        return next((edit["value"] for edit in edits if edit["name"] == name), None)

    def tell(name, found, wrong):
        nonlocal failed
        failed += bool(wrong)
        print(f"rspamd, {name:34} {found if not wrong else 'FAILED: ' + wrong}")

    def clean(verdicts):
        status = field(verdicts[0], "X-Spam-Status") or ""
        return "" if verdicts[0]["action"] == "accept" and status.startswith("No") else str(verdicts)

    try:
        client, gateway = ["--client-ip", "192.0.2.7"], ["--client-ip", "192.0.2.25"]
        for name, to in [("clean", rspamd.address), ("clean, over a Unix socket", rspamd.socket)]:
            verdicts, judged, _ = ask(name, "A plain text.", *client, to=to)
            tell(name, "accept, with its fields", clean(verdicts) or "ip: 192.0.2.7," not in judged and judged)

        verdicts, judged, _ = ask("GTUBE", GTUBE, *client)
        reply = verdicts[0]["action"].get("reject", {}) if isinstance(verdicts[0]["action"], dict) else {}
        tell("GTUBE", f"reject: {reply.get('code')} {reply.get('text')}",
             "" if reply.get("code") == 554 else str(verdicts))

        for source in LISTED.values():
            name = "listed source " + source
            verdicts, judged, _ = ask(name, "A plain text.", *gateway, "--source-ip", source)
            ok = verdicts[0]["action"] == "accept" and field(verdicts[0], "X-Spam") == "Yes"
            tell(name, f"X-Spam: Yes ({field(verdicts[0], 'X-Spam-Status')})",
                 "" if ok and f"ip: {source}," in judged else f"{verdicts} {judged}")
        verdicts, judged, _ = ask("the gateway itself", "A plain text.", *gateway)
        tell("the gateway itself", "accept", clean(verdicts))

        verdicts, judged, _ = ask("user and queue id", "A plain text.", *client, "--auth", "marie@solarmora.com",
                               "--queue-id", "0F3Z9K2M4T7QA", "--tls", "TLSv1.3")
        told = all(text in judged for text in ("user: marie@solarmora.com,", "qid: <0F3Z9K2M4T7QA>"))
        tell("user and queue id", "told", clean(verdicts) or ("" if told else judged))

        text = "\r\n".join([".", "..", ".dot", "café"] + ["x" * 70] * 5000)
        verdicts, judged, octets = ask("dots, 350 kB", text, *client)
        length = re.search(r"len: (\d+)", judged)
        same = length and int(length[1]) == len(octets)
        tell("dots, 350 kB", f"all {len(octets)} octets came", clean(verdicts) or ("" if same else judged))

        accepted = rspamd.log().count("accepted milter connection")
        started = time.monotonic()
        verdicts, _, _ = ask("1,000 messages", "A plain text.", *client, "--times", "1000")
        took = time.monotonic() - started
        new = rspamd.log().count("accepted milter connection") - accepted
        # It answers `accept`, behind which not every filter goes on to another session.
        tell("1,000 messages", f"over {new} connections, {1000 / took:.0f}/s",
             clean(verdicts) or ("" if len(verdicts) == 1000 else f"{len(verdicts)} verdicts"))
        abnormal = "abnormally closing" in rspamd.log()
        tell("the ends of connections", "all said", "abnormally closing" if abnormal else "")
    finally:
        rspamd.stop()
    error, _, _ = ask("stopped", "A plain text.", *client)
    tell("stopped", "the error names it", "" if rspamd.address in error and "start it" in error else str(error))
    return 1 if failed else 0


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if len(sys.argv) == 4 and sys.argv[1] == "--cases":
        return cases(sys.argv[2], sys.argv[3])
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    rspamd = Rspamd(sys.argv[1])
    try:
        print(rspamd.address, flush=True)
        sys.stdin.read()
    finally:
        rspamd.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
