"""Runs the suite for SMP hosts, and reads its table."""

import re
import subprocess
import sys
from typing import NamedTuple

DEADLINE = 400.0
"""Seconds for all checks of one host; a minute is usual."""


class Table(NamedTuple):
    """`results` by the function's name of each check; `text` as it was printed."""

    results: dict[str, str]
    text: str

    @property
    def wrong(self):
        return {name for name, word in self.results.items() if word != "right"}


def run(command, *arguments, folder):
    """The table of the host `command`; all checks in one process."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-rA", "-q", "--tb=no", "-p", "no:cacheprovider"),
            *("--rootdir", str(folder), "--pyargs", "pytest_nrfdfu.host_conformance"),
            *("--nrfdfu-target-baudrate", "1000000", "--nrfdfu-target-timeout", "30"),
            *("--nrfdfu-target-command", command, *arguments),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode in {0, 1}, said
    outcomes = {}
    for word, name in re.findall(r"^(PASSED|FAILED|ERROR) \S*::test_(\w+)", said, re.MULTILINE):
        outcomes[name] = "right" if word == "PASSED" else "WRONG"
    start = said.index("host under test:")
    text = said[start : said.index(" right\n", start) + len(" right\n")]
    assert text.count("\nright ") == sum(word == "right" for word in outcomes.values()), said
    assert text.count("\nWRONG ") == sum(word == "WRONG" for word in outcomes.values()), said
    return Table(outcomes, text)
