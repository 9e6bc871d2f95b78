"""Other people's SMP hosts through the suite for hosts: what each of them survives, and what it does not.

Each uploads, asks for the image list and resets, as `peer_updates` has it. None of them compares the hash in the list
with the image's after an upload to serial recovery, so a corrupted image passes for all. What lint finds in their
packets is real: all send chunks that are no multiple of four bytes, of which MCUboot writes a part; they follow the
offset that it tells then, so that costs a few bytes each time and nothing more.
"""

from pathlib import Path

import firmware
import host_table
import peer_updates
import peers
import pytest

SCRIPT = Path(peer_updates.__file__)

_GIVES_UP = {"lost_response", "lost_request", "late_response", "reset_halfway"}
"""What a host does not survive that sends each request once."""
_IMPATIENT = {"late_response", "console_text", "noise", "packets_are_clean"}
"""mcumgr-client gives up after a second, takes whatever comes for its response, and sends no payload in a request
that needs none (the image list), which MCUboot lets pass and SMP does not (Zephyr, smp_protocol.rst)."""

WRONG = {
    "smpclient": _GIVES_UP | {"corrupted_image"},
    "smpmgr": _GIVES_UP | {"corrupted_image"},
    "mcumgr-toolkit": {"corrupted_image"},
    "mcumgr-client": _IMPATIENT | {"corrupted_image"},
}
"""By the names of the checks."""


@pytest.mark.parametrize("peer", WRONG)
def test_a_peer_does_right_what_it_does_right(peer, tmp_path):
    version = peers.version(peer)
    if version is None:
        firmware.unavailable(f"the package {peers.PEERS[peer][0]} is not installed")
    for _ in range(2):  # on a busy machine the impatient ones may do worse than they do
        table = host_table.run(f"{{python}} {SCRIPT} {peer} {{port}} {{baudrate}} {{image}}", folder=tmp_path)
        print(f"{peer} {version}\n{table.text}")  # noqa: T201 - the table is what this is for
        if table.wrong <= WRONG[peer]:
            break
    assert table.wrong == WRONG[peer], f"{peer} {version}\n{table.text}"
