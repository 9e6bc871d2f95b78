"""For tests of the simulated board: unsigned images, the simulator as a process, and a bare host on its UART."""

import hashlib
import json
import os
import selectors
import subprocess
import sys
import threading
import time
import warnings
from contextlib import contextmanager

import serial

from pytest_nrfdfu.image.format import TLV_HEADER, TLV_INFO, TLV_INFO_MAGIC, ImageHeader, TlvType, Version
from pytest_nrfdfu.smp import console
from pytest_nrfdfu.smp.codec import decode, encode
from pytest_nrfdfu.smp.messages import ImageStateRead, ResetRequest, UploadRequest

DEADLINE = 20.0
"""Seconds; far more than anything here takes, on any machine."""
SLOT0 = 0x10000


def make_image(version="1.2.3", size=5000):
    """An image that MCUboot without a key accepts: header, body, SHA-256 TLV."""
    body = (b"\x00\x00\x08\x20\x01\x02\x01\x00" + bytes(i * 7 & 0xFF for i in range(size)))[:size]
    header = ImageHeader(img_size=size, version=Version.parse(version)).pack().ljust(0x200, b"\0")
    digest = hashlib.sha256(header + body).digest()
    tlvs = TLV_HEADER.pack(TlvType.SHA256, len(digest)) + digest
    return header + body + TLV_INFO.pack(TLV_INFO_MAGIC, TLV_INFO.size + len(tlvs)) + tlvs


def image_hash(image):
    return image[-32:]


class Process:
    """The simulator as a child process."""

    def __init__(self, *arguments, command=("-m", "pytest_nrfdfu.sim"), stdin=subprocess.PIPE):
        self.child = subprocess.Popen(
            [sys.executable, *command, *map(str, arguments)],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        with selectors.DefaultSelector() as selector:
            selector.register(self.child.stdout, selectors.EVENT_READ)
            ready = selector.select(DEADLINE)
        line = self.child.stdout.readline() if ready else b""
        if not line:
            self.child.kill()
            raise AssertionError(f"the simulator printed nothing: {self.child.communicate()[1].decode()}")
        self.endpoints = json.loads(line)

    def __getitem__(self, name):
        return self.endpoints[name]

    def wait(self):
        """Exit status and stderr, once it has ended by itself."""
        try:
            _, errors = self.child.communicate(timeout=DEADLINE)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.communicate()
            raise
        return self.child.returncode, errors.decode()

    def stop(self):
        if self.child.poll() is None:
            if self.child.stdin is not None and not self.child.stdin.closed:
                self.child.stdin.close()
                self.child.stdin = None
            else:
                self.child.terminate()
        return self.wait() if not self.child.stdout.closed else (self.child.returncode, "")


@contextmanager
def running(*arguments, **kwargs):
    """A simulator that has ended, without an error, when the block is left."""
    process = Process(*arguments, **kwargs)
    try:
        yield process
    except BaseException:
        process.child.kill()
        process.child.communicate()
        raise
    status, errors = process.stop()
    assert (status, errors) == (0, "")


def failure(*arguments):
    """Exit status and stderr of a simulator that must not start."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest_nrfdfu.sim", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.stdout == b""
    return done.returncode, done.stderr.decode()


class Host:
    """The host's end of the UART: no retries, only deadlines."""

    def __init__(self, url):
        self.port = serial.serial_for_url(url, baudrate=115200, timeout=0.05, write_timeout=DEADLINE)
        self.decoder = console.Decoder()
        self.text = b""
        self.packets = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.port.close()

    def poll(self):
        for event in self.decoder.feed(self.port.read(max(1, self.port.in_waiting))):
            match event:
                case console.Packet(data=data):
                    self.packets.append(data)
                case console.Text(data=data):
                    self.text += data
                case _:
                    raise AssertionError(f"the board sent {event}")

    def expect(self, text):
        """Wait for console text; returns all so far and forgets it."""
        deadline = time.monotonic() + DEADLINE
        while text not in self.text:
            assert time.monotonic() < deadline, f"{text!r} did not come, only {self.text!r}"
            self.poll()
        found, self.text = self.text, b""
        return found

    def ask(self, request, sequence=1, patience=DEADLINE):
        """The response to a request, or None after `patience` seconds."""
        self.port.write(console.encode(encode(request, sequence)))
        deadline = time.monotonic() + patience
        while not self.packets:
            if time.monotonic() >= deadline:
                return None
            self.poll()
        response = decode(self.packets.pop(0))
        assert response.header.sequence == sequence
        return request.read(response.payload)

    def ask_until_answered(self, request):
        """Repeat a request that may fall on deaf ears while the board boots."""
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            answer = self.ask(request, patience=0.3)
            if answer is not None:
                return answer
        raise AssertionError(f"no answer to {request}")

    def images(self):
        return self.ask_until_answered(ImageStateRead()).images

    def upload(self, image, chunk=512):
        offset = 0
        while offset < len(image):
            piece = image[offset : offset + chunk]
            length = None if offset else len(image)
            answer = self.ask(UploadRequest(off=offset, data=piece, length=length), sequence=offset // chunk & 0xFF)
            assert answer is not None
            assert answer.off > offset
            offset = answer.off

    def reset(self):
        assert self.ask(ResetRequest()) is not None


@contextmanager
def control_lines(url):
    """pyserial's own client on the control port, opened without a pulse."""
    lines = serial.serial_for_url(url, do_not_open=True)
    lines.dtr = lines.rts = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its Thread.setDaemon
        lines.open()
    try:
        yield lines
    finally:
        lines.close()


def wait_until(condition, what):
    deadline = time.monotonic() + DEADLINE
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen"
        pause.wait(0.01)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
