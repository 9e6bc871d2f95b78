"""An application that stages its own update, as the nRF Connect SDK's DFU target library does. Sans-IO.

How the image comes to the application is its own business. Here it comes in commands, one line each, a ``write`` with
its bytes behind the line::

    init SIZE [IMAGE]      ok OFFSET     offset to go on from: 0, or what an earlier transfer left in flash
    write OFFSET LENGTH    ok OFFSET     the next offset; only the next offset is taken
    done                   ok            everything was sent: the rest is written, the slot's last page erased
    schedule [IMAGE]       ok            the image is to be tested at the next boot
    reset                  ok            give up: the slot is erased, and what was kept of a transfer forgotten
    reboot                 ok            soft reset of the chip, a moment later

An error is ``error NUMBER WORDS`` with Zephyr's errno. The bytes of a refused ``write`` are read all the same.

Sources: nRF Connect SDK, subsys/dfu/dfu_target/src/dfu_target.c (order of calls, -EACCES without a target),
dfu_target_mcuboot.c (-EFBIG, the last page, boot_request_upgrade_multi), dfu_target_stream.c (with
CONFIG_DFU_TARGET_STREAM_SAVE_PROGRESS: what was written survives a reset, what was in the buffer does not). The library
itself takes bytes in order and knows no offsets; that another offset is refused is this application's rule.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import NamedTuple

from pytest_nrfdfu.sim.app_flash import SlotStream, erase_slot
from pytest_nrfdfu.sim.app_slots import ApplicationSlots
from pytest_nrfdfu.sim.firmware import Effect, Reboot
from pytest_nrfdfu.sim.slots import SlotArea

__all__ = ["SavedProgress", "StagingCommand", "StagingService", "parse_command", "refusal"]

_ENOENT, _ENOMEM, _EACCES, _EFAULT, _EINVAL, _EFBIG = 2, 12, 13, 14, 22, 27
"""Errno numbers (Zephyr's minimal libc)."""
_REBOOT_DELAY = 0.1
"""Seconds from the answer to the reset, so that it gets out."""
_ARGUMENTS = {"init": (1, 2), "write": (2, 2), "done": (0, 0), "schedule": (0, 1), "reset": (0, 0), "reboot": (0, 0)}
"""Fewest and most numbers behind each word."""


_MAX_LINE = 100
"""Characters: more than any command needs, few enough to be repeated in an answer."""


class StagingError(Exception):
    """What a command is refused with."""

    def __init__(self, errno: int, words: str) -> None:
        super().__init__(words)
        self.errno = errno


class StagingCommand(NamedTuple):
    """One line, and what came behind it."""

    word: str
    numbers: tuple[int, ...]
    data: bytes = b""

    @property
    def payload(self) -> int:
        """How many bytes come behind the line."""
        return self.numbers[1] if self.word == "write" else 0


@dataclass(slots=True)
class SavedProgress:
    """What the settings subsystem keeps over resets: bytes in flash, by image."""

    written: dict[int, int] = field(default_factory=dict)


def parse_command(line: str) -> StagingCommand:
    """A command without its bytes; ValueError says what is wrong."""
    if len(line) > _MAX_LINE:
        raise ValueError(f"a line has at most {_MAX_LINE} characters")
    word, *rest = line.split() or [""]
    if word not in _ARGUMENTS:
        raise ValueError(f"there is no command {word!r}; there are {', '.join(_ARGUMENTS)}")
    fewest, most = _ARGUMENTS[word]
    if not fewest <= len(rest) <= most or not all(item.isdecimal() for item in rest):
        raise ValueError(f"{word} takes {fewest if fewest == most else f'{fewest} or {most}'} numbers")
    return StagingCommand(word, tuple(map(int, rest)))


def refusal(words: str, errno: int = _EINVAL) -> str:
    """The answer to what cannot be done."""
    return f"error {errno} {words}"


@dataclass(slots=True)
class _Target:
    """The current target (dfu_target.c) with its stream."""

    image: int
    stream: SlotStream


class StagingService:
    """One run of the application's own update service. `saved` survives it."""

    def __init__(self, slots: ApplicationSlots, saved: SavedProgress) -> None:
        self._slots = slots
        self._saved = saved
        self._target: _Target | None = None
        self._waiting: deque[tuple[StagingCommand, Callable[[str], None]]] = deque()
        self._reboots = False

    def submit(self, command: StagingCommand, answer: Callable[[str], None]) -> None:
        """Have `command` carried out after those before it; `answer` is called with the answering line."""
        self._waiting.append((command, answer))

    @property
    def waiting(self) -> bool:
        """A command has come that is not carried out yet."""
        return bool(self._waiting)

    def serve(self) -> Generator[Effect, None, None]:
        """Carry out what waits."""
        while self._waiting:
            command, answer = self._waiting.popleft()
            try:
                offset = yield from self._perform(command)
            except StagingError as error:
                answer(refusal(str(error), error.errno))
            else:
                answer("ok" if offset is None else f"ok {offset}")
            if self._reboots:
                self._reboots = False
                yield Reboot(_REBOOT_DELAY)

    def _perform(self, command: StagingCommand) -> Generator[Effect, None, int | None]:
        match command:
            case StagingCommand("init", (size, *image)):
                return self._init(size, image[0] if image else 0)
            case StagingCommand("write", (offset, length), data):
                return (yield from self._write(offset, length, data))
            case StagingCommand("done"):
                yield from self._done()
            case StagingCommand("schedule", numbers):
                yield from self._schedule(numbers[0] if numbers else 0)
            case StagingCommand("reset"):
                yield from self._reset()
            case _:
                self._reboots = True
        return None

    def _current(self) -> _Target:
        if self._target is None:
            raise StagingError(_EACCES, "no target; init comes first")
        return self._target

    def _area(self, image: int) -> SlotArea:
        areas = self._slots.of(image) if image < self._slots.images else ()
        if not areas:
            raise StagingError(_ENOENT, f"there is no image {image}")
        return areas[-1]

    def _init(self, size: int, image: int) -> int:
        """The same target again goes on where it was, whatever it is said to be now; see dfu_target_init."""
        target = self._target
        if target is None or target.image != image:
            area = self._area(image)
            if size > area.size:
                raise StagingError(_EFBIG, f"{size} bytes are more than the slot's {area.size}")
            resume = self._saved.written.get(image, 0)
            start = self._slots.image_start(area)
            stream = SlotStream(area, self._slots.geometry, start=start, erases=True, resume=resume)
            target = self._target = _Target(image, stream)
        return target.stream.received

    def _write(self, offset: int, length: int, data: bytes) -> Generator[Effect, None, int]:
        target = self._current()
        stream = target.stream
        if offset != stream.received:
            raise StagingError(_EINVAL, f"the next offset is {stream.received}, not {offset}")
        if stream.ended:
            raise StagingError(_EINVAL, "flash is written in words, and the image has ended within one")
        if not stream.fits(length):
            raise StagingError(_ENOMEM, "the slot is full")
        yield from stream.write(data)
        self._saved.written[target.image] = stream.written
        return stream.received

    def _done(self) -> Generator[Effect, None, None]:
        target = self._current()
        yield from target.stream.write(b"", last=True)
        self._saved.written.pop(target.image, None)

    def _schedule(self, image: int) -> Generator[Effect, None, None]:
        self._current()  # refuses without a target
        self._area(image)
        rc = yield from self._slots.trailers.set_pending(image, permanent=False)
        if rc != 0:
            raise StagingError(_EFAULT, f"the slot cannot be marked (boot_set_pending: {rc})")

    def _reset(self) -> Generator[Effect, None, None]:
        target = self._current()
        self._saved.written.pop(target.image, None)
        self._target = None
        yield from erase_slot(target.stream.area, self._slots.geometry)
