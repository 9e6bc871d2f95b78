"""Updates that the application receives over the product's own link, stages itself, and has to survive."""

import pytest

from pytest_nrfdfu import NotBooted

TRANSFER = 60
"""Seconds in which an image must have come over the link and be pending."""
REVERT = 30
"""Seconds for a fault, and for MCUboot to take the image back."""


@pytest.mark.board("tracker-smp")
@pytest.mark.build("new")
def test_update_is_proved_by_the_applications_image_list(dfu, build, host):
    with dfu.staged(build, timeout=TRANSFER) as update:
        host.transfer(build.image.data)
    assert update.pending == "the application's image list"
    assert update.report.verified, update.report.proof
    assert update.report.hash == build.hash
    assert update.report.confirmed


@pytest.mark.board("tracker-plain")
@pytest.mark.build("new")
def test_update_is_proved_by_recovery_and_console(dfu, console, build, host):
    """Without an SMP server: recovery lists what was staged, and the bootloader's log tells what it made of it."""
    with dfu.staged(build, timeout=TRANSFER) as update:
        host.transfer(build.image.data)
    assert "recovery's image list" in update.pending
    assert update.report.running == f"console: MCUboot swapped (test) and started version {build.version}"
    assert not update.report.verified, "nothing has shown the hash of what runs"
    assert console.boot.swap_types == {0: "test"}
    assert console.boot.application_version == build.version


@pytest.mark.board("tracker")
@pytest.mark.build("new")
def test_update_stays(dfu, board, build, host):
    """An image that nobody confirmed would be gone after one more reset."""
    with dfu.staged(build, timeout=TRANSFER):
        host.transfer(build.image.data)
    board.reset()
    assert board.images(enter_recovery=True).find(slot=0).hash == build.hash


@pytest.mark.board("tracker-smp")
@pytest.mark.build("new")
def test_unconfirmed_update_is_taken_back(dfu, build, host, released):
    with dfu.staged(build, timeout=TRANSFER, confirm=False) as update:
        host.transfer(build.image.data)
    assert update.report.verified, update.report.proof
    assert update.report.confirmed is False
    assert dfu.revert().hash == released.hash


@pytest.mark.board("tracker")
@pytest.mark.build("new")
@pytest.mark.parametrize("lost", ["link", "board"])
def test_broken_off_transfer_is_resumed(dfu, board, build, host, lost):
    """The link breaks in the middle, or the board is reset there as well; in flash is what was sent before."""
    image = build.image.data
    with dfu.staged(build, timeout=TRANSFER):
        host.transfer(image, break_off_at=len(image) // 2)
        if lost == "board":
            board.reset()
        resumed_at = host.transfer(image)
    assert 0 < resumed_at < len(image)
    assert board.images(enter_recovery=True).find(slot=0).hash == build.hash


@pytest.mark.board("tracker")
@pytest.mark.build("faulty")
def test_build_that_faults_is_taken_back(dfu, board, console, build, host, released):
    with pytest.raises(NotBooted, match="FATAL ERROR"), dfu.staged(build, timeout=TRANSFER):
        host.transfer(build.image.data)
    console.expect(r"FATAL ERROR", timeout=REVERT)
    console.expect(rf"application {released.version}", timeout=REVERT)
    faulty, now = console.boots[-2:]
    assert (faulty.application_version, now.application_version) == (build.version, released.version)
    assert faulty.fault is not None
    assert now.fault is None
    assert board.images(enter_recovery=True).find(slot=0).hash == released.hash
