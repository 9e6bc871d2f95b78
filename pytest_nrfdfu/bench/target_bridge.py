"""Joins a serial port of this computer with the UART of a simulated board, byte for byte."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress

import serial

from pytest_nrfdfu.errors import BoardError

__all__ = ["Bridge"]

_POLL = 0.05
"""Seconds after which a reader looks whether it is to end."""
_CHUNK = 4096
_END = 5.0
"""Seconds in which both readers must have ended; a read or write that a driver does not return from is left behind."""


class Bridge:
    """Carries bytes between the serial port `port` and the TCP port `board` (``socket://host:port``) until `close`.

    BoardError if one of them cannot be opened. `failure` says why it has ended by itself, empty while it runs.
    """

    def __init__(self, port: str, baudrate: int, board: str) -> None:
        self.failure = ""
        self._ended = threading.Event()
        host, _, number = board.removeprefix("socket://").rpartition(":")
        try:
            self._serial = serial.serial_for_url(port, baudrate, timeout=_POLL, write_timeout=_END)
        except (OSError, ValueError) as error:  # SerialException is an OSError
            raise BoardError(f"the UART {port} for the host under test cannot be opened: {error}") from error
        try:
            self._board = socket.create_connection((host, int(number)), _END)
        except OSError as error:
            self._serial.close()
            raise BoardError(f"the simulated board at {board} cannot be reached: {error}") from error
        self._board.settimeout(_POLL)
        self._port = port
        self._threads = [
            threading.Thread(target=self._run, args=(carry,), name=f"nrfdfu bridge {port}", daemon=True)
            for carry in (self._to_board, self._to_host)
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop carrying, and close both ends."""
        self._ended.set()
        for thread in self._threads:
            thread.join(_END)
        self._board.close()
        with suppress(OSError):
            self._serial.close()

    def _run(self, carry: Callable[[], None]) -> None:
        while not self._ended.is_set():
            try:
                carry()
            except TimeoutError:
                continue
            except OSError as error:
                if not self._ended.is_set():
                    self.failure = f"the bridge between {self._port} and the simulated board has ended: {error}"
                self._ended.set()

    def _to_board(self) -> None:
        data = self._serial.read(max(1, min(_CHUNK, self._serial.in_waiting)))
        if data:
            self._board.sendall(data)

    def _to_host(self) -> None:
        data = self._board.recv(_CHUNK)
        if not data:
            raise ConnectionResetError("the simulated board has closed its UART")
        self._serial.write(data)
