"""A real Postfix with the files of docs/POSTFIX.md asks `waypost policy-server`; then `waypost serve` stands in its place with
the same configuration. Both get the same envelopes, and must give the same replies and send to the same next hops. A table at the
end. Started by scripts/interop, in namespaces of its own."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import lab
import software
from lab import Wrong, wait_until
from pages import Page

HOPS = {"mailboxes": ("192.0.2.30", 24), "exchange": ("192.0.2.31", 2525), "partner": ("192.0.2.32", 2525),
        "gateway": ("192.0.2.25", 2525)}
LOAD = 100
LISTED, OTHER = lab.CLIENT, lab.UNLISTED
MX, RELAY = 25, 587
HELO, OWN_HELO = "client.elsewhere.example", "app.solarmora.example"
STRANGER, APP, FRIEND = "a@elsewhere.example", "app@solarmora.example", "friend@friend.example"
MARIE = "marie@solarmora.example"


def to(name, *recipients, client=OTHER, port=MX, helo=HELO, sender=STRANGER, reset=False):
    return name, client, port, helo, sender, recipients, reset


def relayed(name, *recipients, sender=APP, **more):
    return to(name, *recipients, sender=sender, client=more.pop("client", LISTED), port=RELAY, **more)


ENVELOPES = [
    to("a user", MARIE),
    to("an alias of hers, in capitals", "M.Paul@solarmora.example"),
    to("the null sender", MARIE, sender=""),
    to("nobody", "nobody@solarmora.example"),
    to("split delivery", "anybody@lyon.example"),
    to("a quoted local part", '"a b"@lyon.example'),
    to("two next hops, and nobody", MARIE, "anybody@lyon.example", "nobody@solarmora.example"),
    to("a rule rejects", "noreply@solarmora.example"),
    to("a rule renames", "office@solarmora.example"),
    to("a rule adds a copy", "boss@solarmora.example"),
    to("a sub-domain", "x@sub.lyon.example"),
    to("no open relay", FRIEND),
    to("no relay on the mx port", FRIEND, client=LISTED, sender=APP),
    relayed("relayed", FRIEND),
    relayed("relayed, sub-domain's sender", FRIEND, sender="cron@db.solarmora.example"),
    relayed("relayed to three places", FRIEND, "two@third.example", MARIE),
    relayed("relayed to nobody of ours", "nobody@solarmora.example", FRIEND),
    relayed("another client", FRIEND, client=OTHER),
    relayed("a foreign sender", FRIEND, sender=STRANGER),
    relayed("the null sender, unknown", FRIEND, sender=""),
    relayed("the null sender, known, two", FRIEND, "two@third.example", sender="", helo=OWN_HELO),
    relayed("a route without TLS", "x@partner.example", sender="", helo=OWN_HELO),
    relayed("two a day: first", FRIEND, sender="two@solarmora.example"),
    relayed("two a day: second", FRIEND, sender="two@solarmora.example"),
    relayed("two a day: third", FRIEND, sender="two@solarmora.example"),
    relayed("few recipients, one too many", "r1@third.example", "r2@third.example", "r3@third.example",
            sender="few@solarmora.example"),
    relayed("few recipients, the same again", "r2@third.example", sender="few@solarmora.example"),
    relayed("once: given up, and again", FRIEND, sender="once@solarmora.example", reset=True),
    relayed("once: no more", FRIEND, sender="once@solarmora.example"),
]


class Hop(lab.Sink):
    """A next hop of the configuration."""

    def __init__(self, name):
        super().__init__(HOPS[name])

    @property
    def came(self):
        """What came for whom: the mark of the message, its sender, one recipient."""
        return [(marked(content), sender, recipient)
                for sender, recipients, content in list(self.messages) for recipient in recipients]


def marked(content):
    mark = re.search(rb"(?m)^X-Interop: ([^\r]*)", content.split(b"\r\n\r\n")[0])
    return mark[1].decode() if mark else ""


class Client:
    """Says what it is told, and notes what it hears."""

    def __init__(self, port, helo):
        self.socket = socket.create_connection((lab.RELAY, port), 60)
        self.file = self.socket.makefile("rb")
        self.reply()
        self.say("EHLO " + helo)

    def reply(self):
        while True:
            line = self.file.readline().decode(errors="replace").rstrip("\r\n")
            if line[3:4] != "-":
                return line

    def say(self, command):
        self.socket.sendall(command.encode() + b"\r\n")
        return self.reply()

    def end(self):
        self.say("QUIT")
        self.socket.close()


def send(envelope, mark):
    """A reply for each recipient, and the final one."""
    _, client, port, helo, sender, recipients, reset = envelope
    lab.come_from(client)
    session = Client(port, helo)
    if reset:
        session.say(f"MAIL FROM:<{sender}>")
        session.say(f"RCPT TO:<{recipients[0]}>")
        session.say("RSET")
    mail = session.say(f"MAIL FROM:<{sender}>")
    told = [session.say(f"RCPT TO:<{to}>") if mail.startswith("250") else mail for to in recipients]
    end = None
    if any(reply.startswith("250") for reply in told):
        session.say("DATA")
        end = session.say(f"From: <{sender or 'daemon@elsewhere.example'}>\r\nTo: x\r\nX-Interop: {mark}\r\n"
                          "Subject: policy\r\n\r\nx\r\n.")
    session.end()
    return told, end


def short(reply):
    """Code and enhanced code of a refusal with our own words, if they are there; the code of what stands."""
    if reply is None or reply.startswith("2"):
        return (reply or "-")[:3]
    said = re.match(r"(\d{3}) (\d\.\d+\.\d+) (?:<.*>: (?:Sender|Recipient|Relay|Client host|Helo command)[^:]*: )?(.*)", reply)
    # The moment when there is room again depends on the moment of the question.
    return re.sub(r"\d{4}-\d\d-\d\dT[\d:]+Z", "TIME", " ".join(said.groups())) if said else reply


def went(hops, mark):
    return sorted((name, sender, to) for name, hop in hops.items() for this, sender, to in hop.came if this == mark)


def settle(hops, sent):
    """Where messages went, once each went to as many as were told that they stand, or time is up."""
    until = time.monotonic() + 15
    for _, mark, told, end in sent:
        wanted = expected(told, end)
        while time.monotonic() < until and len(went(hops, mark)) < wanted:
            time.sleep(0.05)
    # For copies, and for what should have come nowhere.
    time.sleep(2)
    return {mark: went(hops, mark) for _, mark, _, _ in sent}


def used(waypost, folder):
    """What is counted for the organization and its users."""
    found = {}
    for who in ["Solarmora"] + [f"{name}@solarmora.example" for name in ("app", "two", "few", "once")]:
        ran = subprocess.run([waypost, "quota", folder + "/waypost.toml", "--json", who], capture_output=True, text=True)
        if ran.returncode:
            raise Wrong(f"quota: {ran.stderr}")
        found[who] = [use["used"] for line in ran.stdout.splitlines() for use in uses(json.loads(line))]
    return found


def uses(value):
    """All limits in an answer of `waypost quota`."""
    if isinstance(value, dict) and "used" in value:
        yield value
    elif isinstance(value, (dict, list)):
        for inside in value.values() if isinstance(value, dict) else value:
            yield from uses(inside)


class Postfix(software.Postfix):
    """Postfix with the files of the page."""

    def set_up(self, page, text=None):
        for path, found in page.files("Postfix").items():
            self.root.write(path, text or found)
        for command in page.commands("Postfix"):
            self.root.must("sh", "-ec", command)
        try:
            self.start()
        except Wrong as wrong:
            raise Wrong(f"{wrong}: {self.root.log()[-3000:]}") from None

    def look_up(self, table, key):
        done = self.root.run("postmap", "-q", key, table)
        return done.stdout.strip()


def program(waypost, command, folder, *arguments):
    process = subprocess.Popen([waypost, command, folder + "/waypost.toml", *arguments],
                               stderr=subprocess.PIPE, text=True)
    process.lines = []

    def read():
        for line in process.stderr:
            process.lines.append(line)

    threading.Thread(target=read, daemon=True).start()
    try:
        wait_until(command, lambda: "ready\n" in process.lines or process.poll() is not None)
        if process.poll() is not None:
            raise Wrong(command)
    except Wrong as wrong:
        raise Wrong(f"{wrong}: {''.join(process.lines)}") from None
    return process


def stop(process):
    process.send_signal(signal.SIGTERM)
    if process.wait(60):
        raise Wrong("it does not end in order: " + "".join(process.lines[-20:]))


def run_all(pass_name):
    found = []
    for place, envelope in enumerate(ENVELOPES):
        mark = f"{pass_name}-{place}"
        told, end = send(envelope, mark)
        found.append((envelope, mark, told, end))
    return found


def load(postfix, hops):
    """Many sessions at once, each message for two recipients."""
    lab.come_from(LISTED)
    before = sum(len(hop.came) for hop in hops.values())
    postfix.root.must("smtp-source", "-s", "10", "-m", str(LOAD), "-r", "2", "-M", HELO, "-f", APP,
                      "-t", "load@friend.example", f"{lab.RELAY}:{RELAY}")
    wait_until("the load", lambda: sum(len(hop.came) for hop in hops.values()) >= before + 2 * LOAD, 60)


def main(waypost, archives, folder):
    lab.run("mount", "-t", "tmpfs", "tmpfs", folder)
    lab.network()
    # Postfix asks the system whether its address is one of this machine's.
    lab.run("ip", "address", "add", lab.RELAY + "/32", "dev", "net1")
    for address, _ in HOPS.values():
        lab.run("ip", "route", "replace", "local", address, "dev", "lo", "table", "local")
    lab.come_from(LISTED)
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=x",
                    "-keyout", folder + "/ca.key", "-out", folder + "/ca.pem"], check=True, stderr=subprocess.DEVNULL)
    page = Page("../POSTFIX.md")
    configuration = page.files("The configuration")["waypost.toml"]
    for name in ("policy", "serve"):
        os.mkdir(f"{folder}/{name}")
        with open(f"{folder}/{name}/waypost.toml", "w") as file:
            file.write(configuration)
    hops = {name: Hop(name) for name in HOPS}
    postfix = Postfix(folder, archives)
    print(f"postfix {postfix.version()}")
    failures = []

    server = program(waypost, "policy-server", folder + "/policy", "--policy", "127.0.0.1:10030",
                     "--socketmap", "127.0.0.1:10031", "--tcp-table", "transport=127.0.0.1:10032")
    postfix.set_up(page)
    by_postfix = run_all("postfix")
    load(postfix, hops)
    tables(postfix, failures)
    postfix_went = settle(hops, by_postfix)
    over_tcp(postfix, page, hops, failures)
    counted = used(waypost, folder + "/policy")
    stop(server)
    without_server(failures)
    postfix.stop()

    server = program(waypost, "serve", folder + "/serve")
    by_serve = run_all("serve")
    load(postfix, hops)
    serve_went = settle(hops, by_serve)
    send(TCP, "tcp-serve")
    counted_by_serve = used(waypost, folder + "/serve")
    stop(server)

    table(by_postfix, postfix_went, by_serve, serve_went, failures)
    print(f"\ncounted, Postfix: {counted}\ncounted, serve:   {counted_by_serve}")
    if counted != counted_by_serve:
        failures.append("quotas differ")
    for failure in failures:
        print("FAILED: " + failure)
    if failures:
        print(postfix.root.log()[-6000:], file=sys.stderr)
    return 1 if failures else 0


def expected(told, end):
    """How many deliveries to wait for at least."""
    return sum(reply.startswith("250") for reply in told) if (end or "").startswith("250") else 0


def tables(postfix, failures):
    """Postfix's own client of both table protocols."""
    for table, key, want in [
        ("socketmap:inet:127.0.0.1:10031:transport", "anybody@lyon.example", "smtp:[192.0.2.31]:2525"),
        ("tcp:127.0.0.1:10032", "anybody@lyon.example", "smtp:[192.0.2.31]:2525"),
        ("tcp:127.0.0.1:10032", "a b@lyon.example", "smtp:[192.0.2.31]:2525"),
        ("tcp:127.0.0.1:10032", "noreply@solarmora.example", "error:5.7.1 Nobody reads this address"),
        ("tcp:127.0.0.1:10032", "nobody@solarmora.example", ""),
        ("socketmap:inet:127.0.0.1:10031:recipients", "nobody@solarmora.example", ""),
        ("socketmap:inet:127.0.0.1:10031:domains", "lyon.example", "OK"),
        ("socketmap:inet:127.0.0.1:10031:aliases", "office@solarmora.example", MARIE),
        ("socketmap:inet:127.0.0.1:10031:senders", APP, "smtp:[192.0.2.25]:2525"),
        ("socketmap:inet:127.0.0.1:10031:tls", "[192.0.2.32]:2525", "encrypt"),
    ]:
        got = postfix.look_up(table, key)
        if got != want:
            failures.append(f"postmap -q {key} {table}: {got!r}, not {want!r}")


TCP = to("over tcp:", "anybody@lyon.example", MARIE)


def over_tcp(postfix, page, hops, failures):
    """The same Postfix with its transports from a tcp table."""
    postfix.stop()
    text = page.files("Postfix")["/etc/postfix/main.cf"]
    postfix.set_up(page, text.replace("transport_maps = $waypost:transport", "transport_maps = tcp:127.0.0.1:10032"))
    told, end = send(TCP, "tcp")
    found = settle(hops, [(TCP, "tcp", told, end)])["tcp"]
    want = sorted([("exchange", STRANGER, "anybody@lyon.example"), ("mailboxes", STRANGER, MARIE)])
    if found != want:
        failures.append(f"transport_maps = tcp: {told} {found}")


def without_server(failures):
    """While nobody answers, Postfix takes nothing, and refuses nothing for good."""
    for envelope in (ENVELOPES[0], ENVELOPES[13]):
        told, _ = send(envelope, "nobody-answers")
        if any(not reply.startswith("4") for reply in told):
            failures.append(f"without the policy server: {told}")


def table(by_postfix, postfix_went, by_serve, serve_went, failures):
    print(f"\n{'envelope':33} {'port':>4}  {'replies of Postfix':42} {'same':4}  {'next hops of Postfix':44} same")
    for (envelope, mark, told, end), (_, other_mark, other_told, other_end) in zip(by_postfix, by_serve):
        ours = [short(reply) for reply in told + [end]]
        theirs = [short(reply) for reply in other_told + [other_end]]
        replies = ours == theirs
        hops, other_hops = postfix_went[mark], serve_went[other_mark]
        shown = ", ".join(" ".join(reply.split(" ")[:2]) if reply[0] != "2" else reply for reply in ours[:-1])
        places = ", ".join(sorted({name for name, _, _ in hops})) or "-"
        print(f"{envelope[0]:33} {envelope[2]:4}  {shown:42} {'yes' if replies else 'NO':4}  {places:44} "
              f"{'yes' if hops == other_hops else 'NO'}")
        if not replies:
            failures.append(f"{envelope[0]}: Postfix says {ours}, serve {theirs}")
        if hops != other_hops:
            failures.append(f"{envelope[0]}: Postfix sends to {hops}, serve to {other_hops}")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
