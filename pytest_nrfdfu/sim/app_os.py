"""The OS group of the simulated application's SMP server: echo, reset, parameters, bootloader information. Sans-IO.

Sources: Zephyr, subsys/mgmt/mcumgr/grp/os_mgmt/src/os_mgmt.c, and the defaults of its Kconfig; MCUboot,
boot/bootutil/include/bootutil/boot_status.h (modes).
"""

from __future__ import annotations

from pytest_nrfdfu.image.bootloader import Swap
from pytest_nrfdfu.sim.app_reply import Command, GroupRefused, Refused, decode_request, write_pair
from pytest_nrfdfu.sim.app_transport import BUFFER_COUNT, BUFFER_SIZE
from pytest_nrfdfu.sim.rc import Rc
from pytest_nrfdfu.sim.retention import RetainedMemory, Retention
from pytest_nrfdfu.sim.zcbor import CborError, Reader, Writer, decode_map
from pytest_nrfdfu.smp.header import Group, OsCommand

__all__ = ["OsGroup"]

_QUERY_YIELDS_NO_ANSWER = 3
"""OS_MGMT_ERR_QUERY_YIELDS_NO_ANSWER; in SMP version 1 it becomes MGMT_ERR_ENOENT."""
_BOOTLOADER_MODES: dict[Swap, int] = {"scratch": 1, "overwrite": 2, "move": 3, "offset": 9}


class OsGroup:
    """The handlers. Responses are written to `writer`, a map that is open.

    `retention` is where OS reset keeps the boot mode in `memory`; None: an application before Zephyr 4.2, which
    ignores it.
    """

    def __init__(self, memory: RetainedMemory, retention: Retention | None, swap: Swap, writer: Writer) -> None:
        self._memory = memory
        self._retention = retention
        self._swap = swap
        self._writer = writer
        self.resets = False
        """A reset was asked for."""

    @property
    def commands(self) -> dict[int, Command]:
        """The handlers by command number."""
        return {
            OsCommand.ECHO: Command(self._echo, self._echo),
            OsCommand.RESET: Command(write=self._reset),
            OsCommand.PARAMS: Command(read=self._params),
            OsCommand.BOOTLOADER_INFO: Command(read=self._bootloader_info),
        }

    def _echo(self, payload: bytes) -> None:
        text = _text_of(payload, b"d")
        if not (self._writer.text(b"r") and self._writer.text(text or b"")):
            raise Refused(Rc.MESSAGE_SIZE)

    def _reset(self, payload: bytes) -> None:
        """A map that cannot be read is no error here: the chip resets all the same."""
        self.resets = True
        if self._retention is None:
            return
        try:
            mode = decode_map(payload, {b"boot_mode": Reader.uint32}).get(b"boot_mode")
        except CborError:
            return
        if isinstance(mode, int):
            self._retention.set(self._memory, mode & 0xFF)

    def _params(self, _payload: bytes) -> None:
        write_pair(self._writer, b"buf_size", BUFFER_SIZE)
        write_pair(self._writer, b"buf_count", BUFFER_COUNT)

    def _bootloader_info(self, payload: bytes) -> None:
        query = _text_of(payload, b"query")
        if query is None:
            self._writer.text(b"bootloader")
            self._writer.text(b"MCUboot")
        elif query == b"mode":
            write_pair(self._writer, b"mode", _BOOTLOADER_MODES[self._swap])
        else:
            raise GroupRefused(Group.OS, _QUERY_YIELDS_NO_ANSWER, Rc.NO_ENTRY)


def _text_of(payload: bytes, key: bytes) -> bytes | None:
    """The text at `key`, None without it."""
    value = decode_request(payload, {key: Reader.text}).get(key)
    return value if isinstance(value, bytes) else None
