"""What failures mean: whom they are blamed on, what is shown of them, and the exit status of the run."""

import pytest
import suites

from pytest_nrfdfu.plugin.outcomes import ExitStatus

HELD = "[recovery]\nentry = ['smp']\n" + "".join(
    f"[[unit]]\nid = 'dk-{n}'\nuart.port = '/dev/none-{n}'\ndisabled = 'a bad cable'\n" for n in range(2)
)


@pytest.fixture
def suite(pytester, monkeypatch):
    return suites.make(pytester, monkeypatch)


def test_an_exit_status_that_is_a_suites_own_is_kept(suite):
    suite.tests("import pytest\n\n\ndef test_it():\n    pytest.exit('enough', returncode=42)\n")
    result = suite.run("--board", "fast")
    assert result.ret == 42
    assert "Error" not in result.stderr.str()


BLAME = """
from types import SimpleNamespace

import pytest
from pytest_nrfdfu.errors import ProbeError
from pytest_nrfdfu.plugin.outcomes import BOARDS, POOL


@pytest.fixture
def two(request):
    told = {}
    pool = SimpleNamespace(close=lambda: None)
    pool.failed = lambda name, test, category, reason: print(f"told: {name} {category or 'nothing'}")
    request.config.stash[POOL] = pool
    request.node.stash[BOARDS] = [
        SimpleNamespace(
            unit=f"rack:dk-{n}", config=SimpleNamespace(simulated=True),
            console=SimpleNamespace(text="", timed_lines=(), faults=(), boots=()),
            uploads_apart=lambda builds: (), forget=lambda why: None, exchanges=lambda **_: [], traffic=lambda **_: [],
        )
        for n in (1, 10)
    ]


@pytest.mark.parametrize("how", [":", " was reset and"])
def test_it(two, how):
    raise ProbeError(f"rack:dk-10{how} the probe is gone")
"""


def test_of_several_units_the_one_that_the_error_names_is_to_blame(suite):
    """Not another one whose name is how its name begins."""
    suite.tests(BLAME)
    result = suite.run("-s")
    text = result.stdout.str()
    assert text.count("told: rack:dk-10 bench") == 2, text
    assert text.count("told: rack:dk-1 nothing") == 2


# --- what is shown ----------------------------------------------------------------------------------------------------

ASKS = """
import pytest


def test_it(board):
    pass
"""


def test_a_board_that_cannot_be_had_is_a_message_and_no_source(suite):
    suite.add_board("rack", HELD)
    suite.tests(ASKS)
    result = suite.run("--board", "rack")
    result.assert_outcomes(errors=1)
    text = result.stdout.str()
    assert "\nBoardError: no unit of rack can be used: rack:dk-0: disabled in" in text
    result.stdout.fnmatch_lines(["ERROR *test_it?board:rack? - no unit of rack can be used*"])
    assert "def " not in text
    assert "pool.py" not in text.partition("short test summary")[0]
    whole = suite.run("--board", "rack", "--full-trace").stdout.str()
    assert "in _none_left" in whole or "raise _none_left" in whole


CALLS = """
import pytest
from pytest_nrfdfu.errors import NrfDfuError
from pytest_nrfdfu.smp.header import Header


@pytest.fixture
def mine():
    raise NrfDfuError("not today")


def test_fixture(mine):
    pass


def test_body(request):
    fails(request)


def fails(request):
    from pytest_nrfdfu.plugin.options import folder, number
    from pytest_nrfdfu.bench.choice import choose
    from pytest_nrfdfu.config import Catalogue, shipped_configs
    choose(["no-such"], Catalogue([shipped_configs()]))  # the line that calls


def test_other():
    assert [] == ["other"]
"""


def test_the_suites_own_lines_are_shown_to_the_call_and_no_further(suite):
    suite.tests(CALLS)
    result = suite.run()
    result.assert_outcomes(failed=2, errors=1)
    text = result.stdout.str()
    assert '    raise NrfDfuError("not today")' in text
    assert "    fails(request)" in text
    assert "# the line that calls" in text
    assert "E       pytest_nrfdfu.errors.ConfigError: board 'no-such' is not known" in text
    assert "choice.py" not in text
    assert "E       AssertionError: assert [] == ['other']" in text


def test_units_that_were_taken_out_are_skipped_where_all_are_asked_for(suite):
    suite.add_board("rack", HELD)
    suite.tests(ASKS)
    result = suite.run("--board", "rack:all", "-rs")
    result.assert_outcomes(skipped=2)
    assert result.ret == ExitStatus.NOTHING_TESTED
    result.stdout.fnmatch_lines(["SKIPPED *rack:dk-0 is disabled in *rack.toml: a bad cable"])
    by_name = suite.run("--board", "rack:dk-0")
    by_name.assert_outcomes(errors=1)
    assert by_name.ret == ExitStatus.BENCH_TROUBLE


def test_the_head_names_the_units_of_a_rack(suite):
    suite.add_board("rack", HELD)
    suite.tests(ASKS)
    result = suite.run("--board", "rack", "--collect-only")
    result.stdout.fnmatch_lines(["nrfdfu board: rack (2 units, dk-0 on /dev/none-0, dk-1 on /dev/none-1; *rack.toml)"])


CAUSES = """
import pytest
from pytest_nrfdfu.errors import ProbeError, UploadFailed


@pytest.mark.parametrize("n", range(3))
def test_bench(board, n):
    raise ProbeError(f"the probe is gone{'!' * (n // 2)}\\nand more words about it")


def test_product(board):
    raise UploadFailed("this is none of the bench's")
"""


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "workers"])
def test_what_was_the_matter_with_the_bench_is_told_at_the_end(suite, workers):
    """Each cause once, with how often; where the console and the last exchanges do not hide it."""
    suite.tests(CAUSES)
    result = suite.run("--board", "fast", "--nrfdfu-retire-after", "0", *workers)
    causes = [line for line in result.outlines if line.startswith("bench: ")]
    assert causes == ["bench: fast: the probe is gone (2 times)", "bench: fast: the probe is gone!"]
    table = next(line for line in result.outlines if line.startswith("what "))
    assert result.outlines.index(causes[0]) > result.outlines.index(table)


def test_a_retired_unit_is_not_told_twice(suite):
    suite.tests(CAUSES)
    result = suite.run("--board", "fast", "--nrfdfu-retire-after", "1", "-k", "bench and 0")
    result.stdout.fnmatch_lines(["fast was retired: the bench failed once, the last time in *: the probe is gone"])
    result.stdout.no_fnmatch_line("bench: *")


def test_the_diagnosis_of_recovery_is_told_at_the_end_with_its_remedy(suite):
    suite.add_board("open", suites.FAST.replace("[sim]", '[sim]\nfaults = ["line-open"]') + "[recovery]\ntimeout = 1\n")
    suite.tests("def test_it(recovery): pass")
    result = suite.run("--board", "open")
    result.stdout.fnmatch_lines(
        ["bench: open: it did not enter serial recovery: *The recovery line *. Check the wire *"]
    )
