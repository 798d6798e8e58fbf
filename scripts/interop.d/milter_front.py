"""A real Postfix or sendmail with `waypost milter` as its milter, set up as docs/MILTER.md says; then `waypost serve` stands in its place with the
same configuration. Both get the same messages, and must give the same replies, and hand on the same header, body and envelope. A
table at the end. Started by scripts/interop, in namespaces of its own."""

import contextlib
import json
import os
import re
import socket
import sys
import time

import lab
import policy
import software
from lab import Wrong, wait_until
from pages import Page
from policy import short

HOP = ("192.0.2.30", 2525)
GATEWAY, OTHER = lab.CLIENT, lab.UNLISTED
STRANGER, MARIE, JEAN = "a@elsewhere.example", "marie@solarmora.example", "jean@solarmora.example"
BEHIND = "Received: from out.example ([203.0.113.9])\r\n\tby gw.solarmora.example; Mon, 1 Jun 2026 10:00:00 +0000\r\n"
FROM = "From: a@elsewhere.example\r\n"
FILE = ("MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n.text\r\n--b\r\nContent-Type: a/b; "
        "name=x.exe\r\n\r\ngone\r\n--b--\r\n")

MESSAGES = [
    # name, client, sender, recipients, message
    ("from outside", OTHER, STRANGER, [MARIE], FROM + "Subject: Hi\r\n\r\ntext\r\n"),
    ("no subject", OTHER, STRANGER, [MARIE], FROM + "\r\ntext\r\n"),
    ("folded, and fields of the same name", OTHER, STRANGER, [MARIE],
     FROM + "X-Legacy: no\r\nSubject: Long\r\n\tand folded\r\nX-Legacy: two\r\n\r\n..text\r\n"),
    ("prefixed already", OTHER, STRANGER, [MARIE], FROM + "Subject: Re: [EXT] Hi\r\n\r\ntext\r\n"),
    ("from inside", OTHER, STRANGER, [MARIE], "From: jean@solarmora.example\r\nSubject: Hi\r\n\r\ntext\r\n"),
    ("the null sender", OTHER, "", [MARIE], FROM + "Subject: Hi\r\n\r\ntext\r\n"),
    ("behind the gateway", GATEWAY, STRANGER, [MARIE], BEHIND + FROM + "Subject: Hi\r\n\r\ntext\r\n"),
    ("the gateway's tag", GATEWAY, STRANGER, [MARIE], BEHIND + "X-spam-gw: spam\r\n" + FROM + "Subject: Hi\r\n\r\ntext\r\n"),
    ("the tag from elsewhere", OTHER, STRANGER, [MARIE], "X-spam-gw: spam\r\n" + FROM + "Subject: Hi\r\n\r\ntext\r\n"),
    ("a file", OTHER, "files@elsewhere.example", [MARIE], FROM + "Subject: Hi\r\n" + FILE),
    ("forged results", OTHER, STRANGER, [MARIE],
     "Authentication-Results: mx.solarmora.example; spf=pass\r\n" + FROM + "Subject: Hi\r\n\r\ntext\r\n"),
    ("a rule renames", OTHER, STRANGER, ["office@solarmora.example"], FROM + "Subject: Hi\r\n\r\ntext\r\n"),
    ("a rule adds a copy", OTHER, STRANGER, [JEAN], FROM + "Subject: Hi\r\n\r\ntext\r\n"),
    ("a rule rejects at RCPT", OTHER, STRANGER, ["noreply@solarmora.example"], FROM + "Subject: Hi\r\n\r\ntext\r\n"),
    ("a rule rejects by From", OTHER, "banned@elsewhere.example", [MARIE], FROM + "Subject: Hi\r\n\r\ntext\r\n"),
    ("nobody", OTHER, STRANGER, ["nobody@solarmora.example"], FROM + "Subject: Hi\r\n\r\ntext\r\n"),
    ("two, one of them nobody", OTHER, STRANGER, [MARIE, "nobody@solarmora.example"], FROM + "Subject: Hi\r\n\r\ntext\r\n"),
    ("no open relay", OTHER, STRANGER, ["friend@friend.example"], FROM + "Subject: Hi\r\n\r\ntext\r\n"),
    ("a loop", OTHER, STRANGER, [MARIE], BEHIND * 51 + FROM + "Subject: Hi\r\n\r\ntext\r\n"),
    ("held", OTHER, "suspect@elsewhere.example", [MARIE], FROM + "Subject: Hi\r\n\r\ntext\r\n"),
]

# Both mail servers refuse these by themselves, before they ask.
OWN_WORDS = ("no open relay", "a loop")


def came(hop, mark):
    """What arrived with a mark: sender, recipient and message, for each recipient."""
    mark = f"X-Interop: {mark}\r\n".encode()
    return [(sender, recipient, own(content))
            for sender, recipients, content in list(hop.messages) if mark in content for recipient in recipients]


def own(content):
    """A message without the mark and without the trace line that its server put on it, whose place stays."""
    content = re.sub(rb"(?m)^X-Interop: [^\r]*\r\n", b"", content)
    content = re.sub(rb"(?m)^Return-Path: [^\r]*\r\n", b"", content)
    # Both servers have the same name.
    trace = rb"(?m)^Received: (?:[^\r]|\r\n[\t ])*?\bby mx\.solarmora\.example\b(?:[^\r]|\r\n[\t ])*\r\n"
    content = re.sub(trace, b"Received: OWN\r\n", content)
    head, _, body = content.partition(b"\r\n\r\n")
    # Postfix adds what a message lacks, at the end of the header.
    kept = [field for field in re.split(rb"\r\n(?![\t ])", head)
            if not re.match(rb"(?i)(message-id|date|to):", field)]
    return b"\r\n".join(kept) + b"\r\n\r\n" + body


def send(case, mark):
    _, client, sender, recipients, message = case
    lab.come_from(client)
    session = policy.Client(25, "client.elsewhere.example")
    mail = session.say(f"MAIL FROM:<{sender}>")
    told = [session.say(f"RCPT TO:<{to}>") if mail.startswith("250") else mail for to in recipients]
    end = None
    if any(reply.startswith("250") for reply in told):
        session.say("DATA")
        text = re.sub(r"(?m)^\.", "..", f"X-Interop: {mark}\r\n" + message)
        end = session.say(text + ".")
    session.end()
    return told, end


def play(name, hop):
    found = []
    for place, case in enumerate(MESSAGES):
        mark = f"{name}-{place}"
        told, end = send(case, mark)
        found.append((case, mark, told, end))
    until = time.monotonic() + 30
    for case, mark, told, end in found:
        wanted = sum(reply.startswith("250") for reply in told) if (end or "").startswith("250") and case[0] != "held" else 0
        while time.monotonic() < until and len(came(hop, mark)) < wanted:
            time.sleep(0.05)
    # For copies, and for what should have come nowhere.
    time.sleep(2)
    return found


class Sendmail(software.Sendmail):
    """sendmail with the lines of the page."""

    def start(self):
        self.root.write("/etc/mail/sendmail.mc", SENDMAIL.format(filter="".join(
            line + "\n" for line in self.lines if line.startswith("INPUT_MAIL_FILTER"))))
        self.root.must("sh", "-ec", "m4 /etc/mail/sendmail.mc > /etc/mail/sendmail.cf")
        self.root.daemon("/usr/sbin/sendmail-mta", "-L", "sm-mta", "-bD", "-q1m")

        def accepts():
            with contextlib.suppress(OSError):
                socket.create_connection((lab.RELAY, 25), 1).close()
                return True

        wait_until("sendmail", accepts)


SENDMAIL = f"""define(`_USE_ETC_MAIL_')dnl
include(`/usr/share/sendmail/cf/m4/cf.m4')dnl
OSTYPE(`debian')dnl
DOMAIN(`debian-mta')dnl
define(`confDOMAIN_NAME', `mx.solarmora.example')dnl
define(`SMART_HOST', `relay:[{HOP[0]}]')dnl
define(`RELAY_MAILER_ARGS', `TCP $h {HOP[1]}')dnl
FEATURE(`nocanonify')dnl
FEATURE(`no_default_msa')dnl
FEATURE(`accept_unresolvable_domains')dnl
RELAY_DOMAIN(`solarmora.example')dnl
{{filter}}DAEMON_OPTIONS(`Name=mx, Addr={lab.RELAY}')dnl
MAILER(`smtp')dnl
"""


def held_by(server):
    if isinstance(server, Sendmail):
        # A file of the queue whose name begins with these letters.
        listed = server.root.must("sh", "-c", "cat /var/spool/mqueue/hf* 2>/dev/null || true").stdout
        return [one for line in listed.splitlines() if line.startswith("S") for one in re.findall("<(.+)>", line)]
    queue = server.root.run("postqueue", "-j").stdout
    found = [json.loads(line) for line in queue.splitlines()]
    return [one["sender"] for one in found if one["queue_name"] == "hold"]


def set_up(server, page):
    if isinstance(server, Sendmail):
        server.lines = page.sections["sendmail with the milter"].splitlines()
    else:
        for path, text in page.files("Postfix with the milter").items():
            server.root.write(path, text + LAB)
    server.start()


def over_unix(waypost, folder, postfix, hop, failures):
    """By a Unix socket for Postfix's group alone, below its queue folder, as its smtpd sees it in its chroot."""
    place = postfix.root.root + "/var/spool/postfix/waypost"
    os.makedirs(place)
    group = postfix.root.must("id", "-g", "postfix").stdout.strip()
    server = policy.program(waypost, "milter", folder + "/milter", "--listen", f"unix:{place}/milter",
                            "--socket-mode", "0660", "--socket-group", group)
    found = os.lstat(place + "/milter")
    if (found.st_mode & 0o777, str(found.st_gid)) != (0o660, group):
        failures.append(f"the rights of the socket: {found}")
    postfix.root.must("postconf", "-e", "smtpd_milters = unix:waypost/milter")
    postfix.root.must("postfix", "reload")
    marks = []

    def is_taken():
        # Processes from before the reload know of the other address.
        marks.append(f"unix-{len(marks)}")
        _, end = send(MESSAGES[0], marks[-1])
        return (end or "").startswith("250")

    wait_until("a message by way of the Unix socket", is_taken)
    wait_until("its delivery", lambda: came(hop, marks[-1]))
    if b"\r\nSubject: [EXT] Hi\r\n" not in came(hop, marks[-1])[0][2]:
        failures.append(f"over the Unix socket: {came(hop, marks[-1])}")
    policy.stop(server)
    if os.path.exists(place + "/milter"):
        failures.append("the socket is still there")


def main(waypost, archives, folder, name):
    lab.run("mount", "-t", "tmpfs", "tmpfs", folder)
    lab.network()
    lab.run("ip", "address", "add", lab.RELAY + "/32", "dev", "net1")
    lab.run("ip", "route", "replace", "local", HOP[0], "dev", "lo", "table", "local")
    lab.come_from(OTHER)
    lab.run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=x",
            "-keyout", folder + "/ca.key", "-out", folder + "/ca.pem", **lab.QUIET)
    page = Page("../MILTER.md")
    configuration = page.files("The configuration of this page")["waypost.toml"]
    for one in ("milter", "serve"):
        os.mkdir(f"{folder}/{one}")
        with open(f"{folder}/{one}/waypost.toml", "w") as file:
            file.write(configuration)
    hop = lab.Sink(HOP)
    postfix = (Sendmail if name == "sendmail" else policy.Postfix)(folder, archives)
    print(f"{name} {postfix.version()} with waypost milter")
    failures = []

    server = policy.program(waypost, "milter", folder + "/milter", "--listen", "inet:127.0.0.1:10033")
    set_up(postfix, page)
    by_postfix = play("postfix", hop)
    held = held_by(postfix)
    if held != ["suspect@elsewhere.example"]:
        failures.append(f"held by {name}: {held}")
    sources = [line for line in server.lines if "judged" in line and "source=203.0.113.9" in line]
    if len(sources) != 2:
        failures.append(f"two messages came from behind the gateway: {sources}")
    policy.stop(server)
    told, _ = send(MESSAGES[0], "nobody-answers")
    if any(not reply.startswith("4") for reply in told):
        failures.append(f"without the milter: {told}")
    if name == "postfix":
        over_unix(waypost, folder, postfix, hop, failures)
    postfix.stop()

    server = policy.program(waypost, "serve", folder + "/serve")
    by_serve = play("serve", hop)
    policy.stop(server)

    # That they are the same is worth something only if something was done.
    for place, wanted in ((0, b"Received-SPF: "), (0, b"\r\nReceived: OWN\r\nX-Legacy: yes\r\n"), (0, b"\r\nSubject: [EXT] Hi\r\n"),
                          (7, b"\r\nX-Spam-Flag: YES\r\n"), (7, b"\r\nX-Gm-Source-IP: 203.0.113.9\r\n"),
                          (9, b"x.exe")):
        found = came(hop, f"postfix-{place}")
        if not found or not all(wanted in text for _, _, text in found):
            failures.append(f"{MESSAGES[place][0]}: no {wanted} in {found}")
    if any(b"gone" in text for _, _, text in came(hop, "postfix-9")):
        failures.append("the attachment is still there")

    table(name, by_postfix, by_serve, hop, failures)
    for failure in failures:
        print("FAILED: " + failure)
    if failures:
        print(postfix.root.log()[-6000:], file=sys.stderr)
    return 1 if failures else 0


# Where the next hop of this place is; nothing else of Postfix is changed.
LAB = f"""
relayhost =
transport_maps = inline:{{ solarmora.example=smtp:[{HOP[0]}]:{HOP[1]}, archive.example=smtp:[{HOP[0]}]:{HOP[1]} }}
"""


def table(name, by_postfix, by_serve, hop, failures):
    heading = f"replies of {name}"
    print(f"\n{'message':36} {heading:28} {'same':5} {'recipients':>10} {'header, body, envelope':22}")
    for (case, mark, told, end), (_, other_mark, other_told, other_end) in zip(by_postfix, by_serve):
        # sendmail puts the recipient before the text.
        ours, theirs = ([re.sub(r" <\S+>\.\.\. ", " ", short(reply)) for reply in all]
                        for all in (told + [end], other_told + [other_end]))
        by_name, other = sorted(came(hop, mark)), sorted(came(hop, other_mark))
        replies = ours == theirs
        if case[0] in OWN_WORDS:
            replies = [reply[0] for reply in ours] == [reply[0] for reply in theirs]
        shown = ", ".join(" ".join(reply.split(" ")[:2]) for reply in ours)
        print(f"{case[0]:36} {shown:28} {'yes' if replies else 'NO':5} {len(by_name):>10} {'same' if by_name == other else 'DIFFERENT'}")
        if not replies:
            failures.append(f"{case[0]}: {name} says {ours}, serve {theirs}")
        if by_name != other:
            failures.append(f"{case[0]}: by {name}\n{by_name}\nby serve\n{other}")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:5]))
