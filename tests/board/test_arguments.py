"""What tests pass to updates and to the console by mistake is told before anything is done."""

import math
from pathlib import Path

import pytest

from board.conftest import make_build
from pytest_nrfdfu.board.arguments import check_build, check_place, check_seconds
from pytest_nrfdfu.board.console import Console, ConsoleView
from pytest_nrfdfu.board.dfu import Dfu


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    return make_build(tmp_path_factory.mktemp("builds"), "1.0.0")


CALLS = {
    "update": lambda dfu, build: dfu.update(build),
    "staged": lambda dfu, build: dfu.staged(build).__enter__(),
    "interrupt": lambda dfu, build: dfu.interrupt(build, at="upload:50%"),
}


@pytest.mark.parametrize("wrong", ["app.bin", Path("app.bin"), None, b"image"])
@pytest.mark.parametrize("call", CALLS)
def test_no_build(call, wrong):
    """A unit is not even looked at."""
    with pytest.raises(TypeError, match=rf"^dfu\.{call} takes a Build, and got .*pytest_nrfdfu\.load_build\(path\)$"):
        CALLS[call](Dfu(None), wrong)


def test_an_image_is_no_build(build):
    with pytest.raises(TypeError, match=r"got Image\(.* \(Image\); take the fixture `build`"):
        check_build(build.image, "dfu.update")
    check_build(build, "dfu.update")


@pytest.mark.parametrize("at", [0, -1, 0.5, None])
def test_no_place(build, at):
    with pytest.raises(TypeError, match=r"is no place in an update; write 'upload:50%' or 'swap:30%'$"):
        Dfu(None).interrupt(build, at=at)
    check_place("swap:30%")


@pytest.mark.parametrize("seconds", ["2", None, True, [1.0]])
def test_no_time(build, seconds):
    with pytest.raises(TypeError, match=r"^timeout=.* is no time; allowed: a positive finite number of seconds$"):
        Dfu(None).staged(build, timeout=seconds).__enter__()


@pytest.mark.parametrize("seconds", [-5, 0, math.inf, math.nan])
def test_no_time_that_can_be_waited_for(build, seconds):
    with pytest.raises(ValueError, match=r"cannot be waited for; allowed: a positive finite number of seconds$"):
        Dfu(None).staged(build, timeout=seconds).__enter__()


@pytest.mark.parametrize(
    ("seconds", "error"), [("1", TypeError), (None, TypeError), (-1, ValueError), (math.nan, ValueError)]
)
def test_no_time_for_the_console(seconds, error):
    view = ConsoleView(Console(), "dk")
    with pytest.raises(error, match=r"^timeout=.*allowed: 0 or a positive finite number of seconds$"):
        view.expect("ready", timeout=seconds)
    with pytest.raises(error, match=r"^duration=.*allowed: 0 or a positive finite number of seconds$"):
        view.expect_not("error", duration=seconds)


def test_what_has_come_already_takes_no_time():
    check_seconds("timeout", 0, zero=True)
    console = Console()
    view = ConsoleView(console, "dk")
    console.write(b"ready\n")
    assert view.expect("ready", timeout=0)


@pytest.mark.parametrize("pattern", [None, 5, ["ready", None]])
def test_no_pattern(pattern):
    with pytest.raises(TypeError, match="is no pattern to look for: it takes a str"):
        ConsoleView(Console(), "dk").expect(pattern, timeout=0)


def test_a_confirmation_that_is_none(build):
    with pytest.raises(ValueError, match=r"confirm=\['no'\] is not known"):
        Dfu(None).update(build, via="application", confirm=["no"])
