#!/usr/bin/env python3
"""opendkim from its package, as a milter on loopback: a filter made with libmilter, the protocol's own library.

    scripts/interop.d/opendkim.py FILTER_ASK FOLDER     asks it by the program filter_ask; prints a line a case

It verifies signatures, of which there are none, and asks nobody. Nothing is installed.
"""

import glob
import json
import os
import socket
import subprocess
import sys
import time

from rspamd import PATIENCE, message, unpack

CONFIGURATION = """
Mode v
Socket {socket}
Nameservers 127.0.0.1
AlwaysAddARHeader yes
AuthservID filter.example
Syslog no
RequireSafeKeys no
UserID {user}
"""


def start(root, folder, listens, connect):
    path = folder + "/opendkim.conf"
    with open(path, "w") as file:
        file.write(CONFIGURATION.format(socket=listens, user=os.getuid()))
    libraries = sorted({os.path.dirname(path) for path in glob.glob(root + "/**/*.so*", recursive=True)})
    process = subprocess.Popen([root + "/usr/sbin/opendkim", "-f", "-x", path],
                               env=dict(os.environ, LD_LIBRARY_PATH=":".join(libraries)))
    until = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < until:
        try:
            connect().close()
            return process
        except OSError:
            time.sleep(0.02)
    process.kill()
    raise SystemExit("opendkim does not start")


def main(filter_ask, folder):
    folder = os.path.abspath(folder)
    os.makedirs(folder, exist_ok=True)
    root = unpack("opendkim", folder)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    path = folder + "/milter.sock"

    def unix():
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(path)
        return connection

    ways = {
        "TCP": (f"inet:{port}@127.0.0.1", f"milter:127.0.0.1:{port}",
                lambda: socket.create_connection(("127.0.0.1", port), 1)),
        "a Unix socket": ("local:" + path, "milter:unix:" + path, unix),
    }
    forged = b"Authentication-Results: filter.example; dkim=pass\r\n"
    octets = forged + message("libmilter@interop.example", "A plain text.")
    failed = 0
    for way, (listens, address, connect) in ways.items():
        process = start(root, folder, listens, connect)
        try:
            for name, times in [("one message", 1), ("500 messages", 500)]:
                started = time.monotonic()
                done = subprocess.run(
                    [filter_ask, "-", "--json", "--milter", address, "--client-ip", "192.0.2.25",
                     "--source-ip", "203.0.113.9", "--sender", "marie@elsewhere.example", "--times", str(times)],
                    input=octets, capture_output=True, timeout=PATIENCE)
                rate = times / (time.monotonic() - started)
                verdicts = [json.loads(line) for line in done.stdout.splitlines()]
                right = len(verdicts) == times and all(
                    verdict["action"] == "accept"
                    and verdict["headers"][0] == {"delete": {"name": "Authentication-Results", "nth": 1}}
                    and verdict["headers"][1]["insert"]["at"] == 0
                    and verdict["headers"][1]["insert"]["value"].startswith("filter.example; dkim=none")
                    for verdict in verdicts)
                failed += not right
                found = "accept, a forged field deleted, its own on top" if times == 1 else f"{rate:.0f}/s"
                said = (done.stderr + done.stdout)[:600].decode(errors="replace")
                print(f"opendkim, {name + ' over ' + way:32} {found if right else 'FAILED: ' + said}")
        finally:
            process.terminate()
            process.wait(10)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
