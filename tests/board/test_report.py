"""The report of an update, as data."""

import json

import pytest

from pytest_nrfdfu.board.report import DfuReport, Phase, Timeline


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
    whole = report(timeline=(Phase("upload", 1.0, 1.5),), notes=("taken up",), reports=(part,))
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
        "retries": 0,
        "resyncs": 0,
        "entry": "",
        "timeline": [{"name": "upload", "start": 1.0, "end": 1.5}],
        "notes": ["taken up"],
        "simulated": False,
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
