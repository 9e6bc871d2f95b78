"""Other people's SMP hosts, unmodified: each uploads an image and reads the image list back.

Run as a script this module is the child process that a test starts, because a host may block, print, or need an event
loop: ``peers.py NAME PORT BAUDRATE IMAGE``. Its last line of output is the hash that the host read from slot 0, in hex.
Everything is left at the host's defaults, except the baud rate and what a name says.
"""

import asyncio
import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

DEADLINE = 120.0
"""Seconds for an upload and an image list; the slowest takes some five on an idle machine."""


def smpclient(port, baudrate, image):
    from smpclient import SMPClient
    from smpclient.generics import success
    from smpclient.requests.image_management import ImageStatesRead
    from smpclient.transport.serial import SMPSerialTransport

    async def update():
        async with SMPClient(SMPSerialTransport(baudrate=baudrate), port) as client:
            async for _offset in client.upload(image.read_bytes()):
                pass
            states = await client.request(ImageStatesRead())
            assert success(states), states
            return next(state.hash for state in states.images if state.slot == 0)

    return asyncio.run(update())


def smpmgr(port, baudrate, image):
    command = [sys.executable, "-m", "smpmgr", "--port", port, "--baudrate", str(baudrate), "image"]
    wide = {**os.environ, "COLUMNS": "500"}  # so that it breaks no hash
    subprocess.run([*command, "upload", image], env=wide, check=True)
    shown = subprocess.run([*command, "state-read"], env=wide, check=True, stdout=subprocess.PIPE, text=True).stdout
    slot0 = re.search(r"ImageState\(slot=0\b.*?HashBytes\('([0-9A-F]+)'\)", shown)
    assert slot0, shown
    return bytes.fromhex(slot0[1])


def mcumgr_toolkit(port, baudrate, image, *, negotiate=False):
    import mcumgr_toolkit as toolkit

    client = toolkit.MCUmgrClient.serial(port, baudrate)
    if negotiate:
        client.use_auto_frame_size()
    client.image_upload(image.read_bytes())
    return next(state.hash for state in client.image_get_state() if state.slot == 0)


def mcumgr_toolkit_negotiating(port, baudrate, image):
    return mcumgr_toolkit(port, baudrate, image, negotiate=True)


def mcumgr_client(port, baudrate, image):
    import mcumgr_client as client

    session = client.SerialSession(device=port, baudrate=baudrate)
    session.upload(str(image))
    return bytes(next(state["hash"] for state in session.list() if state["slot"] == 0))


PEERS = {
    "smpclient": ("smpclient", smpclient),
    "smpmgr": ("smpmgr", smpmgr),
    "mcumgr-toolkit": ("mcumgr-toolkit", mcumgr_toolkit),
    "mcumgr-toolkit-negotiating": ("mcumgr-toolkit", mcumgr_toolkit_negotiating),
    "mcumgr-client": ("mcumgr-client-wrapper", mcumgr_client),
}
"""Name: the distribution that it comes in, and how it is used."""


class Outcome(NamedTuple):
    """How a child process ended."""

    returncode: int | None
    """None: it was still at it when its time was over."""
    output: str

    @property
    def hash(self):
        """The hash that the host read; to be asked for only when it ended well."""
        return bytes.fromhex(self.output.splitlines()[-1])


def version(name):
    """The installed version of a peer; None if it is not installed."""
    try:
        return importlib.metadata.version(PEERS[name][0])
    except importlib.metadata.PackageNotFoundError:
        return None


def run(name, port, baudrate, image, deadline=DEADLINE):
    """Let a peer upload the file `image`."""
    return run_script(__file__, name, port, baudrate, image, deadline=deadline)


def run_script(script, *arguments, deadline=DEADLINE):
    """Run a Python script in a process group of its own that ends here in any case."""
    child = subprocess.Popen(
        [sys.executable, script, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = child.communicate(timeout=deadline)
    except subprocess.TimeoutExpired:
        return Outcome(None, _end(child))
    except BaseException:
        _end(child)
        raise
    return Outcome(child.returncode, output)


def _end(child):
    os.killpg(child.pid, 9)  # smpmgr's process as well
    return child.communicate()[0]


if __name__ == "__main__":
    peer, where, rate, file = sys.argv[1:]
    sys.stdout.write(PEERS[peer][1](where, int(rate), Path(file)).hex() + "\n")
