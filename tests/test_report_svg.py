"""Pictures: what is drawn, and that nothing is loaded from elsewhere."""

from xml.etree import ElementTree as ET

import pytest

from pytest_nrfdfu.board.report import Course, Stall
from pytest_nrfdfu.report.svg import MARK, nice_step, trend_picture, upload_picture

SVG = "{http://www.w3.org/2000/svg}"
COURSE = Course(((0.0, 0), (1.0, 4000), (4.0, 0), (5.0, 8000)), (2.0, 3.5), (Stall(1.0, 4.0),))


def parsed(picture):
    return ET.fromstring(picture)


def texts(picture):
    return [item.text for item in parsed(picture).iter(f"{SVG}text")]


def test_an_upload_is_drawn():
    """A line with all points, a band for each long answer, a triangle for each repeat, both counted in words."""
    root = parsed(upload_picture(COURSE.to_json(), "Upload of <app>"))
    assert root.find(f"{SVG}title").text == (
        "Upload of <app>: 8000 bytes acknowledged after 5.00 s, 2 chunks sent again, 1 long answers"
    )
    bands = [item for item in root.iter(f"{SVG}rect") if item.get("height") != "12"]
    assert len(bands) == 1
    line = next(item.get("d") for item in root.iter(f"{SVG}path") if item.get("fill") == "none")
    assert line == "M56 200H183.6V115H566.4V200H694V30"  # down where the board went back to 0
    triangles = [item.get("d") for item in root.iter(f"{SVG}path") if MARK in item.get("style", "")]
    assert triangles[0].count("M") == 2
    assert "sent again: 2" in texts(upload_picture(COURSE.to_json(), ""))


def test_an_upload_has_axes():
    shown = texts(upload_picture(COURSE.to_json(), ""))
    assert [text for text in shown if text.endswith(" s")] == [f"{n} s" for n in range(6)]
    assert [text for text in shown if text.endswith(" kB")] == ["0 kB", "2 kB", "4 kB", "6 kB", "8 kB"]


WIDEST = 7
"""Pixels of a character in 12 px: digits are about 7 in common sans-serif fonts, and what stands beside them less."""


def across(text):
    """From where to where a text reaches."""
    x, width = float(text.get("x")), WIDEST * len(text.text)
    return {"middle": (x - width / 2, x + width / 2), "end": (x - width, x)}.get(
        text.get("text-anchor"), (x, x + width)
    )


@pytest.mark.parametrize("seconds", [0.05, 0.6, 5.0, 6.0, 60.0, 600.0, 6000.0])
@pytest.mark.parametrize("count", [60, 8000, 448 << 10, 1 << 20])
def test_no_label_of_an_upload_is_clipped(seconds, count):
    """Also where an upload ends at a round time, whose label then stands below the right edge."""
    root = parsed(upload_picture(Course(((0.0, 0), (seconds, count))).to_json(), ""))
    _, _, width, _ = map(float, root.get("viewBox").split())
    places = [across(item) for item in root.iter(f"{SVG}text")]
    assert min(left for left, _ in places) >= 0
    assert max(right for _, right in places) <= width


@pytest.mark.parametrize("top", [0.013, 9.87, 123.4, 99_999])
def test_no_label_of_a_trend_is_clipped(top):
    root = parsed(trend_picture([0.0, top], "", ""))
    assert min(across(item)[0] for item in root.iter(f"{SVG}text")) >= 0


@pytest.mark.parametrize("points", [(), ((0.0, 0),)])
def test_no_picture_of_no_upload(points):
    assert upload_picture(Course(points).to_json(), "") == ""


def test_an_upload_of_no_time_and_no_bytes_is_drawn():
    assert parsed(upload_picture(Course(((0.0, 0), (0.0, 0)), (0.0,)).to_json(), "")).tag == f"{SVG}svg"


@pytest.mark.parametrize(
    ("span", "step"), [(0, 1.0), (0.3, 0.05), (1, 0.2), (5, 1), (7, 2), (59, 10), (600, 100), (601, 200)]
)
def test_steps_of_an_axis_are_round(span, step):
    assert nice_step(span) == pytest.approx(step)


def test_a_trend_leaves_out_what_was_not_measured():
    root = parsed(trend_picture([1.0, None, 2.0, 4.0], "Speed of dk-01", "kB/s"))
    assert root.find(f"{SVG}title").text == "Speed of dk-01: 4 kB/s last, 4 at most"
    line = next(item.get("d") for item in root.iter(f"{SVG}path") if item.get("fill") == "none")
    assert line.count("L") == 2
    assert line.endswith("330 10")
    assert trend_picture([None, None], "", "") == ""


def test_a_trend_of_trouble_has_its_colour():
    assert MARK in trend_picture([1.0, 2.0], "", "", marked=True)
    assert MARK not in trend_picture([1.0, 2.0], "", "")


@pytest.mark.parametrize("picture", [upload_picture(COURSE.to_json(), ""), trend_picture([1.0, 0.0], "", "")])
def test_pictures_fit_both_themes_and_load_nothing(picture):
    """Text in the page's colour, no fixed black or white, no address but the namespace."""
    root = parsed(picture)
    assert all(item.get("fill") == "currentColor" for item in root.iter(f"{SVG}text"))
    assert picture.count("http") == picture.count('xmlns="http://www.w3.org/2000/svg"') == 1
    assert "url(" not in picture
    assert not any(colour in picture for colour in ("#000", "#fff", "black", "white"))
