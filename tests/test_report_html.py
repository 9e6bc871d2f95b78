"""Additions to pytest-html's report. The rows are in the page as JSON, which its script lays out."""

import html
import json
import re

import pytest
import suites

pytest.importorskip("pytest_html")

TESTS = """
import pytest

@pytest.mark.build("app")
def test_updates(dfu, build, console):
    assert dfu.update(build).verified
    console.expect("Booting")

@pytest.mark.build("app")
def test_fails(board, build):
    assert not board.unit

@pytest.mark.build("app")
def test_skips(board, build):
    pytest.skip("not today")

def test_without_a_board():
    pass
"""
WITH_HTML = ("-p", "no:hypothesispytest", "-p", "no:cacheprovider", "-Werror", "--html=report.html")


@pytest.fixture
def suite(pytester, monkeypatch):
    return suites.make(pytester, monkeypatch)


def page_of(suite, *arguments):
    """Column heads, and rows by the test's name: their cells' texts, and their HTML extras."""
    result = suite.pytester.runpytest_subprocess(*WITH_HTML, "--board=fast", "--build=app.bin", *arguments)
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()
    text = (suite.path / "report.html").read_text()
    data = json.loads(html.unescape(re.search(r'data-jsonblob="(.*?)"', text)[1]))
    heads = re.findall(r"<th[^>]*>(\w+)</th>", text)
    rows = {}
    for nodeid, entries in data["tests"].items():
        cells = [html.unescape(re.sub(r"<[^>]*>", "", cell)) for cell in entries[-1]["resultsTableRow"]]
        extras = [extra["content"] for extra in entries[-1]["extras"] if extra["format_type"] == "html"]
        rows[re.search(r"::(\w+)", nodeid)[1]] = (dict(zip(heads, cells, strict=True)), extras)
    return rows


@pytest.mark.parametrize("workers", [(), ("-n1",)], ids=["alone", "xdist"])
def test_every_row_has_unit_build_upload_and_category(suite, workers):
    suite.tests(TESTS)
    rows = page_of(suite, *workers)
    shown = {name: [cells[head] for head in ("Unit", "Build", "Category")] for name, (cells, _) in rows.items()}
    assert shown == {
        "test_updates": ["fast", "app", ""],
        "test_fails": ["fast", "app", "test"],
        "test_skips": ["fast", "app", ""],
        "test_without_a_board": ["", "", ""],
    }
    assert re.fullmatch(r"5552 bytes, \d+\.\d kB/s; verified", rows["test_updates"][0]["Upload"])
    assert rows["test_fails"][0]["Upload"] == ""


def test_console_and_exchange_are_in_the_page(suite):
    """Also of a test that passed; folded, escaped, without control characters."""
    suite.tests(TESTS)
    rows = page_of(suite, "--self-contained-html")
    extras = "".join(rows["test_updates"][1])
    assert "<summary>Console of fast</summary>" in extras
    assert re.search(r"<summary>Boots of fast: \d</summary><pre [^>]*> +\d\.\d{3} s ", extras)
    assert "Faults of" not in extras
    assert "*** Booting " in extras
    assert "Upload of app (app) to fast: 5552 bytes acknowledged after " in extras
    assert extras.count("<svg ") == 1
    assert all(extra.startswith('<div style="color:#767676">') for extra in rows["test_updates"][1])
    assert re.search(r"<summary>SMP exchange with fast: \d+ messages</summary>", extras)
    assert "-&gt; image upload write, sequence" in extras
    assert "\x1b" not in extras
    assert "http:" not in extras.replace("http://www.w3.org/2000/svg", "")
    assert rows["test_without_a_board"][1] == []


def test_a_collection_error_has_all_columns(suite):
    suite.tests(TESTS)
    suite.pytester.makepyfile(test_broken="import nothing_of_this_name")
    result = suite.pytester.runpytest_subprocess(*WITH_HTML, "--board=fast", "--continue-on-collection-errors")
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()
    text = html.unescape((suite.path / "report.html").read_text())
    assert text.count('<td class=\\"col-unit\\">') == text.count('<td class=\\"col-result\\">') > 1


def test_without_pytest_html_nothing_is_missing(suite):
    suite.tests(TESTS)
    result = suite.run("--board=fast", "--build=app.bin")
    result.assert_outcomes(passed=2, failed=1, skipped=1)


def test_a_run_without_boards_has_no_columns_of_ours(suite):
    suite.tests("def test_it(): pass")
    suite.pytester.runpytest_subprocess(*WITH_HTML)
    assert "col-unit" not in (suite.path / "report.html").read_text()
