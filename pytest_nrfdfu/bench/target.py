"""A simulated nRF5340 in serial recovery for somebody else's SMP host to update: what it is offered, and what it did.

The host under test connects to `RecoveryTarget.uart` and does its update; the test waits for that, looks at every
packet, and makes things go wrong on the way.
"""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from pytest_nrfdfu.bench.simulator import Simulator
from pytest_nrfdfu.bench.target_bridge import Bridge
from pytest_nrfdfu.config_sim import SimConfig
from pytest_nrfdfu.config_types import BoardConfig
from pytest_nrfdfu.errors import BoardError, SmpTimeout
from pytest_nrfdfu.image.bootloader import BootloaderProfile, profile
from pytest_nrfdfu.image.build import Build
from pytest_nrfdfu.image.mcuboot import Image
from pytest_nrfdfu.sim_admin import Piece, SimAdmin
from pytest_nrfdfu.smp.header import Group, ImageCommand, Op, OsCommand
from pytest_nrfdfu.wire.capture import Capture, Direction
from pytest_nrfdfu.wire.exchange import Exchange, exchanges
from pytest_nrfdfu.wire.frames import Message, messages, read
from pytest_nrfdfu.wire.lint import Finding, Severity, lint

__all__ = ["RecoveryTarget"]

_NAME = "recovery-target"
_POLL = 0.05
"""Seconds between two looks at the board while something is waited for."""
_RECOVERY = 5.0
"""Seconds from a reset into recovery; a simulated board takes far less."""
_NOBODY = "Was the host started, and does it open this port (`recovery_target.uart`)?"
_SHOWN = 4
"""Exchanges at the end that a message of a deadline shows."""
_DIRECTIONS: dict[str, Direction] = {"to board": "tx", "from board": "rx"}


class RecoveryTarget:
    """One simulated board that waits in serial recovery, its slots empty. Use it as a context, or `close` it.

    `uart` is where it is offered: ``pty`` and ``tcp`` make a new port, anything else is a serial port of this computer
    (a name or a pyserial URL) that is wired to the host under test. `sim` holds further settings of the board, among
    them `baudrate` and `bootloader`. It starts an image as a board does, once a valid one is there and it is reset.
    """

    def __init__(self, uart: str = "pty", **sim: Any) -> None:
        made = uart if uart in {"pty", "tcp"} else None
        settings = {"entrance": ("gpio", "no-application"), **sim, "uart": made or "tcp"}
        self.baudrate: int = settings.get("baudrate", SimConfig().baudrate)
        """Bits per second of the UART; 0: any."""
        if made is None:
            settings["baudrate"] = 0  # the real UART sets the pace
        config = SimConfig.model_validate(settings)
        self.profile: BootloaderProfile = profile(config.bootloader)
        """What its bootloader can do."""
        self._bridge: Bridge | None = None
        self._pieces: list[Piece] = []
        self._next = 0
        self._simulator = Simulator(BoardConfig(board=_NAME, sim=config))
        try:
            self.admin = SimAdmin(self._simulator.admin)
            """The simulated board's admin port, for whatever this class does not offer."""
            self.uart: str = uart if made is None else self._simulator.endpoints["uart"]
            """Where the host connects: a pty, a ``socket://`` address, or for a real UART this computer's end of it."""
            if made is None:
                self._bridge = Bridge(uart, self.baudrate or SimConfig().baudrate, self._simulator.endpoints["uart"])
            self._wait_for_recovery()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the board. What was captured so far can still be read."""
        if self._bridge is not None:
            self._bridge.close()
            self._bridge = None
        if hasattr(self, "admin"):
            with suppress(BoardError):  # it may be the simulator that has died
                self._fetch()
            self.admin.close()
        self._simulator.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def bridged(self) -> bool:
        """Whether the host is wired to a real UART, so that it may run on another computer or board."""
        return self._bridge is not None

    # What the host did.

    @property
    def capture(self) -> Capture:
        """Every byte since the start, or since `forget`, with times; tx is what the host sent."""
        self._fetch()
        ordered = sorted(self._pieces, key=lambda piece: piece.time)
        traffic = ((piece.time, _DIRECTIONS[piece.direction], piece.data) for piece in ordered)
        return Capture.of(traffic, f"simulated {self.profile.name}, {self.uart}")

    @property
    def exchanges(self) -> list[Exchange]:
        """The host's requests in their order, each with its response."""
        return exchanges(read(self.capture))

    @property
    def findings(self) -> list[Finding]:
        """What is wrong with the host's packets, as ``nrfdfu trace lint`` says it; `notes` are not among them."""
        return [finding for finding in self._linted() if finding.severity is not Severity.NOTE]

    @property
    def notes(self) -> list[Finding]:
        """What works as it is and could be better: of severity ``note``, which hosts in wide use get as well."""
        return [finding for finding in self._linted() if finding.severity is Severity.NOTE]

    def _linted(self) -> list[Finding]:
        return list(lint(self.capture, profile=self.profile))

    @property
    def updated_to(self) -> bytes | None:
        """The hash of the valid image in slot 0, as the image list gives it; None while there is none."""
        held = self.admin.flash_hash(0)
        return held.image_hash if held.valid else None

    def holds(self, build: Build | Image) -> bool:
        """Whether slot 0 holds the application image of `build`, byte for byte, and MCUboot finds it valid."""
        image = _image(build)
        held = self.admin.flash_hash(0, len(image.data))
        return held.valid and held.image_hash == image.hash and held.sha256 == hashlib.sha256(image.data).digest()

    def wait_updated(self, build: Build | Image, timeout: float = 60.0) -> None:
        """Wait until slot 0 `holds` `build`; SmpTimeout after `timeout` seconds says what the host did so far."""
        deadline = time.monotonic() + timeout
        while not self.holds(build):
            self._check()
            if time.monotonic() >= deadline:
                advice = "Look at the packets: `findings` says what is wrong with them" if self._sent else _NOBODY
                raise SmpTimeout(
                    f"the host has not updated the simulated board to {_image(build).hash.hex()[:12]} within"
                    f" {timeout:g} s. {self.story()}. {advice}"
                )
            time.sleep(_POLL)

    @property
    def _sent(self) -> bool:
        """Whether the host has sent anything."""
        return bool(self.capture.bytes_of("tx"))

    def wait_program(self, program: str, timeout: float = 2.0) -> bool:
        """Wait until the board runs ``application``, ``bootloader`` or ``none``; False after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while (runs := self.admin.counters()["program"]) != program and time.monotonic() < deadline:
            time.sleep(_POLL)
        return bool(runs == program)

    def wait_quiet(self, seconds: float, timeout: float, *, begun: bool = True) -> bool:
        """Wait until nothing has passed for `seconds`, with `begun` only once something has; False after `timeout`."""
        deadline = time.monotonic() + timeout
        last, since = self._fetch(), time.monotonic()
        while time.monotonic() < deadline:
            time.sleep(_POLL)
            self._check()
            count = self._fetch()
            if count != last:
                last, since = count, time.monotonic()
            elif (count or not begun) and time.monotonic() - since >= seconds:
                return True
        return False

    def story(self) -> str:
        """What the host did so far, in a sentence or two."""
        capture = self.capture
        items = read(capture)
        done = exchanges(items)
        sent = len(capture.bytes_of("tx"))
        if not sent:
            return f"It has sent nothing to {self.uart}"
        if not done:
            broken = sum(not isinstance(item, Message) and item.direction == "tx" for item in items)
            return f"It has sent {sent} bytes, but no packet that can be read ({broken} frames or texts)"
        unanswered = sum(exchange.response is None for exchange in done)
        last = "; ".join(map(_line, done[-_SHOWN:]))
        told = [m for m in messages(items) if not m.is_request and m.payload and m.payload.get("off") is not None]
        reached = f", and the board has told offset {told[-1].payload['off']}" if told and told[-1].payload else ""
        return f"It has sent {len(done)} requests, {unanswered} of them unanswered{reached}; the last: {last}"

    def forget(self) -> None:
        """Let `capture`, `exchanges` and `findings` begin anew."""
        self._fetch()
        self._pieces.clear()

    # What happens to the host.

    def inject(
        self,
        nth: int = 1,
        *,
        times: int = 1,
        lost: bool = False,
        late: float = 0.0,
        rc: int | None = None,
        back: int = 0,
        before: bytes = b"",
        ignored: bool = False,
        damage: bool = False,
    ) -> None:
        """Let the `nth` upload request from now on (the next is 1), and `times` in all from there, go wrong.

        `lost`: the response never comes. `late`: it comes so many seconds later. `rc`: the chunk is refused with it.
        `back`: the offset goes back by so many bytes (whole words), which the board then expects again. `before`: noise
        or console text right in front of the response. `ignored`: the request is, as if its CRC had been wrong.
        `damage`: one bit goes wrong on the way to flash.
        """
        self.admin.upload_fault(
            nth,
            times=times,
            lost=lost,
            late=late,
            rc=rc,
            back=back,
            before=before,
            ignored=ignored,
            damage=damage,
        )

    def inject_reset(self, nth: int = 1, delay: float = 0.0) -> None:
        """Let the board lose its supply for a moment, `delay` seconds after the `nth` upload request from now on."""
        self.admin.reset_after(uploads=nth, delay=delay)

    def inject_hang(self, nth: int = 1) -> None:
        """Let the board answer nothing any more from the `nth` upload request on."""
        self.admin.hang_after(uploads=nth)

    def noise(self, data: bytes) -> None:
        """Let the board send `data` now, in the middle of whatever it is sending."""
        self.admin.noise(data)

    def reset(self) -> None:
        """Reset the board into recovery, with nothing armed. What is in flash stays."""
        self.admin.disarm()
        self.admin.set_recovery_pin(low=True)
        try:
            self.admin.press_reset()
            self._wait_for_recovery()
        finally:
            self.admin.set_recovery_pin(low=False)

    def _wait_for_recovery(self) -> None:
        deadline = time.monotonic() + _RECOVERY
        while not self.admin.counters()["in_recovery"]:
            if time.monotonic() >= deadline:
                state = self.admin.counters()["program"]
                raise BoardError(f"the simulated board was not in recovery within {_RECOVERY:g} s: it runs {state}")
            time.sleep(_POLL)

    def _check(self) -> None:
        if self._bridge is not None and self._bridge.failure:
            raise BoardError(self._bridge.failure)

    def _fetch(self) -> int:
        """Bring what has passed since the last time; returns how many pieces there are."""
        if self._simulator.running:
            self._next, pieces = self.admin.traffic(self._next)
            self._pieces += pieces
        return len(self._pieces)


def _image(build: Build | Image) -> Image:
    return build.image if isinstance(build, Build) else build


_NAMES: dict[tuple[int, int], str] = {
    (Group.IMAGE, ImageCommand.STATE): "image list",
    (Group.IMAGE, ImageCommand.UPLOAD): "upload",
    (Group.OS, OsCommand.RESET): "reset",
}


def _line(exchange: Exchange) -> str:
    request, response = exchange.request, exchange.response
    header = request.header
    what = _NAMES.get((header.group, header.command), f"group {header.group} command {header.command}")
    verb = " write" if header.op == Op.WRITE and header.command == ImageCommand.STATE else ""
    payload = request.payload or {}
    where = f" off {payload['off']}" if "off" in payload else ""
    if response is None:
        return f"{what}{verb}{where}: no response"
    answer = response.payload or {}
    shown = ", ".join(f"{key} {answer[key]}" for key in ("rc", "off") if key in answer)
    return f"{what}{verb}{where}: {shown or 'answered'}"
