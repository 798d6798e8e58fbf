"""The pages of docs/clients: their sections, and the files that their fenced blocks are."""

import os
import re

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../docs/clients")
MODES = {
    "address": "By address",
    "STARTTLS": "By password, STARTTLS",
    "TLS": "By password, TLS from the start",
}


class Page:
    """One page. A fenced block is a file if its first line names a path behind the language."""

    def __init__(self, name):
        with open(os.path.join(FOLDER, name)) as file:
            parts = re.split(r"(?m)^## (.+)\n", file.read())
        self.sections = dict(zip(parts[1::2], parts[2::2]))

    def files(self, section):
        """The files of a section, by path."""
        found = re.findall(r"(?ms)^```\w+ (\S+)\n(.*?)^```$", self.sections.get(section, ""))
        return dict(found)

    def commands(self, section):
        """The commands of a section, those of one block together."""
        return re.findall(r"(?ms)^```sh\n(.*?)^```$", self.sections.get(section, ""))
