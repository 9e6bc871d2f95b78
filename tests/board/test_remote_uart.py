"""A board far away: its UART behind socket:// and rfc2217://, with the network's latency, and lossless all the same."""

import socket
import threading
import time
from collections import deque
from contextlib import ExitStack, contextmanager, suppress
from types import SimpleNamespace

import pytest
from serial.rfc2217 import COM_PORT_OPTION, IAC, SB, SET_BAUDRATE, PortManager
from simulator import make_image, running

from board.conftest import make_build
from pytest_nrfdfu.board.dfu import Dfu
from pytest_nrfdfu.board.unit import Unit
from pytest_nrfdfu.config import BoardConfig
from pytest_nrfdfu.sim_admin import SimAdmin

ONE_WAY = 0.1
"""Seconds; 0.2 s for a round trip is another continent."""


class Network:
    """A TCP proxy that delivers everything `ONE_WAY` seconds later, in order, whatever passes meanwhile."""

    def __init__(self, host, port):
        self._target = (host, port)
        self._stop = threading.Event()
        self._sockets = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.to_board = bytearray()
        """All that went to the board's side."""
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self._stop.set()
        for each in (self._listener, *self._sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self):
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
                self._sockets += [near, far]
                self._pipe(near, far, self.to_board)
                self._pipe(far, near, bytearray())

    def _pipe(self, source, sink, seen):
        for each in (source, sink):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        underway, came = deque(), threading.Condition()
        threading.Thread(target=self._take, args=(source, underway, came, seen), daemon=True).start()
        threading.Thread(target=self._deliver, args=(sink, underway, came), daemon=True).start()

    def _take(self, source, underway, came, seen):
        data = b"?"
        while data:
            try:
                data = source.recv(65536)
            except OSError:
                data = b""
            seen += data
            with came:
                underway.append((time.monotonic() + ONE_WAY, data))
                came.notify()

    def _deliver(self, sink, underway, came):
        while True:
            with came:
                came.wait_for(lambda: underway)
                due, data = underway.popleft()
            self._stop.wait(due - time.monotonic())
            try:
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    return
                sink.sendall(data)
            except OSError:
                return


class AccessServer:
    """What ser2net is on a rack: RFC 2217 on one side, a UART (here the simulated board's socket) on the other."""

    def __init__(self, host, port):
        self._uart = socket.create_connection((host, port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._client = None
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        with suppress(OSError):
            self._client, _ = self._listener.accept()
            lines = {"cts": True, "dsr": True, "ri": False, "cd": True, "rts": False, "dtr": False}
            settings = {"baudrate": 0, "bytesize": 8, "parity": "N", "stopbits": 1, "rtscts": False, "xonxoff": False}
            port = SimpleNamespace(**lines, **settings, reset_input_buffer=bool, reset_output_buffer=bool)
            manager = PortManager(port, SimpleNamespace(write=self._client.sendall))
            threading.Thread(target=self._to_client, args=(manager,), daemon=True).start()
            while data := self._client.recv(4096):
                self._uart.sendall(b"".join(manager.filter(data)))

    def _to_client(self, manager):
        with suppress(OSError):
            while data := self._uart.recv(4096):
                self._client.sendall(b"".join(manager.escape(data)))

    def close(self):
        for each in filter(None, (self._listener, self._client, self._uart)):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@contextmanager
def far_away(address, scheme):
    """An address of the simulated board's UART with the network in between; gives it and the network."""
    host, port = address.removeprefix("socket://").split(":")
    with ExitStack() as stack:
        if scheme == "rfc2217":
            server = AccessServer(host, int(port))
            stack.callback(server.close)
            host, port = "127.0.0.1", server.port
        network = Network(host, int(port))
        stack.callback(network.close)
        yield f"{scheme}://127.0.0.1:{network.port}", network


@pytest.mark.parametrize(("scheme", "window"), [("socket", 1), ("socket", 2), ("rfc2217", 2)])
def test_an_update_works_over_a_slow_network(tmp_path, scheme, window):
    old = tmp_path / "old.bin"
    old.write_bytes(make_image("1.0.0", 3000))
    build = make_build(tmp_path, "2.0.0", 6000)
    with (
        running("--uart", "tcp", "--baudrate", "115200", "--image", old) as board,
        SimAdmin(board["admin"]) as admin,
        far_away(board["uart"], scheme) as (port, network),
    ):
        settings = {
            "board": "far",
            "uart": {"port": port, "baudrate": 115200},
            "probe": {"unique_id": board["probe"]},
            "recovery": {"line": {"driver": "serial", "port": board["control"], "line": "rts"}},
            "bootloader": {"window": window},
        }
        unit = Unit("far", BoardConfig.model_validate(settings))
        try:
            unit.open()
            report = Dfu(unit).update(build)
        finally:
            unit.close()
        assert report.verified
        assert (report.retries, report.resyncs) == (0, 0), "nothing is sent again because it takes its time"
        assert admin.flash_hash().image_hash == build.hash
        settings = network.to_board.count(IAC + SB + COM_PORT_OPTION + SET_BAUDRATE)
        assert settings == (scheme == "rfc2217"), "each setting of an open port costs round trips"
