"""The other end of a simulated application's own update port: a stand-in for BLE, LTE or CAN."""

import socket

import simulator


class StagingClient:
    """Lines over TCP, as `pytest_nrfdfu.sim.app_staging` answers them."""

    def __init__(self, address):
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), simulator.DEADLINE)
        self.file = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.socket.close()

    def say(self, line, data=b""):
        """The answer; empty when the connection was closed."""
        try:
            self.socket.sendall(line.encode() + b"\n" + data)
            return self.file.readline().decode().rstrip("\n")
        except ConnectionError:
            return ""

    def ask(self, line, data=b""):
        """The number in the answer, if it has one; the answer must be ok."""
        answer = self.say(line, data).split()
        assert answer[:1] == ["ok"], answer
        return int(answer[1]) if len(answer) > 1 else None

    def send(self, data):
        """All of an image, from where the application has it."""
        offset = self.ask(f"init {len(data)}")
        while offset < len(data):
            piece = data[offset : offset + 4000]
            offset = self.ask(f"write {offset} {len(piece)}", piece)
        self.ask("done")

    def stage(self, build):
        """All of an image, and have it started at the next boot."""
        self.send(build.image.data)
        self.ask("schedule")
