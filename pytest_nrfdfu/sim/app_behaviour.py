"""What a simulated application does once it runs, chosen by the version of its image.

The fault dump is what Zephyr prints on an Arm Cortex-M33 with CONFIG_LOG_MODE_MINIMAL for a write through a null
pointer in the main thread. Sources: Zephyr, arch/arm/core/cortex_m/fault.c (mem_manage_fault), arch/arm/core/fatal.c
(esf_dump), kernel/fatal.c (z_fatal_error; an architecture's own reasons have no text), include/zephyr/arch/arm/arch.h
(K_ERR_ARM_MEM_DATA_ACCESS); nRF Connect SDK, lib/fatal_error/fatal_error.c (CONFIG_RESET_ON_FATAL_ERROR).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple, get_args

from pytest_nrfdfu.image.format import Version

__all__ = [
    "ANY_VERSION",
    "BEHAVIOURS",
    "Behaviour",
    "VersionBehaviour",
    "behaviour_of",
    "fault_dump",
    "parse_behaviour",
]

Behaviour = Literal["runs", "confirms", "hangs", "silent", "faults", "halts", "boot-loops"]
BEHAVIOURS: dict[Behaviour, str] = {
    "runs": "banner, then whatever it serves",
    "confirms": "the same, and it confirms its image",
    "hangs": "banner, then nothing",
    "silent": "prints nothing; what it serves is there",
    "faults": "banner, fault dump, soft reset",
    "halts": "banner, fault dump, stands still",
    "boot-loops": "resets without a word soon after its start",
}
"""What each one does, for people."""
ANY_VERSION = "*"
_REASON = 19
"""K_ERR_ARM_MEM_DATA_ACCESS."""


class VersionBehaviour(NamedTuple):
    """What images of a version do; `version` as the image list writes it, or ``*`` for any other."""

    version: str
    behaviour: Behaviour


def parse_behaviour(text: str) -> VersionBehaviour:
    """``VERSION=BEHAVIOUR``, the version in any form that `Version.parse` reads; ValueError says what is wrong."""
    version, equals, name = text.partition("=")
    found: Behaviour | None = next((known for known in get_args(Behaviour) if known == name), None)
    if not version or not equals or found is None:
        raise ValueError(f"{text!r} is not VERSION=BEHAVIOUR; behaviours are {', '.join(BEHAVIOURS)}")
    return VersionBehaviour(version if version == ANY_VERSION else str(Version.parse(version)), found)


def behaviour_of(version: str | None, given: Iterable[VersionBehaviour]) -> Behaviour:
    """What an image of this version does: its own entry's, else that of any version, else it runs."""
    known = {item.version: item.behaviour for item in given}
    return known.get(version or ANY_VERSION, known.get(ANY_VERSION, "runs"))


def fault_dump(*, address: int, halts: bool) -> bytes:
    """The dump, with the faulting instruction at `address`; its last line says what the fault handler does then."""
    lines = (
        "***** MPU FAULT *****",
        "  Data Access Violation",
        "  MMFAR Address: 0x0",
        f"r0/a1:  0x00000000  r1/a2:  0x00000001  r2/a3:  0x{address:08x}",
        f"r3/a4:  0x00000000 r12/ip:  0x00000000 r14/lr:  0x{address - 1:08x}",
        " xpsr:  0x61000000",
        f"Faulting instruction address (r15/pc): 0x{address:08x}",
        f">>> ZEPHYR FATAL ERROR {_REASON}: Unknown error on CPU 0",
        "Current thread: 0x20000a48 (main)",
        "Halting system" if halts else "Resetting system",
    )
    return "".join(f"E: {line}\r\n" for line in lines).encode()
