"""Real clients against `waypost serve`, each set up by its page; a table at the end. Started by scripts/interop."""

import os
import subprocess
import sys
import tempfile
import time
import traceback

import lab
import software
from cases import Mode
from pages import Page

FILES = os.path.dirname(os.path.abspath(__file__))


def certificate(folder):
    """An authority, and a certificate of it for the relay."""
    def openssl(*words):
        subprocess.run(["openssl", *words], check=True, stderr=subprocess.DEVNULL, cwd=folder)

    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=Test authority",
            "-addext", "keyUsage=critical,keyCertSign", "-keyout", "ca.key", "-out", "ca.pem")
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-subj", "/CN=" + lab.RELAY_NAME, "-addext", "subjectAltName=DNS:" + lab.RELAY_NAME,
            "-addext", "basicConstraints=critical,CA:FALSE", "-keyout", "relay.key", "-out", "relay.pem")


def main(waypost, archives, folder, names):
    rows, failed = [], 0
    # Never to be removed file by file: other systems are mounted in it. It goes with this namespace.
    lab.run("mount", "-t", "tmpfs", "tmpfs", folder)
    if True:
        lab.network()
        lab.come_from(lab.CLIENT)
        certificate(folder)
        sink = lab.Sink()
        os.mkdir(folder + "/relay")
        for name in ("relay.pem", "relay.key"):
            os.rename(f"{folder}/{name}", f"{folder}/relay/{name}")
        configuration = Page("README.md").files("The server")["waypost.toml"]
        server = lab.Waypost(waypost, folder + "/relay", configuration)
        for kind in software.ALL:
            if names and kind.name not in names:
                continue
            started = time.monotonic()
            try:
                client = kind(folder, archives)
                version = client.version()
            except Exception as error:
                traceback.print_exc()
                rows.append((kind.name, "", {"": f"FAILED: {error}"}))
                failed += 1
                continue
            for mode in lab_modes(client):
                lab.come_from(lab.CLIENT if mode == "address" else lab.UNLISTED)
                cells, cases = {}, Mode(client, mode, sink, server)
                try:
                    section = client.page.sections.get(software.MODES[mode], "")
                    if not client.page.files(software.MODES[mode]):
                        rows.append((f"{kind.name} {version}", mode, {"": "skipped: " + section.strip().split("\n\n")[0].replace("\n", " ")}))
                        continue
                    client.configure(mode)
                    for title, case in Mode.CASES.items():
                        try:
                            cells[title] = case(cases) or "ok"
                        except Exception as error:
                            if not isinstance(error, lab.Wrong):
                                traceback.print_exc()
                            failed += 1
                            cells[title] = "FAILED"
                            print(f"{kind.name} {mode} {title}: {error}", file=sys.stderr, flush=True)
                            if os.environ.get("INTEROP_LOG"):
                                print(client.root.log()[-4000:], "".join(server.lines[-15:]), file=sys.stderr)
                except Exception as error:
                    failed += 1
                    cells = {title: "FAILED" for title in Mode.CASES}
                    print(f"{kind.name} {mode}: {error}", file=sys.stderr, flush=True)
                rows.append((f"{kind.name} {version}", mode, cells))
                print(rows[-1], file=sys.stderr, flush=True)
            client.stop()
            print(f"{kind.name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        server.process.kill()
    table(rows)
    return 1 if failed else 0


def lab_modes(client):
    return client.modes


def table(rows):
    titles = list(Mode.CASES)
    print(f"{'client':32} {'mode':9}" + "".join(f" {title:>10}" for title in titles))
    for name, mode, cells in rows:
        print(f"{name:32} {mode:9}" + "".join(f" {cells.get(title, ''):>10}" for title in titles) + cells.get("", ""))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4], set(sys.argv[4:])))
