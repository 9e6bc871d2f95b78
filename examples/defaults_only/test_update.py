"""The plugin's fixtures as they are."""


def test_update_is_proved(dfu, build):
    report = dfu.update(build)
    assert report.verified, report.proof
    assert report.hash == build.hash


def test_it_boots(flashed, console):
    flashed.reset()
    console.expect(r"Booting Zephyr OS", timeout=5)
