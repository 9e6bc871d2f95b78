"""Boards x builds: which tests there are, what is uploaded for them and how often, and what cannot fit."""

import builds
import firmware
import pytest
import suites

BOARDS = ("--board", "fast", "--board", "other")


@pytest.fixture
def suite(pytester, monkeypatch):
    suite = suites.make(pytester, monkeypatch)
    suite.add_board("other", suites.FAST)
    return suite


def three(suite):
    """Options that select three builds: of three versions."""
    paths = [suites.app(suite.path, f"{n}.0.0", name=f"v{n}.bin") for n in (1, 2, 3)]
    return [argument for path in paths for argument in ("--build", str(path))]


def signed(suite, name="app.signed.bin", key="ecdsa-p256"):
    path = suite.path / name
    path.write_bytes(firmware.sign(bytes(range(256)) * 8, key=key))
    return path


# --- six tests ------------------------------------------------------------------------------------------------------

COUNTED = """
from pytest_nrfdfu.report import POOL
from pytest_nrfdfu.sim_admin import SimAdmin


def uploads(request):
    pool = request.config.stash[POOL]
    counts = {}
    for unit in pool.held:
        with SimAdmin(pool.simulator(unit).admin) as admin:
            counts[unit.name] = admin.counters()["uploads"]
            assert admin.flash_hash().image_hash is not None
    return counts


def test_one(flashed, build, board):
    assert build.hash == board.images(enter_recovery=True).find().hash


def test_two(flashed, build, board, request):
    number = int(build.name[1:])
    expected = {"fast": number} if board.unit == "fast" else {"fast": 3, "other": number}
    assert uploads(request) == expected
"""


def test_each_build_is_uploaded_once_per_unit(suite):
    """Both tests use `flashed` with each of six pairs; the simulated boards count three uploads each."""
    suite.tests(COUNTED)
    result = suite.run(*BOARDS, *three(suite), "-v")
    result.assert_outcomes(passed=12)
    names = [
        f"*::test_{which}[[]board:{board}-build:v{n}] *"
        for board in ("fast", "other")
        for n in (1, 2, 3)
        for which in ("one", "two")
    ]
    result.stdout.fnmatch_lines([name + "*" for name in names if "test_two" in name])
    shown = result.stdout.str()
    assert shown.count("uploading app") == 6
    for board in ("fast", "other"):
        for n in (1, 2, 3):
            assert shown.count(f"  {board}: uploading app {n}.0.0 ") == 1


def test_two_boards_by_three_builds(suite):
    """Six tests, by board, then build; and those of both tests of a pair stand together."""
    suite.tests("def test_x(board, build): pass\n\ndef test_y(flashed): pass\n")
    found = suite.ids(*BOARDS, *three(suite))
    pairs = [f"[board:{board}-build:v{n}]" for board in ("fast", "other") for n in (1, 2, 3)]
    assert found == [f"test_{name}{pair}" for pair in pairs for name in "xy"]


def test_markers_choose_among_them(suite):
    suite.tests(
        "import pytest\n\n"
        "@pytest.mark.build('v[12]')\n@pytest.mark.board('other')\ndef test_x(board, build): pass\n\n"
        "@pytest.mark.build('v3')\ndef test_y(build): pass\n"
    )
    assert suite.ids(*BOARDS, *three(suite)) == [
        "test_y[build:v3]",
        "test_x[board:other-build:v1]",
        "test_x[board:other-build:v2]",
    ]


# --- patterns -------------------------------------------------------------------------------------------------------

SMALL = suites.FAST.replace("slot_size = 0x70000", "slot_size = 0x4000")


def test_pattern_selects_several(suite):
    suite.tests("def test_x(board, build): pass\n")
    three(suite)
    assert suite.ids("--board", "fast", "--build", "v[13].bin", "--build", str(suite.path / "v2.*")) == [
        f"test_x[board:fast-build:v{n}]" for n in (1, 3, 2)
    ]


def test_pattern_that_means_nothing_or_too_much(suite):
    suite.tests("def test_x(build): pass\n")
    three(suite)
    text = suites.usage_error(suite.run_inside("--build", "w*.bin"))
    assert "--build w*.bin: no file or directory matches" in text
    text = suites.usage_error(suite.run_inside("--build", "it=v*.bin"))
    assert "--build it=v*.bin: 3 files match, and they cannot all be called 'it'" in text
    assert suite.ids("--build", "it=v1*") == ["test_x[build:it]"]


def test_what_a_pattern_chose_is_skipped_where_it_cannot_fit(suite):
    """Too large for one board's slot, and for another chip everywhere; the reason stands there."""
    suite.add_board("small", SMALL)
    suites.app(suite.path, "1.0.0", size=3000, name="w1.bin")
    suites.app(suite.path, "2.0.0", size=30_000, name="w2.bin")
    builds.plain(suite.path / "w3", suites.simulator.make_image("3.0.0"))
    config = suite.path / "w3" / "zephyr" / ".config"
    config.write_text('CONFIG_BOARD="nrf52840dk"\nCONFIG_SOC="nRF52840_QIAA"\nCONFIG_BOOTLOADER_MCUBOOT=y\n')
    suite.tests(
        "def test_x(flashed, build):\n    assert flashed.images(enter_recovery=True).find().hash == build.hash\n"
    )
    result = suite.run("--board", "small", "--board", "fast", "--build", "w*", "-rs")
    result.assert_outcomes(passed=3, skipped=3)
    result.stdout.fnmatch_lines_random(
        [
            "SKIPPED*w2.bin*the file has 30*, and the slot 16384*",
            "SKIPPED*the build is for nrf52840dk (chip nrf52840_qiaa), and board small has an nRF5340*",
            "SKIPPED*the build is for nrf52840dk (chip nrf52840_qiaa), and board fast has an nRF5340*",
        ]
    )


def test_what_was_named_is_an_error_where_it_cannot_fit(suite):
    suite.add_board("small", SMALL)
    large = suites.app(suite.path, "2.0.0", size=30_000, name="w2.bin")
    other = builds.plain(suite.path / "w3", suites.simulator.make_image("3.0.0"))
    (other / "zephyr" / ".config").write_text('CONFIG_BOARD="nrf52840dk"\nCONFIG_SOC="nRF52840_QIAA"\n')
    suite.tests("def test_x(flashed): pass\n\ndef test_y(dfu, build): dfu.update(build)\n")
    result = suite.run("--board", "small", "--build", large, "--build", other)
    result.assert_outcomes(errors=2, failed=2)
    result.stdout.fnmatch_lines_random(
        [
            "E *ImageError: *w2.bin*the file has 30*, and the slot 16384*",
            "E *ImageError: the build is for nrf52840dk (chip nrf52840_qiaa), and board small has an nRF5340*",
        ]
    )


def test_workers_get_the_same_selection(suite):
    """Of pytest-xdist: what a pattern chose is skipped there as well, and a key goes along."""
    pytest.importorskip("xdist")
    suite.add_board("small", SMALL)
    signed(suite, "w1.bin")
    suites.app(suite.path, "2.0.0", size=30_000, name="w2.bin")
    suite.tests(
        "def test_x(board, build, dfu):\n"
        "    assert board.config.bootloader.public_key.name == 'ecdsa-p256.pem'\n"
        "    assert dfu.update(build).verified\n"
    )
    result = suite.run(
        "--board", "small", "--build", "w*.bin", "-n1", f"--nrfdfu-key={firmware.private_key('ecdsa-p256')}"
    )
    result.assert_outcomes(passed=1, skipped=1)


# --- Kconfig --------------------------------------------------------------------------------------------------------


def test_a_test_asks_for_kconfig_values(suite):
    """Those of the application; a bare file has none."""
    path = builds.sysbuild(
        suite.path / "build",
        images={"zephyr.signed.bin": suites.simulator.make_image()},
        config={"CONFIG_SHELL": True, "CONFIG_NET_HOSTNAME": "sensor", "CONFIG_BT": False},
    )
    suite.tests(
        "import pytest\n\n"
        "def test_shell(build):\n"
        "    if not build.config.get('CONFIG_SHELL'):\n        pytest.skip('no shell')\n"
        "    assert build.config['CONFIG_NET_HOSTNAME'] == 'sensor'\n"
        "    assert build.config['CONFIG_FLASH_LOAD_OFFSET'] == 0x10000\n"
        "    assert not build.config.get('CONFIG_BT')\n"
    )
    result = suite.run_inside("--build", path, "--build", suite.app, "-v")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["*test_shell[[]build:build] PASSED*", "*test_shell[[]build:app] SKIPPED (no shell)*"])


# --- keys -----------------------------------------------------------------------------------------------------------

UNCHECKED = "signature not checked before upload: no public_key in [bootloader], no --nrfdfu-key"
UPDATE = "def test_x(dfu, build):\n    assert dfu.update(build).verified\n"


def test_right_key(suite):
    suite.tests(UPDATE)
    result = suite.run(
        "--board", "fast", "--build", signed(suite), f"--nrfdfu-key={firmware.private_key('ecdsa-p256')}"
    )
    result.assert_outcomes(passed=1)
    assert "signature not checked" not in result.stdout.str()


@pytest.mark.parametrize(
    ("kind", "phrase"),
    [
        ("ed25519", "is signed with ECDSA P-256 over SHA256, the key *ed25519.pem is Ed25519"),
        (
            "another",
            "is signed with another key than the bootloader's: it names *, and the ECDSA P-256 key *another.pem",
        ),
    ],
)
def test_wrong_key(suite, kind, phrase):
    """Found out before the board is touched, where it would take the upload and then list no image."""
    key = suite.path / f"{kind}.pem"
    firmware.imgtool("keygen", "-k", key, "-t", "ecdsa-p256" if kind == "another" else kind)
    suite.tests(UPDATE)
    result = suite.run("--board", "fast", "--build", signed(suite), f"--nrfdfu-key={key}")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"E *ImageError: *app.signed.bin {phrase}*"])
    assert "serial recovery answers" not in result.stdout.str()


def test_key_over_the_configurations(suite):
    """By the ini file too, relative to it; what is no key ends the run at once."""
    suite.add_board("fast", suites.FAST + f'\n[bootloader]\npublic_key = "{firmware.private_key("ed25519")}"\n')
    suite.tests(UPDATE)
    build = signed(suite)
    suite.run("--board", "fast", "--build", build).assert_outcomes(failed=1)
    (suite.path / "key.pem").write_bytes(firmware.private_key("ecdsa-p256").read_bytes())
    suite.pytester.makeini("[pytest]\nnrfdfu_key = key.pem\n")
    suite.run("--board", "fast", "--build", build).assert_outcomes(passed=1)
    text = suites.usage_error(suite.run_inside("--board", "fast", "--build", build, "--nrfdfu-key", build))
    assert "as a public key: it is an MCUboot image" in text
    text = suites.usage_error(suite.run_inside("--board", "fast", "--build", build, "--nrfdfu-key", "nowhere.pem"))
    assert "nowhere.pem as a public key: it cannot be read" in text


def test_without_a_key_it_is_said_once(suite):
    suite.tests(UPDATE + "\n\ndef test_y(dfu, build):\n    assert dfu.update(build).verified\n")
    result = suite.run("--board", "fast", "--build", signed(suite))
    result.assert_outcomes(passed=2)
    assert result.stdout.str().count(UNCHECKED) == 1
