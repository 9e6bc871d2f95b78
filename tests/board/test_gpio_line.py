"""A GPIO line of the host, on a stand-in for gpiod that keeps to the interface of version 2.5."""

import contextlib
import errno
import glob
import inspect
import sys
from dataclasses import dataclass
from enum import Enum
from types import SimpleNamespace

import pytest

from pytest_nrfdfu.board import gpio_line
from pytest_nrfdfu.board.gpio_line import GpioLine
from pytest_nrfdfu.board.lines import make_line, pulse
from pytest_nrfdfu.errors import LineError


class Value(Enum):
    INACTIVE = 0
    ACTIVE = 1


class Direction(Enum):
    AS_IS = 1
    INPUT = 2
    OUTPUT = 3


class Drive(Enum):
    PUSH_PULL = 1
    OPEN_DRAIN = 2


@dataclass
class LineSettings:
    direction: Direction = Direction.AS_IS
    drive: Drive = Drive.PUSH_PULL
    active_low: bool = False
    output_value: Value = Value.INACTIVE


class Pin:
    """One line of a chip, with what the kernel knows of it."""

    def __init__(self, name=""):
        self.name = name
        self.consumer = ""
        self.settings = LineSettings(Direction.INPUT)
        self.value = Value.INACTIVE
        self.pressed = False

    @property
    def driven(self):
        """The level that the host drives at the pin: True high, False low, None: it leaves it alone."""
        if self.settings.direction is not Direction.OUTPUT:
            return None
        high = (self.value is Value.ACTIVE) != self.settings.active_low
        return None if high and self.settings.drive is Drive.OPEN_DRAIN else high

    @property
    def high(self):
        """The level; a pull-up is at the pin, and a button that pulls it low."""
        return not self.pressed if self.driven is None else self.driven


class FakeGpiod:
    """The part of the module that is used. `pins`: the lines of each chip by its path."""

    __version__ = "2.5.0"
    LineSettings = LineSettings
    line = SimpleNamespace(Value=Value, Direction=Direction, Drive=Drive)

    def __init__(self, pins):
        self.pins = pins
        self.labels = dict.fromkeys(pins, "pinctrl")
        self.forbidden = set()
        self.levels = []
        self.broken = None
        self.when_busy = lambda: None

    def Chip(self, path):  # noqa: N802 - the module's name
        if path in self.forbidden:
            raise PermissionError(errno.EACCES, "Permission denied")
        if path not in self.pins:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        return Chip(self, path)


class Chip:
    def __init__(self, module, path):
        self._module = module
        self._path = path
        self._pins = module.pins[path]

    def __enter__(self):
        return self

    def __exit__(self, exc_type, exc_value, traceback):
        pass

    def get_info(self):
        name = self._path.rpartition("/")[2]
        return SimpleNamespace(name=name, label=self._module.labels[self._path], num_lines=len(self._pins))

    def _pin(self, line):
        return self._pins[line] if isinstance(line, int) else next(p for p in self._pins if p.name == line)

    def get_line_info(self, line):
        pin = self._pin(line)
        return SimpleNamespace(name=pin.name, used=bool(pin.consumer), consumer=pin.consumer)

    def request_lines(self, config, consumer=None, event_buffer_size=None, output_values=None):
        ((line, settings),) = config.items()
        pin = self._pin(line)
        if pin.consumer:
            self._module.when_busy()
            raise OSError(errno.EBUSY, "Device or resource busy")
        pin.consumer = consumer
        return Request(self._module, pin, line, settings)


class Request:
    def __init__(self, module, pin, line, settings):
        self._module = module
        self._pin = pin
        self._line = line
        self.reconfigure_lines({line: settings})
        self._note()

    def _note(self):
        self._module.levels.append(self._pin.driven)

    def reconfigure_lines(self, config):
        assert set(config) == {self._line}
        self._pin.settings = config[self._line]
        self._pin.value = config[self._line].output_value

    def _check(self, line):
        assert line == self._line
        if self._module.broken is not None:
            raise OSError(self._module.broken, "broken")

    def set_value(self, line, value):
        self._check(line)
        self._pin.value = value
        self._note()

    def get_value(self, line):
        self._check(line)
        return Value.ACTIVE if self._pin.high != self._pin.settings.active_low else Value.INACTIVE

    def release(self):
        self._pin.consumer = ""
        self._note()


@pytest.fixture
def gpiod(monkeypatch):
    names = ["", "NRST", "BUTTON1", "TWIN", "TWIN"]
    module = FakeGpiod({f"/dev/gpiochip{n}": [Pin(name) for name in names] for n in range(2)})
    module.labels["/dev/gpiochip1"] = "cp2112_gpio"
    monkeypatch.setitem(sys.modules, "gpiod", module)
    monkeypatch.setattr(gpio_line, "_ORPHAN", 0.0)
    monkeypatch.setattr(glob, "glob", lambda pattern: [*module.pins] if pattern == "/dev/gpiochip*" else [])
    return module


def settings(**changes):
    defaults = {"driver": "gpiod", "chip": "/dev/gpiochip0", "line": 2, "active": "low", "drive": "open-drain"}
    return defaults | changes


def line(**changes):
    return make_line("recovery", settings(**changes))


# --- driving --------------------------------------------------------------------------------------------------------


def test_an_open_drain_line_pulls_low_or_leaves_the_pin_alone(gpiod):
    made = line()
    made.set(asserted=True)
    made.set(asserted=False)
    made.close()
    assert gpiod.levels == [None, False, None, None], "opened, asserted, released, closed: never high"


def test_a_push_pull_line_drives_both_levels_until_it_is_closed(gpiod):
    made = line(drive="push-pull")
    made.set(asserted=True)
    made.set(asserted=False)
    made.close()
    assert gpiod.levels == [True, False, True, None], "an input at the end"


def test_a_line_that_is_active_high(gpiod):
    made = line(drive="push-pull", active="high")
    made.set(asserted=True)
    assert gpiod.levels == [False, True]


def test_a_pulse_releases(gpiod):
    pulse(line(), 0.0)
    assert gpiod.levels == [None, False, None]


@pytest.mark.parametrize("wanted", [{"chip": "cp2112_gpio"}, {"chip": "gpiochip1"}, {"chip": "/dev/gpiochip1"}])
def test_a_chip_has_a_path_a_name_and_a_label(gpiod, wanted):
    line(**wanted)
    assert gpiod.pins["/dev/gpiochip1"][2].consumer == "pytest-nrfdfu"
    assert gpiod.pins["/dev/gpiochip0"][2].consumer == ""


def test_a_line_has_a_name(gpiod):
    made = line(line="NRST")
    made.set(asserted=True)
    assert gpiod.pins["/dev/gpiochip0"][1].driven is False
    made.close()


def test_it_is_closed_once(gpiod):
    made = line()
    made.close()
    made.close()
    assert gpiod.levels == [None, None]


def test_the_level_is_read_back_at_the_pin(gpiod):
    made = line()
    assert made.level() is False
    made.set(asserted=True)
    assert made.level() is True
    made.set(asserted=False)
    assert made.level() is False
    gpiod.pins["/dev/gpiochip0"][2].pressed = True
    assert made.level() is True, "by somebody else's button"


def test_a_chip_that_cannot_read_its_outputs_says_nothing(gpiod):
    made = line()
    gpiod.broken = errno.EOPNOTSUPP
    assert made.level() is None


# --- what goes wrong ------------------------------------------------------------------------------------------------


def problem(**changes):
    with pytest.raises(LineError) as caught:
        line(**changes)
    return str(caught.value)


def test_a_missing_chip_is_named_with_those_there_are(gpiod):
    text = problem(chip="/dev/gpiochip7")
    assert text.startswith("the recovery line: there is no /dev/gpiochip7; ")
    assert text.endswith("; there are /dev/gpiochip0 (pinctrl), /dev/gpiochip1 (cp2112_gpio)")
    gpiod.forbidden.add("/dev/gpiochip0")
    text = problem(chip="ft232h")
    assert "no GPIO chip is called 'ft232h'; there are /dev/gpiochip1 (cp2112_gpio)" in text
    assert "/dev/gpiochip0 cannot be opened by this user" in text


def test_a_host_without_chips(gpiod):
    gpiod.pins.clear()
    assert "this host shows none; is the adapter plugged in?" in problem()


def test_two_chips_with_one_label_are_not_guessed_at(gpiod):
    gpiod.labels["/dev/gpiochip1"] = "pinctrl"
    text = problem(chip="pinctrl")
    assert "several GPIO chips are called 'pinctrl': /dev/gpiochip0, /dev/gpiochip1; give the path" in text


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (9, "line 9) does not exist: the chip has the lines 0 to 4"),
        (-1, "line -1) does not exist: the chip has the lines 0 to 4"),
        ("BUTTON9", "line BUTTON9) does not exist: its named lines are NRST, BUTTON1, TWIN, TWIN"),
        ("2", "does not exist: its named lines are"),
        ("TWIN", "several lines have that name (3, 4); give the offset"),
    ],
)
def test_a_missing_line_is_named_with_those_there_are(gpiod, wanted, expected):
    assert expected in problem(line=wanted)
    assert gpiod.levels == [], "nothing was requested"


def test_a_chip_without_names_says_so(gpiod):
    gpiod.pins["/dev/gpiochip0"] = [Pin(), Pin()]
    assert "none of its 2 lines has a name" in problem(line="NRST")


def test_a_line_that_somebody_has_says_who(gpiod):
    gpiod.pins["/dev/gpiochip0"][2].consumer = "leds-gpio"
    assert "(/dev/gpiochip0 line 2) is in use by leds-gpio; end that" in problem()


def test_a_run_that_has_just_died_gets_time_to_let_go(gpiod, monkeypatch):
    pin = gpiod.pins["/dev/gpiochip0"][2]
    pin.consumer = "pytest-nrfdfu"
    tries = []

    def when_busy():
        tries.append(1)
        if len(tries) == 3:
            pin.consumer = ""

    gpiod.when_busy = when_busy
    monkeypatch.setattr(gpio_line, "_ORPHAN", 60.0)
    monkeypatch.setattr(gpio_line, "_PAUSE", 0.0)
    line()
    assert len(tries) == 3


def test_a_missing_right_is_an_error_with_its_remedy(gpiod):
    gpiod.forbidden.add("/dev/gpiochip0")
    text = problem()
    assert "your user may not open the GPIO chip" in text
    assert "udev rule" in text


def test_an_adapter_that_is_unplugged_is_an_error_until_it_is_back(gpiod):
    made = line()
    gpiod.broken = errno.ENODEV
    with pytest.raises(LineError, match=r"cannot be driven: .*; is the adapter still plugged in"):
        made.set(asserted=True)
    gpiod.broken = None
    made.set(asserted=True)
    assert gpiod.pins["/dev/gpiochip0"][2].driven is False


def test_a_line_that_cannot_be_made_an_input_says_so(gpiod, monkeypatch):
    made = line()

    def failing(_self, _config):
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as patch:
        patch.setattr(Request, "reconfigure_lines", failing)
        with pytest.raises(LineError, match="it may still be driven"):
            made.close()
    assert gpiod.pins["/dev/gpiochip0"][2].consumer == "", "and is given back"


def test_the_library_may_be_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "gpiod", None)
    assert problem() == (
        "the recovery line needs the library gpiod, which is not installed: pip install 'pytest-nrfdfu[gpiod]'"
    )


def test_version_1_of_the_library_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "gpiod", SimpleNamespace(__version__="1.5.4"))
    assert "needs gpiod 2, and version 1.5.4 is installed" in problem()


# --- the stand-in ---------------------------------------------------------------------------------------------------


def test_the_stand_in_keeps_to_the_real_interface():
    """Where the real library is installed: what is used of it is there, with the parameters that are used."""
    real = pytest.importorskip("gpiod")
    pairs = [
        (real.Chip.request_lines, Chip.request_lines),
        (real.LineRequest.set_value, Request.set_value),
        (real.LineRequest.get_value, Request.get_value),
        (real.LineRequest.reconfigure_lines, Request.reconfigure_lines),
        (real.LineRequest.release, Request.release),
        (real.Chip.get_info, Chip.get_info),
    ]
    for theirs, ours in pairs:
        assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters)
    fields = set(inspect.signature(real.LineSettings).parameters)
    assert set(LineSettings.__dataclass_fields__) <= fields
    for name, members in (("Value", Value), ("Direction", Direction), ("Drive", Drive)):
        assert {member.name for member in members} <= {member.name for member in getattr(real.line, name)}
    assert {"name", "consumer"} <= set(inspect.signature(real.LineInfo.__init__).parameters)
    with contextlib.suppress(OSError):  # the real class, on a host without chips: an OSError, as GpioLine expects
        real.Chip("/dev/null").close()


def test_the_real_library_on_a_host_without_the_chip():
    pytest.importorskip("gpiod")
    with pytest.raises(LineError, match="there is no /dev/gpiochip-of-nobody; "):
        GpioLine("recovery", settings(chip="/dev/gpiochip-of-nobody"))


def test_the_real_library_on_what_is_no_chip():
    pytest.importorskip("gpiod")
    with pytest.raises(LineError, match="cannot be opened: "):
        GpioLine("recovery", settings(chip="/dev/null"))
