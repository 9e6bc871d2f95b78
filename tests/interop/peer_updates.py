"""Whole updates by other people's SMP hosts, as the host under test: upload, image list, and reset.

``peer_updates.py NAME PORT BAUDRATE IMAGE``: what each tool offers for it, at its defaults, with no retries added. None
compares the hash by itself after an upload to recovery, and neither does this.
"""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import peers


def smpclient(port, baudrate, image):
    from smpclient import SMPClient
    from smpclient.requests.image_management import ImageStatesRead
    from smpclient.requests.os_management import ResetWrite
    from smpclient.transport.serial import SMPSerialTransport

    async def update():
        async with SMPClient(SMPSerialTransport(baudrate=baudrate), port) as client:
            async for _offset in client.upload(image.read_bytes()):
                pass
            await client.request(ImageStatesRead())
            await client.request(ResetWrite())

    asyncio.run(update())


def smpmgr(port, baudrate, image):
    command = [sys.executable, "-m", "smpmgr", "--port", port, "--baudrate", str(baudrate)]
    for arguments in (("image", "upload", str(image)), ("image", "state-read"), ("os", "reset")):
        subprocess.run([*command, *arguments], env={**os.environ, "COLUMNS": "200"}, check=True)


def mcumgr_toolkit(port, baudrate, image):
    import mcumgr_toolkit as toolkit

    client = toolkit.MCUmgrClient.serial(port, baudrate)
    client.image_upload(image.read_bytes())
    client.image_get_state()
    client.os_system_reset()


def mcumgr_client(port, baudrate, image):
    import mcumgr_client as client

    session = client.SerialSession(device=port, baudrate=baudrate)
    session.upload(str(image))
    session.list()
    session.reset()


UPDATES = {
    "smpclient": smpclient,
    "smpmgr": smpmgr,
    "mcumgr-toolkit": mcumgr_toolkit,
    "mcumgr-client": mcumgr_client,
}
"""By the names of `peers.PEERS`."""
assert set(UPDATES) <= set(peers.PEERS)


if __name__ == "__main__":
    peer, where, rate, file = sys.argv[1:]
    UPDATES[peer](where, int(rate), Path(file))
