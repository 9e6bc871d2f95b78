"""One unit: its opening, and what it forgets."""

import pytest
from simulator import wait_until

from board.conftest import answer
from pytest_nrfdfu.board.unit import Unit
from pytest_nrfdfu.config import BoardConfig
from pytest_nrfdfu.errors import BoardError, UartError
from pytest_nrfdfu.smp.messages import EraseRequest


def unit_of(port, line):
    tables = {
        "board": "held",
        "uart": {"port": port, "baudrate": 1_000_000},
        "recovery": {"entry": ["smp"], "line": {"driver": "command", "assert": line, "release": line}},
    }
    return Unit("held", BoardConfig.model_validate(tables))


def test_a_board_that_another_run_has_is_left_alone(far, no_rig_unit, tmp_path):
    """The port is exclusive: who does not get it must not move a line."""
    touched = tmp_path / "touched"
    other = unit_of(far.path, ["touch", str(touched)])
    with pytest.raises(UartError, match="another process has it open"):
        other.open()
    assert not touched.exists()
    assert other.rig.pid is None
    no_rig_unit.close()
    other.open()
    assert touched.exists()
    assert other.works
    other.close()
    assert not other.works


def test_a_rig_that_does_not_start_leaves_nothing_open(far):
    other = unit_of(far.path, ["false"])
    with pytest.raises(BoardError):
        other.open()
    assert not other.uart.is_open
    assert other.rig.pid is None


def test_a_port_or_a_rig_that_is_gone_is_seen(far):
    other = unit_of(far.path, ["true"])
    other.open()
    assert other.works
    other.rig.stop()
    assert not other.works
    other.rig.start()
    assert other.works
    far.vanish()
    wait_until(lambda: not other.works, "the loss of the port")
    other.close()


def test_a_write_of_a_test_makes_doubtful_what_was_proved(far, no_rig_unit):
    no_rig_unit.remember(b"1" * 32, "version 1.0.0")
    no_rig_unit.network_core = b"2" * 32
    far.script = lambda request, _: [answer(request, {"rc": 0})]
    no_rig_unit.client.request(EraseRequest())
    assert no_rig_unit.proved is None
    assert no_rig_unit.network_core is None
    assert "written" in no_rig_unit.holds
