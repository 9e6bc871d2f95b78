"""Records of many nights, read back, and the page that is made of them."""

import json
import re
from datetime import date, datetime, timedelta
from html.parser import HTMLParser

import pytest

from pytest_nrfdfu.report.nights import collect
from pytest_nrfdfu.report.page import render

FIRST = datetime.fromisoformat("2026-01-05T23:30:00+01:00")


def run_line(start=FIRST, **changes):
    return {"record": "run", "schema": 1, "start": start.isoformat(), "host": "rack1", "simulated": False} | changes


def result_line(outcome="passed", category="", **changes):
    values = {"nodeid": "test_a.py::test_x[board:dk]", "error": "", "unit": "dk:01", "build": "app", "seconds": 1.5}
    return {"record": "test", "outcome": outcome, "category": category} | values | changes


def update_line(**changes):
    values = {"unit": "dk:01", "build": "app", "bytes": 100_000, "rate": 10_000.0, "retries": 0, "resyncs": 0}
    return {"record": "update", "verified": True, "reports": []} | values | changes


def end_line(status=0, **changes):
    return {"record": "end", "exitstatus": status, "retired": {}} | changes


def write(folder, name, *lines):
    path = folder / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
    return path


def write_night(folder, number, *lines):
    start = FIRST + timedelta(days=number)
    return write(folder, f"night{number:03}", run_line(start), *lines, end_line())


# --- reading --------------------------------------------------------------------------------------------------------


def test_a_night_is_from_noon_to_noon(tmp_path):
    """On the clock of the host, wherever the reader is."""
    for number, (hour, zone) in enumerate([("13:00", "+09:00"), ("23:30", "-05:00")]):
        write(tmp_path, f"a{number}", run_line(datetime.fromisoformat(f"2026-01-05T{hour}:00{zone}")), end_line())
    write(tmp_path, "b", run_line(datetime.fromisoformat("2026-01-06T02:00:00+01:00")), end_line())
    write(tmp_path, "deep/c", run_line(datetime.fromisoformat("2026-01-06T12:00:00+01:00")), end_line())
    nights = collect(tmp_path)
    assert [(night.day, len(night.runs)) for night in nights.nights] == [(date(2026, 1, 5), 3), (date(2026, 1, 6), 1)]
    assert not nights.broken


def test_results_are_counted_by_unit_and_build(tmp_path):
    lines = [
        result_line(),
        result_line("xfailed"),
        result_line("skipped"),
        result_line("failed", "test"),
        result_line("failed", "dfu"),
        result_line("error", "bench", build=""),
        result_line("error", "test", unit="", build=""),
        result_line(unit="", build=""),  # a test without a board that passed is not what this is about
    ]
    write_night(tmp_path, 0, *lines)
    nights = collect(tmp_path)
    assert nights.rows == [("", ""), ("dk:01", ""), ("dk:01", "app")]
    cells = nights.nights[0].cells
    assert (cells["dk:01", "app"].passed, cells["dk:01", "app"].skipped) == (2, 1)
    assert cells["dk:01", "app"].broken == {"product": 1, "update": 1}
    assert cells["dk:01", ""].broken == {"bench": 1}
    assert [test.category for test in nights.nights[0].broken] == ["test", "test", "dfu", "bench"]


def test_uploads_are_measured_by_unit(tmp_path):
    """Each image of an update; what sent nothing has no speed."""
    part = update_line(bytes=50_000, rate=30_000.0, retries=3)
    write_night(
        tmp_path, 0, update_line(), update_line(rate=20_000.0), update_line(bytes=0), update_line(reports=[part])
    )
    (trend,) = collect(tmp_path).trend("dk:01")
    assert (trend.rate, trend.bytes, trend.retries) == (20_000.0, 250_000, 3)
    assert trend.retry_rate == pytest.approx(1.2)


def test_an_upload_that_was_cut_off_measures_nothing(tmp_path):
    """It has seen its slow beginning alone. One whose swap was cut off came whole."""
    cut = [update_line(cut=cut, rate=1000.0, retries=9) for cut in ("upload:5% by reset", "swap:30% by power")]
    write_night(tmp_path, 0, update_line(), *cut)
    (trend,) = collect(tmp_path).trend("dk:01")
    assert (trend.rates, trend.bytes, trend.retries) == ([10_000.0, 1000.0], 200_000, 9)


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([], "not read: its first line is not that of a run"),
        (["\0\0\0"], "not read: its first line is not that of a run"),
        ([result_line()], "not read: its first line is not that of a run"),
        ([run_line(schema=2)], "not read: its schema is 2, and known is 1"),
        ([run_line() | {"start": "yesterday"}], "not read: its start 'yesterday' is no time"),
        ([run_line()], "it has no end: the run was killed, or goes on"),
        ([run_line(), '{"record":"te'], "line 2 is cut off; it has no end: the run was killed, or goes on"),
        ([run_line(), "nonsense\n", "[1]\n", end_line()], "line 2 is not readable; line 3 is not readable"),
        ([run_line(), {"record": "test", "nodeid": "x"}, end_line()], "line 2 is not readable"),
        ([run_line(), update_line(rate="nan"), end_line()], "line 2 is not readable"),
        ([run_line(), update_line(reports=3), end_line()], "line 2 is not readable"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, lines, why):
    """And does not hinder the other records."""
    path = write(tmp_path, "broken", *lines)
    write_night(tmp_path, 1, result_line())
    nights = collect(tmp_path)
    assert nights.broken == {path: why}
    assert any(night.cells for night in nights.nights)
    assert f"<code>broken.jsonl</code>: {why}".replace("'", "&#x27;") in render(nights, "")


def test_of_a_cut_record_the_rest_is_used(tmp_path):
    write(tmp_path, "cut", run_line(), result_line(), update_line(), '{"record":"te')
    (night,) = collect(tmp_path).nights
    assert night.cells["dk:01", "app"].passed == 1
    assert night.trends["dk:01"].bytes == 100_000


def test_kinds_that_are_not_known_are_left_out(tmp_path):
    write(tmp_path, "new", run_line(), {"record": "weather"}, end_line())
    assert not collect(tmp_path).broken


# --- what is going bad ----------------------------------------------------------------------------------------------


def warnings_of(tmp_path, *nights):
    for number, changes in enumerate(nights):
        write_night(tmp_path, number, update_line(**changes))
    return [(warning.unit, warning.what) for warning in collect(tmp_path).warnings()]


@pytest.mark.parametrize(
    ("before", "recent", "expected"),
    [
        ({}, {}, []),
        ({}, {"rate": 9_500.0}, []),
        ({}, {"rate": 8_900.0}, [("dk:01", "speed")]),
        ({}, {"retries": 1}, [("dk:01", "retries")]),
        ({"retries": 2}, {"retries": 5}, []),
        ({"retries": 2}, {"retries": 6}, [("dk:01", "retries")]),
        ({"retries": 9}, {}, []),
    ],
)
def test_a_unit_that_gets_worse_is_named(tmp_path, before, recent, expected):
    assert warnings_of(tmp_path, *[before] * 5, *[recent] * 3) == expected


def test_one_bad_night_is_no_trend_in_speed(tmp_path):
    assert warnings_of(tmp_path, *[{}] * 7, {"rate": 100.0}) == []


def test_a_new_unit_is_compared_with_nothing(tmp_path):
    assert warnings_of(tmp_path, {}, {}, {"retries": 9}, {"retries": 9}, {"retries": 9}) == []


def test_nights_without_an_update_do_not_count(tmp_path):
    assert warnings_of(tmp_path, *[{}] * 3, *[{"retries": 5}, {"bytes": 0}] * 3) == [("dk:01", "retries")]


# --- the page -------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Checks that tags are balanced; collects text, tags and attributes."""

    VOID = frozenset({"meta", "br", "wbr"})

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data


@pytest.fixture
def page(tmp_path):
    def make(title="Nights"):
        return Page(render(collect(tmp_path), title))

    return make


def test_the_page_says_what_broke(tmp_path, page):
    write_night(tmp_path, 0, result_line())
    broken = [
        result_line("error", "bench", error="dk:01: <no> answer"),
        result_line("failed", "test", error="assert 1 == 2"),
        result_line("failed", "protocol", unit="dk:02"),
    ]
    write(tmp_path, "z", run_line(FIRST + timedelta(1)), *broken, end_line(1, retired={"dk:09": "no answer twice"}))
    shown = page()
    assert "Last night, 2026-01-06" in shown.text
    assert "0 passed; broke: 1 product, 1 update, 1 bench; 1 unit retired." in shown.text
    assert "dk:09 was retired: no answer twice" in shown.text
    assert "dk:01: <no> answer" in shown.text
    letters = re.findall(r"dk:01app(.*)\n", shown.text)[-1]
    assert letters == "F\N{CHECK MARK}"  # newest first, and the worst of what happened
    assert ("title", "0 passed, 1 product, 1 bench") in shown.attributes
    assert "Figures of simulated boards" not in shown.text


def rows_of(page):
    """The cells of each row of the last night's table."""
    table = re.search(r'<table class="list stacks">.*?<tbody>(.*?)</tbody>', page, re.DOTALL)
    rows = re.findall(r"<tr>(.*?)</tr>", table[1], re.DOTALL)
    return [[re.sub("<wbr>", "", cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL)] for row in rows]


def test_a_retired_unit_is_trouble_of_the_bench(tmp_path, page):
    """Also in a night in which all that ran has passed: there on it, before, or on others."""
    write_night(tmp_path, 0, result_line(), result_line(unit="dk:02"))
    after = run_line(FIRST + timedelta(hours=1), builds=[{"name": "app"}])
    why = 'it could not be opened: "gone" <ENOENT>'
    write(tmp_path, "z", after, result_line(unit="dk:02"), end_line(retired={"dk:01": why}))
    shown = page()
    assert "3 passed; no test broke; 1 unit retired." in shown.text
    assert re.search(r"dk:01app(.*)\n", shown.text)[1] == "B"
    assert re.search(r"dk:02app(.*)\n", shown.text)[1] == "\N{CHECK MARK}"
    assert ("title", f"1 passed, retired: {why}") in shown.attributes


def test_a_retired_unit_is_trouble_with_the_builds_it_was_tested_with(tmp_path):
    builds = [{"name": "app"}, {"name": "other"}]
    end = end_line(retired={"dk:01": "no answer"})
    write(tmp_path, "z", run_line(builds=builds), result_line("error", "bench", build="other"), end)
    assert collect(tmp_path).rows == [("dk:01", "other")]


def test_a_file_that_is_wrong_is_no_failed_update(tmp_path):
    """A build that is no image says nothing of a board."""
    write_night(tmp_path, 0, result_line("error", "image"), result_line("error", "config"))
    assert collect(tmp_path).nights[0].cells["dk:01", "app"].broken == {"configuration": 2}


def test_an_error_keeps_its_remedy(tmp_path):
    error = "pytest_nrfdfu.errors.UartError: dk:01 does not answer. " + "It was asked. " * 60 + "Look at the cable."
    write_night(tmp_path, 0, result_line("error", "bench", error=error))
    ((*_, cell),) = rows_of(render(collect(tmp_path), ""))
    shown, _, folded = cell.partition("<details>")
    assert shown.startswith("UartError: dk:01 does not answer.")
    assert " ... " in shown
    assert shown.endswith("It was asked. Look at the cable.")
    assert len(shown) <= 500
    whole = error.removeprefix("pytest_nrfdfu.errors.")
    assert folded == f"<summary>all of it</summary><pre>{whole}</pre></details>"


@pytest.mark.parametrize(
    ("lines", "shown"),
    [
        (0, "NotSeen: it printed:"),
        (2, "NotSeen: it printed:<pre>&lt;0&gt;\n&lt;1&gt;</pre>"),
        (5, "NotSeen: it printed:<details><summary>and 5 more lines</summary><pre>"),
    ],
)
def test_lines_of_an_error_are_below_the_first(tmp_path, lines, shown):
    """Folded where they are many, so that a table of many tests stays one."""
    error = "\n".join(["pytest_nrfdfu.NotSeen: it printed:", *(f"<{n}>" for n in range(lines))])
    write_night(tmp_path, 0, result_line("failed", "test", error=error))
    ((*_, cell),) = rows_of(render(collect(tmp_path), ""))
    assert cell.startswith(shown)
    assert cell.count("&lt;") == lines


@pytest.mark.parametrize(
    ("nodeid", "shown"),
    [
        ("test_a.py::test_x", "test_a.py::test_x"),
        ("test_a.py::test_x[board:dk]", "test_a.py::test_x"),
        ("test_a.py::test_x[board:dk:01-build:app]", "test_a.py::test_x"),
        ("test_a.py::test_x[board:dk-build:app-64-fast]", "test_a.py::test_x[64-fast]"),
        ("test_a.py::test_x[64-board:dk-build:app]", "test_a.py::test_x[64]"),
        ("test_a.py::test_x[board:dk:02-build:app-2]", "test_a.py::test_x[board:dk:02-2]"),
        ("test_a.py::test_x[keyboard:dk-rebuild:app]", "test_a.py::test_x[keyboard:dk-rebuild:app]"),
    ],
)
def test_parameters_of_a_test_tell_its_rows_apart(tmp_path, nodeid, shown):
    write_night(tmp_path, 0, result_line("failed", "test", nodeid=nodeid))
    (row,) = rows_of(render(collect(tmp_path), ""))
    assert row[4] == shown


def test_a_row_tells_when_it_was_and_in_which_run(tmp_path):
    late = {"ended": (FIRST + timedelta(minutes=11)).isoformat()}
    write(tmp_path, "a", run_line(), result_line("failed", "test", **late), end_line())
    assert [row[3] for row in rows_of(render(collect(tmp_path), ""))] == ["23:41"]
    other = run_line(FIRST + timedelta(minutes=30), host="rack2")
    write(tmp_path, "b", other, result_line("failed", "test", unit="dk:02"), end_line())
    rows = rows_of(render(collect(tmp_path), ""))
    assert [row[3] for row in rows] == ["23:41, run of 23:30 on rack1", "run of 00:00 on rack2"]


def test_long_names_break_between_words(tmp_path):
    write_night(tmp_path, 0, result_line("failed", "test", nodeid="tests/test_a.py::test_of_it[64]"))
    assert "tests/<wbr>test_<wbr>a.py<wbr>::test_<wbr>of_<wbr>it<wbr>[64]" in render(collect(tmp_path), "")


def test_the_page_shows_trends_and_figures(tmp_path, page):
    for number in range(8):
        write_night(tmp_path, number, update_line(retries=0 if number < 5 else 4), update_line(unit="dk:02"))
    shown = page()
    assert "Look at these before they fail" in shown.text
    assert "dk:01: 4.0 packets sent again per 100 kB in its last 3 nights, 0.0 before." in shown.text
    assert shown.tags.count("svg") == 4
    assert shown.text.count("look at it") == 1
    assert re.search(r"dk:02: 8 nights.*2026-01-12110010\.000\n2026-01-11", shown.text, re.DOTALL)


def test_the_page_needs_nothing_else(tmp_path, page):
    """No script, no style sheet, no picture, no font, no address."""
    write_night(tmp_path, 0, result_line("failed", "test"), update_line())
    shown = page("<Nights> & days")
    assert not {"script", "link", "img", "iframe", "object", "image", "use"} & set(shown.tags)
    assert not [name for name, value in shown.attributes if name in {"src", "href"} or name.startswith("on")]
    text = render(collect(tmp_path), "")
    assert text.count("http") == text.count('xmlns="http://www.w3.org/2000/svg"')
    assert "@import" not in text
    assert "url(" not in text
    assert shown.text.strip().startswith("<Nights> & days")


def test_simulated_figures_are_labelled(tmp_path, page):
    write(tmp_path, "a", run_line(simulated=True), update_line(), end_line())
    assert "Figures of simulated boards are in here" in page().text


def test_an_empty_folder_is_said_to_be_empty(page):
    assert "No record of a run was found." in page().text


def test_a_year_of_eight_units_is_small(tmp_path):
    """Two builds each, something broken every night: under 2 MB."""
    for number in range(365):
        lines = []
        for unit in (f"nrf5340dk:dk-{n:02}" for n in range(8)):
            for build in ("app", "bootloader-test"):
                names = {"unit": unit, "build": build}
                lines += [result_line(**names), result_line("failed", "test", error="x" * 400, **names)]
                lines.append(update_line(rate=10_000.0 + number, retries=number % 7, **names))
        write_night(tmp_path, number, *lines)
    text = render(collect(tmp_path), "A year")
    assert 200_000 < len(text.encode()) < 2_000_000
    Page(text)
