"""SMP hosts to test the tests of hosts with: ``hosts.py KIND PORT BAUDRATE IMAGE``. One that does everything right, and
some that each do one thing wrong."""

import os
import select
import sys
import time
from pathlib import Path

import serial

from pytest_nrfdfu.image import mcuboot
from pytest_nrfdfu.smp import console
from pytest_nrfdfu.smp.codec import decode, encode
from pytest_nrfdfu.smp.messages import ImageStateRead, ResetRequest, UploadRequest

CHUNK = 512
PATIENCE = 0.5
"""Seconds for a response; an erase takes 0.1."""
TRIES = 14
"""So that a response may be late by 4 s, and a board that says nothing is given up within 10."""


class GivesUpError(Exception):
    pass


class Host:
    """Stop and wait. A subclass does one thing wrong."""

    chunk = CHUNK
    tries = TRIES
    one_sequence = False
    newline = b"\n"
    compares = True
    patience = PATIENCE

    def __init__(self, port, baudrate):
        self.port = serial.serial_for_url(port, baudrate=baudrate, timeout=0.02, write_timeout=5)
        self.decoder = console.Decoder()
        self.sequence = 0

    def wire(self, packet):
        return console.encode(packet).replace(b"\n", self.newline)

    def ask(self, request):
        for _ in range(self.tries):
            if not self.one_sequence:
                self.sequence = (self.sequence + 1) % 256
            self.port.write(self.wire(encode(request, self.sequence)))
            payload = self.response()
            if payload is not None:
                return payload
        raise GivesUpError(f"no response to {type(request).__name__}")

    def response(self):
        deadline = time.monotonic() + self.patience
        while time.monotonic() < deadline:
            for event in self.decoder.feed(self.port.read(max(1, self.port.in_waiting))):
                if isinstance(event, console.Packet):
                    message = decode(event.data)
                    if message.header.sequence == self.sequence:
                        return message.payload
        return None

    def upload(self, image):
        off = 0
        while off < len(image):
            data = image[off : off + self.chunk]
            payload = self.ask(UploadRequest(off=off, data=data, length=None if off else len(image)))
            self.check(payload)
            off = self.next_offset(off, data, payload)

    def check(self, payload):
        if payload.get("rc"):
            raise GivesUpError(f"rc {payload['rc']}")

    def next_offset(self, _off, _data, payload):
        return payload["off"]

    def update(self, image):
        self.ask(ImageStateRead())
        self.upload(image)
        listed = [entry.get("hash") for entry in self.ask(ImageStateRead())["images"]]
        if self.compares and mcuboot.parse(image).hash not in listed:
            raise GivesUpError("the board does not list the image")
        self.ask(ResetRequest())


class Stubborn(Host):
    """Counts itself how far it is."""

    def next_offset(self, off, data, _payload):
        return off + len(data)


class Hasty(Host):
    """Asks once."""

    tries = 1


class Careless(Host):
    """Takes every response for good."""

    compares = False

    def check(self, payload):
        pass

    def next_offset(self, off, data, payload):
        return payload.get("off", off + len(data))


class Blind(Host):
    """Neither asks what the board holds, nor starts it."""

    def update(self, image):
        self.upload(image)


class Greedy(Host):
    """Sends packets as large as the receive size says."""

    chunk = 1020
    tries = 2


class Windows(Host):
    """Ends its lines with CR LF."""

    newline = b"\r\n"
    tries = 2


class Monotone(Host):
    """Knows one sequence number."""

    one_sequence = True


class Uneven(Stubborn):
    """Counts itself, and sends chunks of which MCUboot writes a part."""

    chunk = 510
    tries = 2


class Impatient(Host):
    """Asks again before a page is erased."""

    patience = 0.03


class Flooding(Host):
    """Sends more than there are line buffers."""

    def update(self, image):
        first = UploadRequest(off=0, data=image[:64], length=len(image))  # a page is erased meanwhile
        requests = [first, *[ImageStateRead()] * 11]
        self.port.write(b"".join(self.wire(encode(request, 100 + n)) for n, request in enumerate(requests)))
        super().update(image)


class LongLines(Host):
    """Sends each packet as one line."""

    tries = 2

    def wire(self, packet):
        lines = super().wire(packet).splitlines()
        return lines[0] + b"".join(line[2:] for line in lines[1:]) + b"\n"


def upload_over(descriptor, image):
    """Upload through a file descriptor, from the far end of a UART; returns how many requests that took."""
    decoder = console.Decoder()
    off = sequence = 0
    while off < len(image):
        request = UploadRequest(off=off, data=image[off : off + CHUNK], length=None if off else len(image))
        os.write(descriptor, console.encode(encode(request, sequence % 256)))
        packets = []
        while not packets:
            assert select.select([descriptor], [], [], 10)[0], f"no response to the chunk at {off}"
            packets = [e.data for e in decoder.feed(os.read(descriptor, 4096)) if isinstance(e, console.Packet)]
        off += len(request.data)
        sequence += 1
    return sequence


HOSTS = {"right": Host} | {kind.__name__.lower(): kind for kind in (*Host.__subclasses__(), Uneven)}


if __name__ == "__main__":
    name, where, rate, file = sys.argv[1:]
    try:
        HOSTS[name](where, int(rate)).update(Path(file).read_bytes())
    except GivesUpError as error:
        sys.exit(f"{name}: {error}")
