#!/usr/bin/env python3
"""Mail through `waypost serve` with a real rspamd as its filter: what docs/FILTER.md says of it.

    scripts/interop.d/filtered.py WAYPOST FOLDER    WAYPOST is the binary; rspamd is unpacked into FOLDER

Prints a line a case. Nothing is installed, and nothing but loopback is asked.
"""

import glob
import os
import re
import signal
import smtplib
import subprocess
import sys
import threading
import time

import rspamd

CONFIGURATION = """
[server]
hostname = "mx.solarmora.com"
spool = "spool"
admin = "127.0.0.1:0"
dns = ["127.0.0.1:9"]

[server.filter]
address = "{filter}"
timeout = "20s"

[[listener]]
name = "mx"
role = "mx"
bind = "127.0.0.1:0"

[[listener]]
name = "relay"
role = "relay"
bind = "127.0.0.1:0"

[[organization]]
name = "Solarmora"
domains = ["solarmora.com"]
licences = 250
abuse_threshold = 2
[[organization.user]]
address = "marie@solarmora.com"
[[organization.relay]]
description = "Loopback"
allowed_senders = "my-domains"
addresses = [{{ range = "127.0.0.1" }}]
require_tls = false

[[organization]]
name = "Lunamora"
domains = ["lunamora.com"]
spam_action = "quarantine"
[[organization.user]]
address = "marie@lunamora.com"

[[organization]]
name = "Stellamora"
domains = ["stellamora.com"]
spam_action = "reject"
[[organization.user]]
address = "marie@stellamora.com"
[organization.inbound_gateway]
addresses = ["127.0.0.1"]
allow_private = true
detect_external_ip = true
"""
PATIENCE = 60


class Serve:
    """`waypost serve` in a folder; its log as it comes."""

    def __init__(self, waypost, folder, address):
        os.makedirs(folder, exist_ok=True)
        self.waypost, self.folder, self.path = waypost, folder, folder + "/waypost.toml"
        with open(self.path, "w") as file:
            file.write(CONFIGURATION.format(filter=address))
        self.lines = []
        self.process = subprocess.Popen([waypost, "serve", self.path], stderr=subprocess.PIPE, text=True)
        threading.Thread(target=lambda: self.lines.extend(self.process.stderr), daemon=True).start()
        self.wait_until("ready", lambda: "ready\n" in self.lines)

    def port(self, listener):
        pattern = rf'listening name="{listener}" address=127.0.0.1:(\d+)'
        return int(re.search(pattern, "".join(self.lines))[1])

    def wait_until(self, what, holds):
        until = time.monotonic() + PATIENCE
        while not (found := holds()):
            if self.process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"serve: waited for {what}:\n" + "".join(self.lines[-40:]))
            time.sleep(0.02)
        return found

    def send(self, listener, sender, to, octets):
        """The reply to the message."""
        with smtplib.SMTP("127.0.0.1", self.port(listener), "client.elsewhere.example", timeout=PATIENCE) as client:
            client.ehlo()
            client.mail(sender)
            for one in to:
                code, text = client.rcpt(one)
                if code != 250:
                    return f"{code} {text.decode()}"
            code, text = client.data(octets)
            return f"{code} {text.decode()}"

    def letters(self, address, sub=""):
        local, domain = address.split("@")
        found = glob.glob(f"{self.folder}/spool/maildir/{domain}/{local}/{sub}/new/*")
        return [open(one, newline="", errors="replace").read().replace("\r\n", "\n") for one in sorted(found)]

    def queue(self):
        return subprocess.run([self.waypost, "queue", self.path, "list"], capture_output=True, text=True).stdout


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    waypost, folder = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
    failed = 0

    def tell(name, found, holds, shown):
        nonlocal failed
        failed += not holds
        print(f"serve with rspamd, {name:34} {found if holds else 'FAILED: ' + str(shown)}")

    for kind in ("tcp", "unix"):
        judge = rspamd.Rspamd(folder)
        try:
            serve = Serve(waypost, f"{folder}/serve-{kind}", judge.address if kind == "tcp" else judge.socket)
            try:
                play(serve, judge, kind, tell)
                judge.stop()
                reply = serve.send("mx", "a@elsewhere.example", ["marie@solarmora.com"], letter("down"))
                tell(f"{kind}: stopped", reply, reply.startswith("451 4.7.1"), reply)
            finally:
                serve.process.terminate()
                serve.process.wait(30)
        finally:
            judge.stop()
    return 1 if failed else 0


def letter(name, text="A plain text.", received=""):
    return (received.encode() and received.encode() + b"\r\n") + rspamd.message(name + "@interop.example", text)


def play(serve, judge, kind, tell):
    stranger, solar = "a@elsewhere.example", "marie@solarmora.com"
    luna, stella = "marie@lunamora.com", "marie@stellamora.com"

    reply = serve.send("mx", stranger, [solar], letter(f"clean-{kind}"))
    came = serve.wait_until("a letter", lambda: serve.letters(solar))[0]
    status = re.search(r"\nX-Spam-Status: (No, .*)", came)
    tell(f"{kind}: clean", "delivered, " + (status[1] if status else ""), reply.startswith("250") and status, came)
    told = judge.judged(f"clean-{kind}@interop.example")
    queue_id = reply.rsplit(" ", 1)[1]
    tell(f"{kind}: told", f"queue id {queue_id}", f"qid: <{queue_id}>" in told, told)

    reply = serve.send("mx", stranger, [solar, luna], letter(f"gtube-{kind}", rspamd.GTUBE))
    junk = serve.wait_until("a letter in Junk", lambda: serve.letters(solar, ".Junk"))[0]
    tell(f"{kind}: GTUBE, mark", "in Junk", "\nX-Spam-Flag: YES\n" in junk, junk)
    tell(f"{kind}: GTUBE, quarantine", "held", luna in serve.queue() and not serve.letters(luna), serve.queue())
    reply = serve.send("mx", stranger, [stella], letter(f"gtube2-{kind}", rspamd.GTUBE))
    tell(f"{kind}: GTUBE, reject", reply, reply.startswith("550 5.7.1 Message refused as spam"), reply)

    for source in rspamd.LISTED.values():
        literal = f"IPv6:{source}" if ":" in source else source
        received = f"Received: from h.example (h.example [{literal}]) by gw.example; Sun, 22 Nov 2026 12:00:00 +0000"
        name = f"listed-{kind}-{source.replace(':', '-')}"
        reply = serve.send("mx", stranger, [stella], letter(name, received=received))
        told = judge.judged(name + "@interop.example")
        ok = reply.startswith("550 5.7.1") and f"ip: {source}," in told
        tell(f"{kind}: listed source {source}", "refused, behind the gateway", ok, reply + told)

    for number in (1, 2, 3):
        reply = serve.send("relay", solar, [stella], letter(f"abuse{number}-{kind}", rspamd.GTUBE))
        tell(f"{kind}: relayed GTUBE {number}", reply[:46], reply.startswith("550 5.7.1"), reply)
    told = lambda: [line for line in serve.lines if "2 messages that marie@solarmora.com relayed" in line]
    serve.wait_until("the administrators to be told", told)
    # What comes behind the third refusal has been written too.
    last = serve.send("mx", stranger, [solar], letter(f"last-{kind}")).rsplit(" ", 1)[1]
    serve.wait_until("the last letter", lambda: [line for line in serve.lines if f"accepted id={last}" in line])
    warned = told()
    tell(f"{kind}: administrators", "told once", len(warned) == 1, serve.lines[-20:])


if __name__ == "__main__":
    sys.exit(main())
