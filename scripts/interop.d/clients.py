"""Real clients against `waypost serve`, each set up by its page; a table at the end. Started by scripts/interop."""

import os
import subprocess
import sys
import time

import lab
import software
from cases import Mode
from pages import MODES, Page


def certificate(folder):
    """Two authorities, and a certificate of the first for the relay."""
    def openssl(*words):
        subprocess.run(["openssl", *words], check=True, stderr=subprocess.DEVNULL, cwd=folder)

    for name in ("ca", "other"):
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=Authority " + name,
                "-addext", "keyUsage=critical,keyCertSign", "-keyout", name + ".key", "-out", name + ".pem")
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-subj", "/CN=" + lab.RELAY_NAME, "-addext", "subjectAltName=DNS:" + lab.RELAY_NAME,
            "-addext", "basicConstraints=critical,CA:FALSE", "-keyout", "relay.key", "-out", "relay.pem")


def main(waypost, archives, folder, names):
    # Never to be removed file by file: other systems are mounted in it. It goes with this namespace.
    lab.run("mount", "-t", "tmpfs", "tmpfs", folder)
    lab.network()
    lab.come_from(lab.CLIENT)
    certificate(folder)
    os.mkdir(folder + "/relay")
    for name in ("relay.pem", "relay.key"):
        os.rename(f"{folder}/{name}", f"{folder}/relay/{name}")
    sink = lab.Sink()
    configuration = Page("README.md").files("The server")["waypost.toml"]
    server = lab.Waypost(waypost, folder + "/relay", configuration)
    rows = []
    for kind in software.ALL:
        if kind.name not in names:
            continue
        started = time.monotonic()
        try:
            client = kind(folder, archives)
            title = f"{kind.name} {client.version()}"
        except (lab.Wrong, OSError, subprocess.SubprocessError) as error:
            rows.append((kind.name, "", f"FAILED: {error}"))
            continue
        for mode in MODES:
            rows.append((title, mode, try_mode(client, mode, sink, server)))
        client.stop()
        print(f"{kind.name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    server.process.kill()
    return table(rows)


def try_mode(client, mode, sink, server):
    """The outcome of each case, by its title; or a text for all of them."""
    section = client.page.sections.get(MODES[mode], "")
    if not client.page.files(MODES[mode]):
        return "skipped: " + section.strip().split("\n\n")[0].replace("\n", " ")
    lab.come_from(lab.CLIENT if mode == "address" else lab.UNLISTED)
    cells, cases = {}, Mode(client, mode, sink, server)
    begun = time.monotonic()
    for title, case in {"": Mode.set_up, **Mode.CASES}.items():
        try:
            cells[title] = case(cases) or "ok"
            if os.environ.get("INTEROP_LOG"):
                print(f"{client.name} {mode} {title} {time.monotonic() - begun:.1f}", file=sys.stderr)
        except (lab.Wrong, OSError, subprocess.SubprocessError) as error:
            print(f"{client.name} {mode} {title}: {error}", file=sys.stderr, flush=True)
            if os.environ.get("INTEROP_LOG"):
                print(client.root.log()[-4000:], "".join(server.lines[-15:]), file=sys.stderr)
            if not title:
                return f"FAILED: {error}"
            cells[title] = "FAILED"
    return cells


def table(rows):
    """Prints the outcome; the exit status."""
    titles = list(Mode.CASES)
    print(f"{'client':31} {'way':9}" + "".join(f" {title:>11}" for title in titles))
    for name, mode, cells in rows:
        told = f" {cells}" if isinstance(cells, str) else "".join(f" {cells[title]:>11}" for title in titles)
        print(f"{name:31} {mode:9}{told}")
    return 1 if any("FAILED" in str(cells) for _, _, cells in rows) else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4], set(sys.argv[4:])))
