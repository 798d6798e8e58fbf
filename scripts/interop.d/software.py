"""The clients, each driven as its page in docs/clients says."""

import contextlib
import os
import re
import socket
import time

import lab
from cases import AFTER_WRONG, WRONG
from lab import Wrong, wait_until
from pages import MODES, Page


class Client:
    """What all have in common. A program of its own name in Debian, with a `sendmail` command."""

    name = None
    packages = []
    modes = list(MODES)
    #: Fields that it puts above the message.
    adds = {"Received"}
    null_sender = True
    tries = True
    #: How `sendmail` takes the null sender.
    null = "<>"
    #: What it is told in the end when its password is wrong.
    wrong_password = WRONG
    #: Where it logs beside the system's log.
    log_file = "/none"

    def __init__(self, folder, archives):
        self.folder = folder
        self.page = Page(self.name + ".md")
        self.root = lab.Root(folder, self.name, f"{archives}/{self.name}")

    def version(self):
        return self.root.must("dpkg-query", "-W", "-f", "${Version}", self.packages[0]).stdout

    def configure(self, mode, old="", new=""):
        """Writes the files of the page's section, runs its commands, and starts the client anew."""
        section = MODES[mode]
        for path, text in self.page.files(section).items():
            self.root.write(path, text.replace(old, new) if old else text, self.permissions(path))
        self.root.stop()
        for command in self.page.commands(section):
            self.root.must("sh", "-ec", command)
        self.start()

    def trust(self, name):
        """From now on the system trusts this authority alone."""
        with open(f"{self.folder}/{name}") as file:
            self.root.write("/etc/ssl/certs/ca-certificates.crt", file.read())

    def permissions(self, path):
        return 0o644

    def start(self):
        """Starts its daemon."""

    def stop(self):
        self.root.stop()

    def send(self, sender, to, messages):
        for message in messages:
            self.root.must("sendmail", "-i", "-f", sender or self.null, "--", *to, input=message)

    def try_it(self, mode):
        for command in self.page.commands("Try it"):
            self.root.must("sh", "-ec", command)

    def nudge(self):
        """Called while mail is waited for."""

    def again(self):
        """Has the queue tried now."""

    def changed(self, message):
        """What the client makes of a message, as its page says."""
        return message

    def logged(self):
        """Its log."""
        return self.root.log() + self.root.read(self.log_file)

    def remains(self, mark):
        """Where a message is that was refused, as was the notice of it; None: nowhere."""

    def refused(self, sender, to, message, reply):
        """Sends, and sees that the reply is told; `said`, or `queue` where the queue has the rest."""
        raise NotImplementedError


class Foreground(Client):
    """Has no queue: it says what was wrong, and its exit status is not 0."""

    adds = set()

    def refused(self, sender, to, message, reply):
        try:
            self.send(sender, [to], [message])
        except Wrong as wrong:
            code, text = reply.split(" ", 1)
            said = re.sub(r"\s+", " ", str(wrong))
            if code in said and text in said:
                return "said"
            raise Wrong(f"the reply is not told: {wrong}") from None
        raise Wrong("refused mail, and exit status 0")


class Queueing(Client):
    """Has a queue, and a `sendmail` that only puts mail there."""

    def queue(self):
        """What is left in the queue."""
        return self.root.must("mailq").stdout

    def refused(self, sender, to, message, reply):
        before = len(self.logged())
        self.send(sender, [to], [message])

        def told():
            return reply in re.sub(r"\s+", " ", self.logged()[before:] + self.queue())

        wait_until(f"the reply {reply} in log or queue", told)
        # Long enough for a notice to be refused too.
        time.sleep(1.5)
        return "queue"

class Postfix(Queueing):
    name = "postfix"
    packages = ["postfix", "libsasl2-modules"]

    def start(self):
        if not self.root.read("/var/spool/postfix/etc/resolv.conf"):
            self.root.must("/usr/lib/postfix/configure-instance.sh", "-")
        for _ in range(5):
            self.root.daemon("postfix", "start-fg")
            with contextlib.suppress(Wrong):
                return wait_until("Postfix", lambda: self.root.run("postfix", "status").returncode == 0, 5)
            self.root.stop()
        raise Wrong("Postfix does not start")

    def again(self):
        # It takes mail a moment before it takes this.
        wait_until("a queue run", lambda: self.root.run("postqueue", "-f").returncode == 0)


class Exim(Queueing):
    name = "exim"
    packages = ["exim4-daemon-light"]
    log_file = "/var/log/exim4/mainlog"

    def start(self):
        self.root.must("exim4", "-bV")

    def send(self, sender, to, messages):
        if len(messages) == 1:
            return super().send(sender, to, messages)
        for message in messages:
            self.root.must("sendmail", "-odq", "-i", "-f", sender, "--", *to, input=message)
        self.root.must("exim4", "-qq")

    def again(self):
        self.root.must("exim4", "-qff")

    def remains(self, mark):
        return "frozen" if "frozen" in self.queue() else None


class Sendmail(Queueing):
    name = "sendmail"
    packages = ["sendmail-bin", "libsasl2-modules"]
    # It goes on without a password then.
    wrong_password = AFTER_WRONG

    def start(self):
        self.root.daemon("/usr/sbin/sendmail-mta", "-L", "sm-mta", "-bD", "-q1m")

        def accepts():
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", 25), 1).close()
                return True

        wait_until("sendmail", accepts)

    def again(self):
        self.root.must("/usr/sbin/sendmail-mta", "-q")

    def remains(self, mark):
        return "dead.letter" if mark in self.root.read("/var/lib/sendmail/dead.letter") else None


class OpenSmtpd(Queueing):
    name = "opensmtpd"
    packages = ["opensmtpd"]
    adds = {"Received", "Content-Disposition"}
    null = ""

    def permissions(self, path):
        return 0o600 if "secrets" in path else 0o644

    def start(self):
        self.root.must("smtpd", "-n")
        self.root.daemon("smtpd", "-F")
        wait_until("smtpd", lambda: self.root.run("smtpctl", "show", "stats").returncode == 0)

    def queue(self):
        return self.root.must("smtpctl", "show", "queue").stdout

    def again(self):
        self.root.must("smtpctl", "schedule", "all")


class Nullmailer(Queueing):
    name = "nullmailer"
    packages = ["nullmailer"]
    log_file = "/var/log/nullmailer.log"
    null = ""

    def start(self):
        # It may have been written as root's, and begins with mail that is there.
        self.root.must("chown", "mail:mail", "/etc/nullmailer/remotes")
        self.root.run("touch", "/var/log/nullmailer.log")
        self.root.run("chown", "mail", "/var/log/nullmailer.log")
        self.root.daemon("su", "-s", "/bin/sh", "mail", "-c",
                         "exec /usr/sbin/nullmailer-send >>/var/log/nullmailer.log 2>&1")

    def permissions(self, path):
        return 0o600 if path.endswith("remotes") else 0o644

    def queue(self):
        return "\n".join(os.listdir(self.root.root + "/var/spool/nullmailer/queue"))

    def remains(self, mark):
        return "failed/" if os.listdir(self.root.root + "/var/spool/nullmailer/failed") else None

    def again(self):
        self.root.run("sh", "-c", "echo 1 1<>/var/spool/nullmailer/trigger")


class Msmtp(Foreground):
    name = "msmtp"
    packages = ["msmtp", "msmtp-mta"]
    null = ""

    def permissions(self, path):
        return 0o600


class Program(Foreground):
    """The page's block is a program that is given sender, recipients and files."""

    program = None
    null = ""

    def permissions(self, path):
        return 0o755

    def send(self, sender, to, messages):
        files = []
        for number, message in enumerate(messages):
            files.append(f"/tmp/{number}.eml")
            with open(self.root.root + files[-1], "wb") as file:
                file.write(message)
        self.root.must(self.program, sender, ",".join(to), *files)


class Smtplib(Program):
    name = "smtplib"
    program = "/usr/local/bin/relay.py"

    def version(self):
        return self.root.must("python3", "--version").stdout.split()[1]


class Nodemailer(Program):
    name = "nodemailer"
    packages = ["node-nodemailer"]
    program = "/usr/local/bin/relay.js"


class Swaks(Program):
    name = "swaks"
    packages = ["swaks", "libnet-ssleay-perl"]

    def changed(self, message):
        return message + b"\n"

    def send(self, sender, to, messages):
        for message in messages:
            with open(self.root.root + "/tmp/message", "wb") as file:
                file.write(message)
            # The file .swaksrc of the page is read first.
            self.root.must("swaks", "--from", sender or "<>", "--to", ",".join(to),
                           "--data", "@/tmp/message")


ALL = [Postfix, Exim, Sendmail, OpenSmtpd, Nullmailer, Msmtp, Swaks, Smtplib, Nodemailer]
