"""The report of an update, as data."""

import json

import pytest

from pytest_nrfdfu.board.report import Course, DfuReport, Phase, Stall, Timeline


def report(**changes):
    values = {
        "unit": "nrf5340dk:dk-07",
        "build": "app",
        "image": "app",
        "verified": True,
        "proof": "image list",
        "hash": b"\xab" * 32,
        "running": "console",
        "version": "1.2.3",
        "bytes": 1000,
        "seconds": 0.5,
        "rate": 2000.0,
        "chunk": 400,
    }
    return DfuReport(**values | changes)


def test_json_holds_every_field_and_bytes_as_hex():
    part = report(image="net", verified=False, proof="network core", hash=None)
    course = Course(((0.0, 0), (0.5, 1000)), (0.25,), (Stall(0.0, 0.5),))
    whole = report(timeline=(Phase("upload", 1.0, 1.5),), notes=("taken up",), course=course, reports=(part,))
    values = json.loads(json.dumps(whole.to_json()))
    assert values == {
        "unit": "nrf5340dk:dk-07",
        "build": "app",
        "image": "app",
        "verified": True,
        "proof": "image list",
        "hash": "ab" * 32,
        "running": "console",
        "version": "1.2.3",
        "bytes": 1000,
        "seconds": 0.5,
        "rate": 2000.0,
        "chunk": 400,
        "window": 1,
        "window_outcome": "",
        "retries": 0,
        "resyncs": 0,
        "trial_losses": 0,
        "entry": "",
        "via": "recovery",
        "swap": "",
        "confirmed": None,
        "swapped": None,
        "cut": "",
        "timeline": [{"name": "upload", "start": 1.0, "end": 1.5}],
        "notes": ["taken up"],
        "simulated": False,
        "course": {"points": [[0.0, 0], [0.5, 1000]], "repeats": [0.25], "stalls": [[0.0, 0.5]]},
        "reports": [part.to_json()],
    }
    assert values["reports"][0]["hash"] is None


def test_a_report_does_not_change():
    with pytest.raises(AttributeError):
        report().verified = False


def test_a_timeline_is_on_the_callers_clock():
    now = iter([12.0, 13.5, 14.0, 14.25])
    timeline = Timeline(10.0)
    with timeline.phase("recovery", lambda: next(now)):
        pass
    with pytest.raises(RuntimeError), timeline.phase("upload", lambda: next(now)):
        raise RuntimeError
    assert timeline.phases == [Phase("recovery", 2.0, 3.5), Phase("upload", 4.0, 4.25)]


# --- how an upload went ---------------------------------------------------------------------------------------------


def test_a_course_counts_from_the_first_request():
    course = Course.of([(100.0, 0), (100.5, 400), (101.0, 800)], repeated=[100.75])
    assert course.points == ((0.0, 0), (0.5, 400), (1.0, 800))
    assert course.repeats == (0.75,)
    assert course.stalls == ()


def test_no_upload_has_no_course():
    assert Course.of([]) == Course()


def test_a_course_shows_where_the_board_went_back():
    assert Course.of([(0.0, 0), (1.0, 400), (2.0, 0), (3.0, 400)]).points[2] == (2.0, 0)


def test_long_answers_are_stalls():
    """Twice the usual time, and half the erasure of a page more than it."""
    times = [0.0, 0.1, 0.2, 0.42, 0.52, 0.71, 0.81]  # 0.22 is long, 0.19 is not
    course = Course.of([(when, index) for index, when in enumerate(times)])
    assert course.stalls == (Stall(0.2, 0.42),)
    quick = [0.0, 0.001, 0.002, 0.03, 0.031]  # many times the usual, but nothing that a person would look for
    assert Course.of([(when, index) for index, when in enumerate(quick)]).stalls == ()


def test_a_long_course_is_thinned_and_keeps_its_shape():
    """First, last, and both edges of a pause."""
    progress = [(n * 0.01 + (3.0 if n > 4000 else 0.0), n) for n in range(10_000)]
    course = Course.of(progress, repeated=[n * 0.01 for n in range(5000)])
    assert 200 < len(course.points) <= 240
    assert len(course.repeats) <= 200
    assert course.points[0] == (0.0, 0)
    assert course.points[-1] == (102.99, 9999)
    assert {(40.0, 4000), (43.01, 4001)} <= set(course.points)
    assert course.stalls == (Stall(40.0, 43.01),)
    assert list(course.points) == sorted(course.points)


def test_of_many_stalls_the_longest_are_kept():
    times = [0.0]
    for n in range(600):
        times.append(times[-1] + (0.2 + n / 1000 if n % 3 == 0 else 0.01))
    course = Course.of([(when, index) for index, when in enumerate(times)])
    assert len(course.stalls) == 100
    assert list(course.stalls) == sorted(course.stalls)
    assert min(stall.end - stall.start for stall in course.stalls) == pytest.approx(0.5, abs=0.002)
