"""What MCUboot says on its console while it boots: Zephyr's banners and minimal log lines.

Most builds with serial recovery have no log, since their only UART is recovery's. The wording is that of MCUboot's
boot/zephyr/main.c, boot/bootutil/src/loader.c, bootutil_public.c, swap_move.c and swap_offset.c; ``I:``, ``W:`` and
``E:`` in front are those of CONFIG_LOG_MODE_MINIMAL, MCUboot's default (Zephyr, subsys/logging/log_minimal.c). Which
version the banner names does not follow the profile: it is made up, as the application's is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pytest_nrfdfu.sim.firmware import Effect, Send

__all__ = ["BootLog"]

_BANNER = "*** Booting MCUboot v2.3.0 ***", "*** Using Zephyr OS build v4.4.0 ***"


@dataclass(frozen=True, slots=True)
class BootLog:
    """Lines for the console; none where the build has no log."""

    enabled: bool = False

    def banner(self) -> Iterator[Effect]:
        """What Zephyr prints before main() (CONFIG_BOOT_BANNER)."""
        for line in _BANNER:
            yield from self._print(line)

    def info(self, text: str) -> Iterator[Effect]:
        """A line at level information."""
        yield from self._print(f"I: {text}")

    def warning(self, text: str) -> Iterator[Effect]:
        """A line at level warning."""
        yield from self._print(f"W: {text}")

    def error(self, text: str) -> Iterator[Effect]:
        """A line at level error."""
        yield from self._print(f"E: {text}")

    def _print(self, line: str) -> Iterator[Effect]:
        if self.enabled:
            yield Send(f"{line}\r\n".encode())
