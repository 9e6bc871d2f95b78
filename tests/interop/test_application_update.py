"""Updates through real applications: Zephyr 4.4's SMP server and MCUboot, in emulators and as a program of this host.

What smpclient's images allow: the emulated nRF51 has all of it, swap and revert included; the mps2 ones take an
upload and mark nothing (their MCUboot loads into RAM); the native_sim ones have no image group.
"""

from pathlib import Path

import firmware
import pytest
import servers

WHOLE_UPDATE = """
RUNNING, UPDATE = "0.0.0", "9.9.9"


def versions(board):
    return {state.slot: str(state.version) for state in board.images().images}


def test_it(dfu, build, board, console):
    report = dfu.update(build, via="application", confirm=False)
    assert report.verified and report.proof == "image list" and report.running == "image list"
    assert (report.hash, report.via, report.swap) == (build.hash, "application", "offset")
    assert report.confirmed is False
    assert report.bytes == len(build.image.data)
    assert report.window == 3, "the server has 4 buffers, of which one is for the answer"
    assert versions(board) == {0: UPDATE, 1: RUNNING}
    boot = console.boots[-1]
    assert (boot.swap_types, boot.swap_algorithm, boot.fault) == ({0: "test"}, "offset", None)

    reverted = dfu.revert()
    assert (str(reverted.version), reverted.away_hash) == (RUNNING, build.hash)
    assert console.boots[-1].swap_types == {0: "revert"}

    report = dfu.update(build, via="application")
    assert report.verified and report.confirmed
    board.reset()
    active = [state for state in board.images().images if state.active]
    assert [(state.hash, state.confirmed) for state in active] == [(build.hash, True)]
    assert console.boots[-1].swap_types == {0: "none"}
"""

NO_SWAP = """
import pytest
from pytest_nrfdfu import UpdateRefused


def test_it(dfu, build, board):
    with pytest.raises(UpdateRefused, match="does not mark it for a test"):
        dfu.update(build, via="application", confirm=False)
    states = board.images().images
    assert [state.hash for state in states if state.slot == 1] == [build.hash]
    assert [state.slot for state in states if state.active] == [0]
"""

NO_IMAGE_GROUP = """
import pytest
from pytest_nrfdfu import UpdateRefused


def test_it(dfu, build):
    with pytest.raises(UpdateRefused, match="without the image group.*Nothing was sent"):
        dfu.update(build, via="application")
"""

BOARD = """
[uart]
port = "{port}"

[recovery]
entry = ["smp"]
reset = "smp"
allow_no_way_back = true

[bootloader]
profile = "ncs-2.6"
swap = "offset"
"""

HEADER_SIZE = 0x200
SLOTS = (0x8000, 0x22000)
"""Of the emulated nRF51, in its flash of 256 KiB."""
SLOT_SIZE = 0x1A000
RAM_LOAD_ADDRESS = ("--load-addr", "0x20240000")
"""Where the mps2's MCUboot loads an application."""


def signed_file(folder: Path, entry: dict) -> Path:
    name = entry["artifact"]
    return folder / name.replace(".merged.hex", ".signed.bin").replace(".hex", ".signed.bin")


def run(pytester: pytest.Pytester, suite: str, port: str, image: bytes) -> pytest.RunResult:
    pytester.makepyfile(suite)
    pytester.mkdir("hil_configs").joinpath("real.toml").write_text(BOARD.format(port=port))
    build = pytester.path / "update.signed.bin"
    build.write_bytes(image)
    return pytester.runpytest_subprocess("--board", "real", "--build", f"app={build}", timeout=120)


def test_whole_update_revert_and_confirmation(pytester: pytest.Pytester, request: pytest.FixtureRequest) -> None:
    """Another version of the application that runs: uploaded, swapped in, taken back, swapped in again and kept."""
    folder = servers.fixtures_folder(request.config.cache)
    entry = servers.server(folder, "serial", "qemu_cortex_m0")
    own = signed_file(folder, entry).read_bytes()
    size = int.from_bytes(own[12:16], "little")
    update = firmware.sign(own[HEADER_SIZE : HEADER_SIZE + size], "9.9.9", slot_size=SLOT_SIZE)
    with servers.lasting_emulator(folder, entry) as emulator, servers.paced(emulator.port) as port:
        for start, content in zip(SLOTS, (own, b""), strict=True):
            emulator.gdb.write(start, content.ljust(SLOT_SIZE, b"\xff"))  # nothing has erased it yet
        emulator.gdb.reset()
        emulator.gdb.run()
        result = run(pytester, WHOLE_UPDATE, port, update)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*real*app*9.9.9*image list*image list*"])


@pytest.mark.parametrize("size", [400, 1024, 2048])
def test_upload_to_every_size_of_buffer(size: int, pytester: pytest.Pytester, request: pytest.FixtureRequest) -> None:
    """The upload and its proof in slot 1; the mark is refused, because a RAM-loading MCUboot does not know it."""
    folder = servers.fixtures_folder(request.config.cache)
    entry = servers.server(folder, f"serial_recovery_buf{size}", "mps2_an385")
    body = signed_file(folder, entry).read_bytes()[HEADER_SIZE : HEADER_SIZE + 6_000]
    image = firmware.sign(body, "9.9.9", slot_size=0x80000, extra=RAM_LOAD_ADDRESS)
    with servers.lasting_emulator(folder, entry) as emulator, servers.paced(emulator.port) as port:
        emulator.gdb.run()
        result = run(pytester, NO_SWAP, port, image)
    result.assert_outcomes(passed=1)


@pytest.mark.parametrize("config", ["serial_buf256", "serial_noparams"])
def test_without_image_group_nothing_is_sent(
    config: str, pytester: pytest.Pytester, request: pytest.FixtureRequest
) -> None:
    folder = servers.fixtures_folder(request.config.cache)
    image = firmware.sign(bytes(range(256)) * 8, "9.9.9")
    with servers.native_server(folder, servers.server(folder, config, "native_sim")) as port:
        result = run(pytester, NO_IMAGE_GROUP, port, image)
    result.assert_outcomes(passed=1)
