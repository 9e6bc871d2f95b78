"""Product suites that have a `board`, a `build` or a ``--board`` of their own."""

import pytest
import suites


@pytest.fixture
def suite(pytester, monkeypatch):
    return suites.make(pytester, monkeypatch)


OWN_FIXTURES = """
import pytest

class Product:
    def __init__(self, board):
        self.radio = board

@pytest.fixture
def board(board):
    return Product(board)

@pytest.fixture
def build():
    return "nightly-1234"

def test_own_names(board, build):
    assert isinstance(board, Product)
    assert board.radio.name == "fast"
    assert build == "nightly-1234"

def test_plugin_takes_its_own_board(board, dfu, smp, console, recovery, request):
    from pytest_nrfdfu.image.build import load
    image = load(request.config.rootpath / "app.bin").image
    recovery.upload(image)
    assert smp.images().find().hash == image.hash
    dfu.boot(image)
    assert console.expect("Booting")
    assert board.radio.console.text == console.text

def test_flashed_says_what_it_needs(request, board):
    with pytest.raises(Exception, match="suite's own gives 'nightly-1234'.*let it give a pytest_nrfdfu.Build"):
        request.getfixturevalue("flashed")
"""


def test_own_fixtures_on_a_board(suite):
    """A suite wraps `board` and has quite another `build`; what it takes of the plugin beside them still works."""
    suite.tests(OWN_FIXTURES)
    suite.run("--board", "fast").assert_outcomes(passed=3)


def test_own_fixtures_without_a_board(suite):
    """What the suite's own fixtures give needs no hardware, and is neither skipped nor run once for each board."""
    suite.tests(
        """
import pytest

@pytest.fixture(scope="session", params=["rev-a", "rev-b"])
def board(request):
    return request.param

@pytest.fixture
def build(board):
    return board + ".bin"

def test_it(board, build):
    assert build == board + ".bin"
"""
    )
    suite.run_inside().assert_outcomes(passed=2)
    both = ["test_it[rev-a]", "test_it[rev-b]"]
    assert suite.ids("--board", "fast", "--build", "app.bin") == both
    suite.add_board("other", suites.FAST)
    assert suite.ids("--board", "fast", "--board", "other", "--build", "app.bin") == both


def test_own_fixture_that_extends_is_parametrized(suite):
    suite.add_board("other", suites.FAST)
    suite.tests(
        "import pytest\n\n@pytest.fixture\ndef product(board, build):\n    return board, build\n\n"
        "def test_it(product): pass\n"
    )
    assert suite.ids("--board", "other", "--board", "fast", "--build", "app.bin") == [
        "test_it[board:other-build:app]",
        "test_it[board:fast-build:app]",
    ]


def test_fixture_asked_for_by_name(suite):
    """request.getfixturevalue has no parameters: the only board is meant, several are told apart by an error."""
    suite.add_board("other", suites.FAST)
    suite.tests("def test_it(request):\n    assert request.getfixturevalue('build').name == 'app'\n")
    suite.run_inside("-rs").stdout.fnmatch_lines(["SKIPPED*needs a build*"])
    suite.run_inside("--build", "app.bin").assert_outcomes(passed=1)
    suites.app(suite.path, "2.0.0", name="two.bin")
    result = suite.run_inside("--build", "app.bin", "--build", "two.bin")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*ConfigError: request.getfixturevalue cannot tell which of several*"])


OWN_OPTIONS = """
def pytest_addoption(parser):
    parser.addoption("--board", default="rev-a")
    parser.addoption("--build", default="none")
"""


def test_own_options(suite, monkeypatch):
    """NRFDFU_SHORT_OPTIONS=0 leaves ``--board`` and ``--build`` to the suite."""
    monkeypatch.setenv("NRFDFU_SHORT_OPTIONS", "0")
    suite.pytester.makeconftest(OWN_OPTIONS)
    suite.tests(
        """
def test_own(request):
    assert request.config.getoption("--board") == "rev-b"
    assert request.config.getoption("--build") == "mine"

def test_it(board, build):
    pass
"""
    )
    arguments = ["--board", "rev-b", "--build", "mine"]
    result = suite.run_inside("-rs", *arguments)
    result.assert_outcomes(passed=1, skipped=1)
    assert suite.ids(*arguments, "--nrfdfu-board", "fast", "--nrfdfu-build", "app.bin") == [
        "test_own",
        "test_it[board:fast-build:app]",
    ]


def test_options_of_the_plugin_are_listed(suite):
    text = suite.run_inside("--help").stdout.str()
    for option in ("--board=NAME, --nrfdfu-board=NAME", "--nrfdfu-config=PATH", "--nrfdfu-reflash={auto,always,never}"):
        assert option in text
    for name in ("nrfdfu_board", "nrfdfu_require_board"):
        assert f"{name} (" in text


def test_no_fixture_has_a_name_of_others(suite):
    """Other plugins own those, and none is autouse."""
    suite.tests("def test_it(request):\n    assert request.fixturenames == ['request']\n")
    suite.run_inside().assert_outcomes(passed=1)
    shown = suite.run_inside("--fixtures", "-v").stdout.str()
    assert "recovery -- " in shown
    for name in ("dut", "shell", "mcumgr", "target", "env", "strategy", "serial", "port", "app"):
        assert f"\n{name} -- " not in shown
