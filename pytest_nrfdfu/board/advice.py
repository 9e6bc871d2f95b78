"""A cause with its sentence and remedy: those of the debug probe, and of a bootloader that lets an entry pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from pytest_nrfdfu.config_types import Entry

__all__ = ["GPIO_IGNORED", "LOSSY", "PASSED", "PROBE_CAUSES", "Advice"]


class Advice(NamedTuple):
    """What is wrong, by a stable name and in one sentence, and what to do about it, in one sentence."""

    cause: str
    sentence: str
    remedy: str

    def told(self, words: str) -> Advice:
        """With what somebody else said about it, in their words."""
        return self._replace(sentence=f"{self.sentence.rstrip('.')}: {words}.") if words else self


LOSSY = (
    "Check cable, hub and common ground, that nothing else reads the port, and a J-Link's mass storage (J-Link"
    " Commander, MSDDisable); a slower baud rate on both sides helps where the cable is the trouble."
)
"""What to do about a link that damages what it carries."""

PROBE_CAUSES: Mapping[str, Advice] = {
    "no-power": Advice(
        "no-power",
        "The board has no power, as the debug probe finds.",
        "Switch the board on (SW8 on the nRF5340 DK), and look at its supply, its USB cable and [power].",
    ),
    "busy": Advice(
        "probe-busy",
        "The debug probe is in use by another program.",
        "Close the debugger, RTT viewer or other test run that has it.",
    ),
    "unplugged": Advice(
        "probe-unplugged",
        "The debug probe is gone.",
        "Plug it in again, straight into the host if it hangs on a hub.",
    ),
    "not-found": Advice(
        "probe-not-found",
        "The debug probe was not found.",
        "Check that it is plugged in, and unique_id in [probe].",
    ),
    "several": Advice(
        "probe-several",
        "Several debug probes are connected, and the configuration names none.",
        "Name one by unique_id in [probe].",
    ),
    "hangs": Advice(
        "probe-hangs",
        "The debug probe does not answer.",
        "Unplug it and plug it in again, or switch its port of the hub off and on.",
    ),
    "wrong-chip": Advice(
        "probe-wrong-chip",
        "The chip behind the debug probe is not an nRF5340.",
        "Check which probe is wired to which board, and unique_id in [probe].",
    ),
    "no-library": Advice(
        "probe-no-library",
        "The debug probe's driver library is not installed.",
        "Install SEGGER's J-Link software for a J-Link, and libusb for a CMSIS-DAP probe.",
    ),
    "unreachable": Advice(
        "probe-unreachable",
        "The debug probe's server cannot be reached.",
        "Start the probe server on its host (pyocd server), and check the address in [probe].",
    ),
    "permission": Advice(
        "probe-permission",
        "This user may not use the debug probe.",
        "Install the probe's udev rules (SEGGER's or CMSIS-DAP's), then plug it in again.",
    ),
    "died": Advice(
        "probe-died",
        "The process that drives the debug probe died.",
        "Read what it said last, and try the probe alone (pyocd list).",
    ),
    "fault": Advice(
        "probe-fault",
        "The chip refused what the debug probe asked of it.",
        "Check the addresses in [recovery.boot_mode] and [images.app], and the SWD wiring.",
    ),
    "failed": Advice(
        "probe-failed",
        "The debug probe failed.",
        "Check its cable and the SWD wiring, and try it alone (pyocd list).",
    ),
}
"""By the `cause` of a ProbeError."""

GPIO_IGNORED = Advice(
    "gpio-entry-ignored",
    "MCUboot did not stop although its pin reads low and the board was reset: the entry is not built in, or looks at"
    " another pin, or wants it held for longer.",
    "Build MCUboot with CONFIG_BOOT_SERIAL_ENTRANCE_GPIO, look which pin mcuboot-button0 is in its devicetree, and"
    " whether CONFIG_BOOT_SERIAL_DETECT_DELAY is longer than the line is held.",
)
PASSED: dict[Entry, Advice] = {
    "gpio": Advice(
        "gpio-entry-passed",
        "MCUboot started the application although the recovery line was asserted through the reset.",
        "Check that the line reaches the pin that mcuboot-button0 names in MCUboot's devicetree (P0.23 on the nRF5340"
        " DK), at its active level; that the reset is a pin or power reset; and that MCUboot has"
        " CONFIG_BOOT_SERIAL_ENTRANCE_GPIO.",
    ),
    "pin-reset": Advice(
        "pin-reset-entry-not-built-in",
        "MCUboot started the application after the pin reset: this entry is not built in, or another reset cause stood"
        " beside it.",
        "Build MCUboot with CONFIG_BOOT_SERIAL_PIN_RESET, or use another entry.",
    ),
    "boot-mode": Advice(
        "boot-mode-passed",
        "MCUboot started the application although the boot mode was left for it.",
        "Build MCUboot with CONFIG_BOOT_SERIAL_BOOT_MODE, and give the address, prefix and checksum of its retention"
        " area in [recovery.boot_mode].",
    ),
    "wait-for-dfu": Advice(
        "window-missed",
        "MCUboot started the application although it was asked all through its start: it does not wait for an update.",
        "Build MCUboot with CONFIG_BOOT_SERIAL_WAIT_FOR_DFU, or a longer CONFIG_BOOT_SERIAL_WAIT_FOR_DFU_TIMEOUT.",
    ),
    "no-application": Advice(
        "image-still-valid",
        "MCUboot found a valid image and started it, so it did not stay in recovery for want of one.",
        'Use another entry, or set allow_erase_header = true in [recovery], which lets the entry "no-application" erase'
        " the image's header through the probe.",
    ),
    "smp": Advice(
        "application-without-smp",
        "The application runs and answers no SMP request, so it cannot be asked to reboot into the bootloader.",
        "Build it with MCUmgr's OS and image groups on this port, or use another entry.",
    ),
    "manual": Advice(
        "hands-too-late",
        "The application started: the button was not held while the board was reset.",
        "Hold the button before reset is pressed, until recovery answers.",
    ),
}
"""What it means that the application started, by entry; in the order of their weight."""
