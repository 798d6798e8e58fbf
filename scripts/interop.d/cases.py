"""What is asked of every client, in every mode. What a cell of the table says beside `ok`:

    5/1          five messages over one connection
    said         the program fails with the reply on its output
    notice       the sender got a notice that quotes the reply
    kept         it waited in the queue, and came when all was put right
    dead.letter, failed/   where the message is that was refused for good, as was the notice
    log only     so, and it is nowhere
"""

import re
import time

import lab
from lab import Wrong, wait_until

USER = "app@solarmora.example"
SENDER = "app@solarmora.example"
FRIEND = "friend@friend.example"
FOREIGN = "boss@elsewhere.example"
PASSWORD, WRONG_PASSWORD = "Turn-4-Left", "Turn-4-Right"
NOT_IN_DOMAINS = "550 5.7.1 The envelope sender must be in a domain of the organization that relays (D2)"
NOT_LISTED = "550 5.7.1 This client's IP address may not relay; authenticate with AUTH, or ask the administrator to list it (D3)"
WRONG = "535 5.7.8 User and password do not belong together; correct them and try again (D6)"
# To a client that goes on without AUTH.
AFTER_WRONG = "530 5.7.0 Authentication failed before, and relaying this mail needs it; correct user and password, then use AUTH again (D3)"
BURST = 5


def message(mark, more=()):
    """Eight-bit octets, dots, a folded field, trailing blanks, a line as long as may be; LF ends lines."""
    lines = [
        b"From: App <app@solarmora.example>", b"To: Friend <friend@friend.example>",
        b"Date: Sun, 22 Nov 2026 12:00:00 +0000",
        b"Message-ID: <" + mark.encode() + b"@app1.solarmora.example>",
        b"Subject: interop", b" folded", b"X-Interop: " + mark.encode(), *more,
        b"MIME-Version: 1.0", b"Content-Type: text/plain; charset=utf-8",
        b"Content-Transfer-Encoding: 8bit", b"",
        "caf\u00e9 \u20ac".encode(), b".", b"..", b".dot", b"From here", b"blanks  ", b"\ttab", b"",
        b"y" * 990, b"", b"end",
    ]
    return b"\n".join(lines) + b"\n"


def below_trace(content):
    """What stands below the trace line of Waypost: fields that the client added, and the message."""
    ours = re.match(rb"Received: from [^\r]*\r\n\tby relay\.solarmora\.example(?:[^\r]*\r\n\t)*[^\r]*\r\n",
                    content)
    if not ours:
        raise Wrong(f"no trace line of ours on top: {content[:200]!r}")
    return content[ours.end():]


class Mode:
    """One client in one mode; each case is a method, and raises `Wrong`."""

    def __init__(self, client, name, sink, waypost):
        self.client, self.name, self.sink, self.waypost = client, name, sink, waypost
        self.count = 0

    def mark(self, case):
        self.count += 1
        return f"{self.client.name}-{self.name}-{case}-{self.count}".replace(" ", "-")

    def arrived(self, mark):
        """Messages with this mark, each with its envelope."""
        return [one for one in list(self.sink.messages) if mark.encode() in one[2]]

    def wait(self, mark, recipients):
        """Waits until a message has come for each of the recipients."""
        def done():
            self.client.nudge()
            return sorted(to for _, all_of_it, _ in self.arrived(mark) for to in all_of_it) == sorted(recipients)
        try:
            wait_until(f"{mark} for {', '.join(recipients)}", done)
        except Wrong as wrong:
            came = [(sender, to) for sender, to, _ in self.arrived(mark)]
            raise Wrong(f"{wrong}; came: {came}") from None

    def same(self, mark, sent, sender=SENDER):
        """Whether what came is what was sent, below fields that the client may add."""
        want = self.client.changed(sent).replace(b"\n", b"\r\n")
        for got_sender, _, content in self.arrived(mark):
            if got_sender != sender:
                raise Wrong(f"envelope sender {got_sender!r}")
            rest = below_trace(content)
            added, found = rest[: -len(want)], rest[-len(want):]
            if found != want:
                at = next((i for i, (a, b) in enumerate(zip(found, want)) if a != b), 0)
                raise Wrong(f"changed at octet {at}: {found[max(0, at - 30):at + 50]!r}, "
                            f"was {want[max(0, at - 30):at + 50]!r}; above: {added[:200]!r}")
            for field in re.split(rb"\r\n(?![ \t])", added)[:-1]:
                if field.split(b":")[0].decode() not in self.client.adds:
                    raise Wrong(f"added {field!r}")

    def set_up(self):
        self.client.configure(self.name)

    def one(self):
        mark = self.mark("one")
        sent = message(mark)
        self.client.send(SENDER, [FRIEND], [sent])
        self.wait(mark, [FRIEND])
        self.same(mark, sent)

    def three_recipients(self):
        mark = self.mark("three")
        to = [FRIEND, "two@friend.example", "three@third.example"]
        sent = message(mark)
        self.client.send(SENDER, to, [sent])
        self.wait(mark, to)
        self.same(mark, sent)

    def null_sender(self):
        if not self.client.null_sender:
            return "-"
        mark = self.mark("null")
        sent = message(mark)
        self.client.send("", [FRIEND], [sent])
        self.wait(mark, [FRIEND])
        self.same(mark, sent, sender="")

    def many(self):
        """Several at once; how many connections that took."""
        marks = [self.mark("many") for _ in range(BURST)]
        sent = [message(mark) for mark in marks]
        before = self.waypost.connections()
        self.client.send(SENDER, [FRIEND], sent)
        for mark, one in zip(marks, sent):
            self.wait(mark, [FRIEND])
            self.same(mark, one)
        # One may have been open from before.
        return f"{BURST}/{max(1, self.waypost.connections() - before)}"

    def bounced(self, mark, sender, reply):
        """Whether the sender was told in a notice that quotes the reply."""
        notices = [content for whom, to, content in self.arrived(mark) if (whom, to) == ("", [sender])]
        notices += [content for content in self.waypost.mailbox() if sender == SENDER and mark.encode() in content]
        for notice in notices:
            text = reply.split(" ", 2)[2]
            if text[:40].encode() not in re.sub(rb"\s+", b" ", notice):
                raise Wrong(f"the notice does not quote the reply: {notice[:1500]!r}")
        return bool(notices)

    def foreign_sender(self):
        """Refused for good: the sender is told."""
        mark = self.mark("foreign")
        told = self.client.refused(FOREIGN, FRIEND, message(mark), NOT_IN_DOMAINS)
        if told == "queue":
            wait_until("the notice at the gateway", lambda: self.bounced(mark, FOREIGN, NOT_IN_DOMAINS))
            told = "notice"
        if any(sender for sender, _, _ in self.arrived(mark)):
            raise Wrong("it came all the same")
        return told

    def not_admitted(self):
        """A wrong password, or an address that is not listed; then it is put right, and nothing is lost."""
        mark = self.mark("refused")
        sent = message(mark)
        reply = NOT_LISTED if self.name == "address" else self.client.wrong_password
        if self.name == "address":
            lab.come_from(lab.UNLISTED)
            self.client.configure(self.name)
        else:
            self.client.configure(self.name, PASSWORD, WRONG_PASSWORD)
        try:
            told = self.client.refused(SENDER, FRIEND, sent, reply)
        finally:
            if self.name == "address":
                lab.come_from(lab.CLIENT)
            self.client.configure(self.name)
        if told != "queue":
            return told
        self.client.again()
        try:
            wait_until("the message or a notice",
                       lambda: self.arrived(mark) or self.bounced(mark, SENDER, reply), 4)
        except Wrong:
            # The notice was refused too; where the message is then, the page says.
            if remains := self.client.remains(mark):
                return remains
            if self.name != "address":
                raise
            return "log only"
        if self.bounced(mark, SENDER, reply):
            return "notice"
        self.wait(mark, [FRIEND])
        self.same(mark, sent)
        return "kept"

    def other_authority(self):
        """The relay's certificate is signed by nobody whom the client trusts: it sends neither mail nor password."""
        if self.name == "address":
            return "-"
        mark = self.mark("cert")
        sent = message(mark)
        self.client.trust("other.pem")
        self.client.configure(self.name)
        before = self.waypost.connections()
        told = None
        try:
            self.client.send(SENDER, [FRIEND], [sent])
        except Wrong:
            told = "said"
        wait_until("a connection", lambda: self.waypost.connections() > before)
        time.sleep(1.5)
        self.client.trust("ca.pem")
        self.client.configure(self.name)
        if self.arrived(mark):
            raise Wrong("it came all the same")
        if not told:
            self.client.again()
            self.wait(mark, [FRIEND])
            told = "kept"
        return told

    def page(self):
        """The commands of the page's section on trying it."""
        if not self.client.tries:
            return "-"
        before = len(self.sink.messages)
        self.client.try_it(self.name)
        def came():
            self.client.nudge()
            return self.sink.messages[before:]
        (sender, to, content), *_ = wait_until("the message of the page", came)
        if (sender, to) != (SENDER, [FRIEND]) or b"elay test" not in content:
            raise Wrong(f"{sender} {to} {content!r}")

    CASES = {
        "1 message": one, "3 to": three_recipients, "<>": null_sender, "many/conn": many,
        "page": page, "foreign": foreign_sender, "refused": not_admitted, "cert": other_authority,
    }
