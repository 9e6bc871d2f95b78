"""The suite for SMP hosts says of hosts what they were made to do."""

import os
import re
import selectors
import subprocess
import sys
import time
import tty
from pathlib import Path

import host_table
import hosts
import pytest

HOSTS = Path(__file__).with_name("hosts.py")

WRONG = {
    "right": set(),
    "stubborn": {"offset_goes_back", "reset_halfway"},
    "hasty": {"lost_response", "lost_request", "late_response", "reset_halfway"},
    "careless": {"refused_chunk", "corrupted_image"},
    "blind": {"asks_for_the_image_list", "reads_the_hash_back", "starts_the_image", "corrupted_image"},
}
"""What each host does wrong, by the names of the checks."""


def table_of(kind, *arguments, folder):
    return host_table.run(f"{{python}} {HOSTS} {kind} {{port}} {{baudrate}} {{image}}", *arguments, folder=folder)


@pytest.mark.parametrize("kind", WRONG)
def test_hosts_are_told_apart(kind, tmp_path):
    # What takes seconds for every host is left out where it tells nothing new.
    some = () if kind in {"right", "hasty"} else ("-k", "not silent_board and not late_response")
    table = table_of(kind, *some, folder=tmp_path)
    assert len(table.results) > 18, table.text
    assert table.wrong == WRONG[kind], table.text


@pytest.mark.parametrize(
    ("kind", "check", "said"),
    [
        ("greedy", "packets_fit", "1021 fit"),
        ("greedy", "uploads_completely", "slot 0 does not hold the image; exit status 1"),
        ("windows", "packets_are_clean", "line-crlf"),
        ("longlines", "lines_fit", "bytes, newline included; 128 are kept"),
        ("flooding", "lines_in_flight_fit", "lines waited behind an unanswered request, and there is room for 7"),
        ("uneven", "offsets_are_obeyed", "told to go on at 508, it sent offset 510"),
        ("impatient", "repeats_nothing_that_is_answered", "it sent the chunks at [0"),
        ("monotone", "every_request_has_its_own_sequence", "requests have their predecessor's number"),
    ],
)
def test_packets_are_judged(kind, check, said, tmp_path):
    """One check alone, since a host that gets nowhere fails nearly all."""
    table = table_of(kind, "-k", f"test_{check}", folder=tmp_path)
    assert table.results == {check: "WRONG"}, table.text
    assert said in table.text


@pytest.mark.parametrize("command", ["false {port} {image}", "true {port} {image}"])
def test_a_host_that_sends_nothing_does_nothing_right(command, tmp_path):
    table = host_table.run(command, folder=tmp_path)
    assert len(table.results) == 21
    assert set(table.results.values()) == {"WRONG"}, table.text
    assert "0 of 21 right" in table.text


def test_over_tcp(tmp_path):
    table = table_of(
        "right", "--nrfdfu-target-uart", "tcp", "-k", "test_uploads or test_lost_response", folder=tmp_path
    )
    assert table.results == {"uploads_completely": "right", "lost_response": "right"}, table.text


def test_without_a_host_there_is_a_reason(pytester):
    result = pytester.runpytest_subprocess("--pyargs", "pytest_nrfdfu.host_conformance", "-rs")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["*needs a host to test: --nrfdfu-target-command*"])
    result.stdout.fnmatch_lines(["nothing was tested: no host was given"])
    assert "of 21 right" not in result.stdout.str()


def test_by_hand(tmp_path):
    """A person, who is told when, starts the host at the other end of a serial port; also in a quiet run."""
    master, slave = os.openpty()
    tty.setraw(slave)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    command += ["--pyargs", "pytest_nrfdfu.host_conformance", "-k", "test_uploads or test_corrupted"]
    command += ["--nrfdfu-target-uart", os.ttyname(slave), "--nrfdfu-target-timeout", "30"]
    child = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    try:
        told = read_until(child.stdout, "start the host now")
        image = re.search(r"the image is (\S+)\. 30 s", told)[1]
        hosts.upload_over(master, Path(image).read_bytes())
        said = told + child.communicate(timeout=30)[0]
    finally:
        child.kill()
        child.communicate()
        os.close(master)
        os.close(slave)
    assert re.search(
        r"^right  Uploads the whole image, and ends well +25 chunks of up to 512 bytes$", said, re.MULTILINE
    ), said
    assert re.search(r"^-      Notices that .* only an exit status would tell$", said, re.MULTILINE), said


def read_until(stream, text):
    deadline = time.monotonic() + 30
    lines = []
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while not (lines and text in lines[-1]):
            assert selector.select(max(0.0, deadline - time.monotonic())), lines
            line = stream.readline()
            assert line, lines
            lines.append(line)
    return "".join(lines)
