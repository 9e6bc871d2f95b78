"""Whole updates through a running application by other people's SMP hosts, step by step, each at its defaults.

``peer_trials.py NAME STEP PORT BAUDRATE IMAGE`` carries out one step, as a child process for the reasons of `peers`:

stage   upload to slot 1, find the hash there in the image list, mark it for a test
start   reset, and ask for the image list until it shows that image active
update  both, by one command where the host has one, then ask until it is active
keep    confirm what runs

No host has a command that waits for a board that boots, so asking again and again is done here, with each one's own
request for the image list, after whatever it does when nothing answers.
"""

import asyncio
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from pytest_nrfdfu.image import mcuboot

_PATIENCE = 30.0
"""Seconds for reset, swap and boot."""


def _until_active(read, digest):
    """Ask until `digest` is active; `read` returns the active image's hash, or None when nothing was answered."""
    deadline = time.monotonic() + _PATIENCE
    seen = None
    while seen != digest:
        if time.monotonic() >= deadline:
            raise SystemExit(f"{digest.hex()} did not become active, only {seen}")
        seen = read()


class Smpclient:
    def __init__(self, port, baudrate):
        self._port, self._baudrate = port, baudrate

    def _with_client(self, work):
        from smpclient import SMPClient
        from smpclient.transport.serial import SMPSerialTransport

        async def session():
            async with SMPClient(SMPSerialTransport(baudrate=self._baudrate), self._port) as client:
                return await work(client)

        return asyncio.run(session())

    @staticmethod
    async def _ask(client, request):
        from smpclient.generics import success

        response = await client.request(request)
        assert success(response), response
        return response

    def stage(self, image, digest):
        from smpclient.requests.image_management import ImageStatesRead, ImageStatesWrite

        async def work(client):
            async for _offset in client.upload(image.read_bytes()):
                pass
            listed = await self._ask(client, ImageStatesRead())
            assert next(state.hash for state in listed.images if state.slot == 1) == digest
            await self._ask(client, ImageStatesWrite(hash=digest))

        self._with_client(work)

    def start(self, _image, digest):
        from smpclient.requests.os_management import ResetWrite

        self._with_client(lambda client: self._ask(client, ResetWrite()))
        _until_active(self._active, digest)

    def _active(self):
        from smpclient.requests.image_management import ImageStatesRead

        async def work(client):
            listed = await self._ask(client, ImageStatesRead())
            return next(state.hash for state in listed.images if state.active)

        try:
            return self._with_client(work)
        except (TimeoutError, ValueError):  # it does not get over an answer that the reset cut off
            return None

    def keep(self, _image, _digest):
        from smpclient.requests.image_management import ImageStatesWrite

        self._with_client(lambda client: self._ask(client, ImageStatesWrite(confirm=True)))


class Smpmgr:
    def __init__(self, port, baudrate):
        self._command = [sys.executable, "-m", "smpmgr", "--port", port, "--baudrate", str(baudrate)]

    def _run(self, *arguments, check=True):
        """What it prints, which goes to the output as well; it breaks no line of 500 characters."""
        wide = {**os.environ, "COLUMNS": "500"}
        done = subprocess.run([*self._command, *arguments], env=wide, check=False, stdout=subprocess.PIPE, text=True)
        sys.stdout.write(done.stdout)
        if check:
            done.check_returncode()
        return done.stdout

    def stage(self, image, digest):
        self._run("image", "upload", str(image))
        assert digest.hex().upper() in self._run("image", "state-read")
        self._run("image", "state-write", digest.hex())

    def start(self, _image, digest):
        self._run("os", "reset")
        _until_active(self._active, digest)

    def update(self, image, digest):
        # Without --confirm it marks nothing where --slot is 0, its default (smpmgr 0.19.1, main.py).
        self._run("upgrade", "--confirm", str(image))
        _until_active(self._active, digest)

    def _active(self):
        shown = self._run("image", "state-read", check=False)
        states = re.findall(r"ImageState\(.*?HashBytes\('([0-9A-F]+)'\).*?active=(\w+)", shown)
        return next((bytes.fromhex(digest) for digest, active in states if active == "True"), None)

    def keep(self, _image, _digest):
        self._run("image", "state-write", "--confirm")


class McumgrToolkit:
    def __init__(self, port, baudrate):
        import mcumgr_toolkit as toolkit

        self._client = toolkit.MCUmgrClient.serial(port, baudrate)

    def stage(self, image, digest):
        self._client.image_upload(image.read_bytes())
        assert next(state.hash for state in self._client.image_get_state() if state.slot == 1) == digest
        self._client.image_set_state(digest)

    def start(self, _image, digest):
        self._client.os_system_reset()
        _until_active(self._active, digest)

    def update(self, image, digest):
        self._client.firmware_update(image.read_bytes())
        _until_active(self._active, digest)

    def _active(self):
        try:
            return next(state.hash for state in self._client.image_get_state() if state.active)
        except RuntimeError:
            return None

    def keep(self, _image, _digest):
        self._client.image_set_state(confirm=True)


TRIALS = {"smpclient": Smpclient, "smpmgr": Smpmgr, "mcumgr-toolkit": McumgrToolkit}
"""By the names of `peers.PEERS`."""


if __name__ == "__main__":
    peer, step, where, rate, file = sys.argv[1:]
    path = Path(file)
    getattr(TRIALS[peer](where, int(rate)), step)(path, mcuboot.parse(path.read_bytes()).hash)
