"""Racks of simulated boards that somebody started by hand, as text of a board configuration."""

BOARD = """
compatible = ["nrf5340dk"]

[uart]
baudrate = 1_000_000
wait = 0

[recovery]
entry = ["gpio"]
{recovery}

[boot]
smp = false

[images.app]
upload = 0
slot_size = 0x70000
"""
_UNIT = """
[[unit]]
id = "{name}"
uart.port = "{uart}"
probe.unique_id = "{probe}"
recovery.line = {{ driver = "serial", port = "{control}", line = "rts" }}
{more}
"""
_NOWHERE = {"uart": "/dev/no-such-port", "probe": "remote:127.0.0.1:1", "control": "/dev/no-such-line"}
FAST = ("--baudrate", 1_000_000, "--flash-timing", "none")
"""What its simulators are started with."""


def board(recovery: str = "") -> str:
    """The tables that all units share; `recovery`: another line of that table."""
    return BOARD.format(recovery=recovery)


def unit(name: str, endpoints: dict[str, str], more: str = "") -> str:
    """The table of one unit, at a simulator's endpoints; `more`: another line of it."""
    return _UNIT.format(name=name, more=more, **endpoints)


def dead(name: str, more: str = "") -> str:
    """A unit of which nothing is there."""
    return unit(name, _NOWHERE, more)


DEAD = dead("dead")
