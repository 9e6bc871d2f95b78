"""The SMP host in C of examples/stm32_host, driven from Python: its functions, and whole updates in virtual time.

Run as a script it is the fuzzer, ``stm32.py LIBRARY SEEDS``: for a library built with sanitizers, which want to be in
a process before everything else (LD_PRELOAD).
"""

import ctypes
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

from cbor2 import loads
from firmware import unavailable

from pytest_nrfdfu.image.bootloader import PROFILES
from pytest_nrfdfu.sim.board import BoardOptions, SimBoard
from pytest_nrfdfu.sim.uart import UartConfig
from pytest_nrfdfu.smp import console
from pytest_nrfdfu.smp.codec import dumps
from pytest_nrfdfu.smp.header import HEADER_SIZE, Header
from pytest_nrfdfu.wire.capture import Capture

SOURCE = Path(__file__).parents[1] / "examples" / "stm32_host"
WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-Wpedantic", "-Wconversion", "-Wshadow")
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g")
TX_SIZE = 7 * 93
RX_SIZE = 1024
STATUS = (
    *("ok", "no answer", "refused", "broken", "stuck", "too small", "application"),
    *("no image", "not listed", "no hash"),
)
"""smp_status, in its order."""
GIVE_UP = 3000.0
"""Virtual seconds: more than the host takes to give up anything."""
SLOT0 = 0x10000


def make(*words, folder, timeout=120):
    """Run make in the example, its results in `folder`; returns what it printed."""
    for program in ("make", "gcc" if "linux" in words else "arm-none-eabi-gcc"):
        if shutil.which(program) is None:
            unavailable(f"{program} is not installed")
    command = ["make", "-s", "-f", SOURCE / "Makefile", f"BUILD={folder}", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr, done.stderr
    return done.stdout


def build_library(folder, *flags, source=SOURCE):
    """smp_*.c as a shared library for this process; its path."""
    if shutil.which("gcc") is None:
        unavailable("gcc is not installed")
    path = folder / "libsmp_host.so"
    sources = [source / "smp_codec.c", source / "smp_host.c"]
    command = ["gcc", *WARNINGS, "-O1", *flags, "-shared", "-fPIC", "-o", path, *sources]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return path


class Writer(ctypes.Structure):
    _fields_ = (
        ("frame", ctypes.c_void_p),
        ("at", ctypes.c_void_p),
        ("end", ctypes.c_void_p),
        ("ok", ctypes.c_bool),
    )


class Decoder(ctypes.Structure):
    _fields_ = (
        ("buffer", ctypes.c_void_p),
        ("size", ctypes.c_size_t),
        ("have", ctypes.c_size_t),
        ("bits", ctypes.c_uint32),
        ("chars", ctypes.c_uint8),
        ("padded", ctypes.c_uint8),
        ("before", ctypes.c_uint8),
        ("open", ctypes.c_bool),
        ("inside", ctypes.c_bool),
    )


NOW = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_void_p)
WRITE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
READ = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)


class Port(ctypes.Structure):
    _fields_ = (("now_ms", NOW), ("write", WRITE), ("read", READ), ("context", ctypes.c_void_p))


class HostState(ctypes.Structure):
    _fields_ = (
        ("port", Port),
        ("baud", ctypes.c_uint32),
        ("tx", ctypes.c_void_p),
        ("tx_size", ctypes.c_size_t),
        ("decoder", Decoder),
        ("sequence", ctypes.c_uint8),
        ("flush", ctypes.c_bool),
        ("patience_ms", ctypes.c_uint32),
        ("first_ms", ctypes.c_uint32),
        ("tries", ctypes.c_uint8),
        ("rc", ctypes.c_uint32),
        ("off", ctypes.c_uint32),
        ("repeats", ctypes.c_uint32),
        ("late", ctypes.c_uint8 * 32),
    )


class Library:
    """The C functions, with Python's types."""

    def __init__(self, path):
        self.c = ctypes.CDLL(str(path))
        self.c.smp_finish.restype = self.c.smp_line.restype = ctypes.c_size_t
        self.c.smp_decoder_feed.restype = ctypes.c_size_t
        self.c.smp_crc16.restype = ctypes.c_uint16
        self.c.smp_image_hash.restype = ctypes.c_void_p

    def crc16(self, data):
        return self.c.smp_crc16(data, ctypes.c_size_t(len(data)))

    def request(self, op, group, command, sequence, payload, size=4096):
        """The frame of a request; `payload` is a dict of what the C writer can write. Empty if it does not fit."""
        writer, buffer = Writer(), ctypes.create_string_buffer(size)
        here = ctypes.byref(writer)
        self.c.smp_begin(here, buffer, ctypes.c_size_t(size), op, group, command)
        self.c.smp_put_map(here, len(payload))
        for key, value in payload.items():
            self.c.smp_put_text(here, key.encode())
            if isinstance(value, bytes):
                self.c.smp_put_bytes(here, value, ctypes.c_size_t(len(value)))
            else:
                self.c.smp_put_uint(here, value)
        size = self.c.smp_finish(here, sequence)
        return buffer.raw[:size]

    def lines(self, frame):
        """What goes over the wire for a frame, line by line."""
        at, line, lines = ctypes.c_size_t(), ctypes.create_string_buffer(127), []
        while size := self.c.smp_line(frame, ctypes.c_size_t(len(frame)), ctypes.byref(at), line):
            lines.append(line.raw[:size])
        return lines

    def decode(self, data, size=RX_SIZE):
        """The packets in bytes from the UART."""
        decoder, buffer = Decoder(), ctypes.create_string_buffer(size)
        self.c.smp_decoder_init(ctypes.byref(decoder), buffer, ctypes.c_size_t(size))
        sizes = (self.c.smp_decoder_feed(ctypes.byref(decoder), byte) for byte in data)
        return [buffer.raw[2 : 2 + size] for size in sizes if size]

    def image_hash(self, image):
        """The hash in a signed image, None if there is none."""
        size = ctypes.c_uint8()
        exact = (ctypes.c_char * len(image)).from_buffer_copy(image)
        at = self.c.smp_image_hash(exact, ctypes.c_size_t(len(image)), ctypes.byref(size))
        return ctypes.string_at(at, size.value) if at else None


class Line:
    """Between host and board: nothing happens on this one."""

    def to_board(self, data):
        return data

    def to_host(self, data):
        return data


class BadLine(Line):
    """Loses, turns, repeats and invents bytes and lines; the same ones for the same seed."""

    def __init__(self, seed, rate):
        self._random = random.Random(seed)
        self._rate = rate
        self.damage = 0

    def to_board(self, data):
        return self._damaged(data)

    def to_host(self, data):
        return self._damaged(data)

    def _damaged(self, data):
        out = bytearray()
        for byte in data:
            if self._random.random() >= self._rate:
                out.append(byte)
                continue
            self.damage += 1
            match self._random.randrange(5):
                case 0:
                    pass
                case 1:
                    out.append(byte ^ 1 << self._random.randrange(8))
                case 2:
                    out += bytes((byte, byte))
                case 3:
                    out += self._random.randbytes(self._random.randrange(1, 6)) + bytes((byte,))
                case 4:
                    out += self._random.choice((b"\n", b"\x06\x09", b"\x04\x14", b"log: text\n", bytes(out)))
        return bytes(out)


class MadBoard:
    """Answers each request with a right frame and header, and a payload that makes no sense, or nearly does."""

    SEEDS = (
        {"rc": 0, "off": 616},
        {"rc": 0, "off": 2**40},
        {"rc": 3},
        {"images": []},
        {"images": []},
        {"off": -1},
        {"images": [{"slot": 0, "hash": b"h" * 32, "version": "1.2.3"}]},
        {"images": [{"hash": b"h" * 200, "version": "9" * 80, "slot": 1.5, "flags": [True, None, {"a": [[[]]]}]}]},
        {"images": [[[[[[[[[[[[]]]]]]]]]]]]},
        {"images": {"a": 1}, "splitStatus": 0},
        [1, 2],
        b"\xbf\x7a\x7f\xff\xff\xff\x00",  # a key of 2 GiB
    )

    def __init__(self, seed):
        self._random = random.Random(seed)
        self._decoder = console.Decoder()
        self._answers = b""

    def receive(self, data, now):
        for event in self._decoder.feed(data):
            if isinstance(event, console.Packet):
                self._answers += console.encode(self._answer(Header.unpack(event.data)))

    def _answer(self, asked):
        seed = self._random.choice(self.SEEDS)
        payload = bytearray(seed if isinstance(seed, bytes) else dumps(seed))
        for _ in range(self._random.choice((0, 0, 1, 3))):
            payload[self._random.randrange(len(payload))] = self._random.choice((0xFF, 0xBF, 0x9F, 0x5F, 0xC0, 0x1A, 0))
        payload = payload[: self._random.choice((len(payload), self._random.randrange(len(payload) + 1)))]
        header = asked._replace(op=asked.op + 1, length=len(payload))
        return header.pack() + payload

    def advance(self, now):
        answers, self._answers = self._answers, b""
        return answers

    def next_event(self):
        return None


class ScriptedBoard:
    """Answers each request with what `answer`, called with header and payload, returns, `delay` seconds later."""

    def __init__(self, answer, delay=0.0):
        self._answer, self._delay = answer, delay
        self._decoder = console.Decoder()
        self._answers = []

    def receive(self, data, now):
        for event in self._decoder.feed(data):
            if isinstance(event, console.Packet):
                asked = Header.unpack(event.data)
                payload = dumps(self._answer(asked, loads(event.data[HEADER_SIZE:])))
                header = asked._replace(op=asked.op + 1, length=len(payload))
                self._answers.append((now + self._delay, console.encode(header.pack() + payload)))

    def advance(self, now):
        due = [answer for when, answer in self._answers if when <= now]
        del self._answers[: len(due)]
        return b"".join(due)

    def next_event(self):
        return self._answers[0][0] if self._answers else None


class Host:
    """The C host at the end of a wire in virtual time. `machine`: the board's; `first_ms`: where its clock begins."""

    def __init__(self, library, machine, line=None, *, baudrate=115200, tx_size=TX_SIZE, first_ms=0, start=1.0):
        self._library, self._machine, self._line = library, machine, line or Line()
        self._baudrate, self._first_ms = baudrate, first_ms
        self.now = start
        self._received = bytearray()
        self.traffic = []
        self.errors = []
        self._callbacks = Port(NOW(self._now_ms), WRITE(self._write), READ(self._read), None)
        # Without a terminating byte, so that a sanitizer sees the first one too many.
        self._tx, self._rx = (ctypes.c_char * tx_size)(), (ctypes.c_char * RX_SIZE)()
        self.state = HostState()
        machine.advance(start)
        library.c.smp_host_init(
            ctypes.byref(self.state),
            ctypes.byref(self._callbacks),
            baudrate,
            self._tx,
            ctypes.c_size_t(tx_size),
            self._rx,
            ctypes.c_size_t(RX_SIZE),
        )

    def update(self, image, *, number=0, reset=False):
        """The status of an update, in a word or two of `STATUS`."""
        exact = (ctypes.c_char * len(image)).from_buffer_copy(image)
        size = ctypes.c_size_t(len(image))
        status = self._library.c.smp_update(ctypes.byref(self.state), number, exact, size, ctypes.c_bool(reset))
        if self.errors:
            raise self.errors[0]
        return STATUS[status]

    def verify(self, image, *, number=0):
        """The same of only looking for the image in the list."""
        status = self._library.c.smp_verify(ctypes.byref(self.state), number, image, ctypes.c_size_t(len(image)))
        return STATUS[status]

    def reset(self):
        """The same of a reset."""
        return STATUS[self._library.c.smp_reset(ctypes.byref(self.state))]

    @property
    def capture(self):
        """What passed, as the host saw it."""
        return Capture.of(self.traffic)

    def _now_ms(self, _context):
        return (int(self.now * 1000) + self._first_ms) & 0xFFFFFFFF

    def _write(self, _context, data, size):
        try:
            sent = ctypes.string_at(data, size)
            self._machine.receive(self._line.to_board(sent), self.now)
            self._wait(self.now + size * 10 / self._baudrate)
            self.traffic.append((self.now, "tx", sent))
        except Exception as error:  # noqa: BLE001 - ctypes would print it and go on
            self.errors.append(error)

    def _read(self, _context):
        try:
            assert self.now < GIVE_UP, "it does not come to an end"
            if not self._received:
                event = self._machine.next_event()
                self._wait(min(self.now + 0.02, max(event or GIVE_UP, self.now + 0.0005)))
        except Exception as error:  # noqa: BLE001
            self.errors.append(error)
            self.now += 1.0
        return self._received.pop(0) if self._received else -1

    def _wait(self, until):
        self.now = until
        came = self._line.to_host(self._machine.advance(until))
        if came:
            self.traffic.append((until, "rx", came))
            self._received += came


def board(profile="ncs-2.6", *, baudrate=115200, **options):
    """A simulated board in recovery."""
    uart = UartConfig(baudrate=baudrate)
    return SimBoard(BoardOptions(profile=PROFILES[profile], uart=uart, stay_in_recovery=True, **options))


def sanitized(library, seeds):
    """Run the fuzzer in a process of its own, with sanitizers; returns what it printed."""
    runtimes = []
    for name in ("libasan.so", "libubsan.so"):
        found = subprocess.run(["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout
        runtimes.append(found.strip())
    environment = {
        **os.environ,
        "LD_PRELOAD": " ".join(runtimes),
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0",  # the interpreter leaves memory to the end of its process
        "PYTHONMALLOC": "malloc",  # or buffers have no red zones
    }
    command = [sys.executable, __file__, str(library), str(seeds)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


def fuzz_parsers(library, chance, image):
    """Frames that do not fit, or are none, and images that are broken or cut off."""
    text = bytes(chance.choices(b"AQgw/+09", k=200))
    library.decode(b"\x06\x09" + text + b"=" * chance.randrange(4) + text + b"\n", 64)
    library.decode(console.encode(chance.randbytes(chance.randrange(40, 90))), 64)
    library.image_hash(image[: chance.choice((chance.randrange(600), len(image) - chance.randrange(50)))])
    broken = bytearray(image)
    broken[chance.choice((*range(8, 16), *range(len(image) - 40, len(image) - 32)))] ^= 1 << chance.randrange(8)
    library.image_hash(bytes(broken))


def fuzz(library, seeds):
    """Updates over bad lines, of boards that are reset halfway, and of boards that answer nonsense."""
    from simulator import make_image

    image = make_image("4.5.6", 4000)
    rates = (0.0, 0.0003, 0.001, 0.002, 0.02)
    ended = dict.fromkeys(STATUS, 0)
    damage = repeats = 0
    for seed in range(seeds):
        rate = rates[seed % len(rates)]
        target, line = board(baudrate=1_000_000), BadLine(seed, rate)
        host = Host(library, target.machine, line, baudrate=1_000_000, first_ms=-2000, tx_size=TX_SIZE - seed % 300)
        host.state.first_ms, host.state.tries = 1000, 30  # the board erases progressively; and the line is bad
        status = host.update(image)
        ended[status] += 1
        damage, repeats = damage + line.damage, repeats + host.state.repeats
        assert rate or (status, host.state.repeats) == ("ok", 0), f"seed {seed}: {status}"
        assert rate > 0.001 or status == "ok", f"seed {seed}: {status}"
        assert status != "ok" or target.read_flash(SLOT0, len(image)) == image, f"seed {seed}: not what it says"
        mad = Host(library, MadBoard(seed)).update(image)
        assert mad != "ok", f"seed {seed}: nonsense was taken for an update"
        ended[mad] += 1
        fuzz_parsers(library, random.Random(seed), image)
    return f"{seeds} seeds, {damage} faults, {repeats} repeats, {ended}"


assert HEADER_SIZE == 8


if __name__ == "__main__":
    print(fuzz(Library(sys.argv[1]), int(sys.argv[2])))  # noqa: T201
