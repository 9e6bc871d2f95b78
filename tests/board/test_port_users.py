"""Who has a port open: on this host, and in made-up /proc trees."""

import fcntl
import os
import subprocess
import sys

import pytest

from board.conftest import FarEnd
from pytest_nrfdfu.board.port_users import PortUser, in_words, users

DEVICE = "/dev/ttyACM0"


@pytest.fixture
def host(tmp_path):
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/ttyACM0").touch()
    (tmp_path / "proc").mkdir()
    return tmp_path


def process(host, pid, *files, command=b"minicom\0-D\0/dev/ttyACM0\0"):
    folder = host / f"proc/{pid}"
    (folder / "fd").mkdir(parents=True)
    for number, file in enumerate(files):
        (folder / f"fd/{number}").symlink_to(file)
    if command is not None:
        (folder / "cmdline").write_bytes(command)


def lock(host, *pids, device="dev/ttyACM0", kind="FLOCK "):
    told = (host / device).stat()
    file = f"{os.major(told.st_dev):02x}:{os.minor(told.st_dev):02x}:{told.st_ino}"
    lines = [f"{n}: {kind} ADVISORY  WRITE {pid} {file} 0 EOF\n" for n, pid in enumerate(pids, 1)]
    (host / "proc/locks").write_text("".join(lines))


def test_who_has_it_open_is_found_by_the_open_files(host):
    process(host, 41, "/dev/null", DEVICE)
    process(host, 42, "/dev/ttyACM1", "pipe:[12]")
    process(host, 43, DEVICE, command=b"/usr/sbin/ModemManager\0")
    assert users(DEVICE, host) == (
        PortUser(41, "minicom -D /dev/ttyACM0", locks=False),
        PortUser(43, "/usr/sbin/ModemManager", locks=False),
    )


def test_who_locks_it_is_found_although_its_files_cannot_be_read(host):
    process(host, 41, "/dev/null", DEVICE)
    process(host, 99, command=b"python3\0-m\0pytest\0")
    lock(host, 99)
    found = users(DEVICE, host)
    assert found[0] == PortUser(99, "python3 -m pytest", locks=True)
    assert in_words(found) == "it is pid 99 (python3 -m pytest)", "the other one is not in the way"


@pytest.mark.parametrize(
    "changes", [{"device": "dev/ttyACM1"}, {"kind": "POSIX "}], ids=["of another file", "of another kind"]
)
def test_other_locks_do_not_count(host, changes):
    (host / "dev/ttyACM1").touch()
    lock(host, 99, **changes)
    assert users(DEVICE, host) == ()


def test_a_lock_from_outside_of_a_container_has_no_process(host):
    lock(host, 0)
    assert users(DEVICE, host) == ()


def test_nobody_to_be_seen_is_said(host):
    assert in_words(users(DEVICE, host)) == "which process it is cannot be seen from here (as root, `fuser` tells)"


def test_a_process_without_a_command_line_is_named_by_its_number(host):
    process(host, 41, DEVICE, command=None)
    assert in_words(users(DEVICE, host)) == "it is pid 41"


def test_a_long_command_line_is_cut(host):
    process(host, 41, DEVICE, command=b"python3\0" + b"x" * 500)
    (user,) = users(DEVICE, host)
    assert len(user.command) == 120
    assert user.command.endswith("...")


def test_several_are_all_named(host):
    process(host, 41, DEVICE, command=b"one\0")
    process(host, 42, DEVICE, command=b"two\0")
    assert in_words(users(DEVICE, host)) == "it is pid 41 (one) and pid 42 (two)"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_real_process_is_found():
    far = FarEnd()
    script = (
        "import os, sys; os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY); print('open', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, far.path]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert other.stdout.readline() == b"open\n"
        found = {user.pid: user for user in users(far.path)}
        assert sys.executable in found[other.pid].command
        assert "this process itself" in str(found[os.getpid()]), "it holds the pty's other end"
    finally:
        other.communicate(timeout=20)
        far.close()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_real_lock_is_found():
    far = FarEnd()
    try:
        fcntl.flock(far._slave, fcntl.LOCK_EX)
        assert users(far.path)[0].pid == os.getpid()
        assert users(far.path)[0].locks
    finally:
        far.close()
