"""The recovery pin: which one it is by the configuration, and what the chip sees of it."""

from types import SimpleNamespace

import pytest
from pydantic import ValidationError

from pytest_nrfdfu.board.chip_state import ChipState
from pytest_nrfdfu.board.pin_look import look_at_pin
from pytest_nrfdfu.board.pins import pin_name, recovery_pin
from pytest_nrfdfu.config import BoardConfig

OPEN = ChipState("1", "J-Link", "", "", "open", "off")
P1_IN, P1_08_CNF = 0x50842810, 0x50842A20
"""Registers of P1 (nRF5340 product specification, GPIO)."""


def board(**recovery):
    return BoardConfig.model_validate({"board": "ours", "recovery": {"entry": ["smp"], **recovery}})


@pytest.mark.parametrize(
    ("told", "pin", "name"),
    [("P0.23", (0, 23), "P0.23"), ("P1.8", (1, 8), "P1.08"), ("P0.05", (0, 5), "P0.05"), ("P1.15", (1, 15), "P1.15")],
)
def test_the_pin_is_the_one_that_is_configured(told, pin, name):
    assert recovery_pin(board(pin=told)) == pin
    assert pin_name(pin) == name


def test_a_configured_pin_goes_before_that_of_a_known_board():
    known = BoardConfig.model_validate({"board": "nrf5340dk-ours", "recovery": {"entry": ["smp"], "pin": "P1.01"}})
    assert recovery_pin(known) == (1, 1)


@pytest.mark.parametrize("wrong", ["23", "P0.32", "P1.16", "P2.00", "p0.23", "P0,23", "P0.23 "])
def test_a_pin_that_the_chip_has_not_is_refused(wrong):
    with pytest.raises(ValidationError):
        board(pin=wrong)


class Rig:
    """Lines and registers: the pin follows the line if `wired`."""

    def __init__(self, *, wired=True, cnf=0):
        self.wired, self.cnf = wired, cnf
        self.asserted = False
        self.levels = []

    def set_line(self, name, *, asserted):
        assert name == "recovery"
        self.asserted = asserted

    def line_level(self, _name):
        return None

    def read32(self, address):
        if address == P1_08_CNF:
            return self.cnf
        assert address == P1_IN
        return 0 if self.asserted and self.wired else 1 << 8


def look(chip=OPEN, pin="P1.08", **rig):
    unit = SimpleNamespace(rig=Rig(**rig), config=board(pin=pin))
    seen = look_at_pin(unit, chip)
    assert not unit.rig.asserted
    return seen


def test_a_pin_follows_its_line_or_does_not():
    assert look().follows is True
    assert look(wired=False).follows is False
    assert look(wired=False).pin == "P1.08"


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"pin": None}, "nobody tells which pin"),
        ({"chip": None}, "no probe"),
        ({"chip": OPEN._replace(application="locked")}, "is locked"),
        ({"cnf": 1 << 0}, "as an output"),
        ({"cnf": 1 << 1}, "its input off"),
    ],
)
def test_a_pin_that_cannot_be_read_says_why(facts, why):
    seen = look(**facts)
    assert why in seen.unread
    assert seen.follows is None
