"""The upload number of the network core: what is known decides, and there is no default."""

import pytest

from pytest_nrfdfu.image.bootloader import network_upload, network_upload_number

DIRECT = [(0, 0, 1), (0, 1, 2), (1, 0, 3), (1, 1, 4)]
NORDIC = [(0, 0, None), (0, 1, 1), (1, 0, None), (1, 1, 3)]
"""Without direct upload Nordic's fork gives image * 2 + 1 to slot 1 (bs_slot_info in its boot_serial.c)."""
MCUBOOT_BEFORE_2767 = [(0, 0, None), (0, 1, 0), (1, 0, None), (1, 1, 1)]
MCUBOOT_MAIN = [(0, 0, 0), (0, 1, None), (1, 0, 1), (1, 1, None)]
ONE_IMAGE = [(0, 0, None), (0, 1, 0)]


@pytest.mark.parametrize(
    ("direct_upload", "images", "slot_info", "number", "reason"),
    [
        (True, 2, [], 3, "with direct upload the number names a slot"),
        (True, 1, [], 3, "with direct upload the number names a slot"),
        (True, None, [], 3, "with direct upload the number names a slot"),
        (False, 2, [], 1, "the network core is 1"),
        (False, 1, [], None, "any number overwrites the application"),
        (False, None, [], None, "not known how many images"),
        (None, 2, [], None, "not known whether the bootloader has CONFIG_MCUBOOT_SERIAL_DIRECT_IMAGE_UPLOAD"),
        (None, None, [], None, "not known whether"),
        # The board's own list tells where nothing else does ...
        (None, None, DIRECT, 3, "gives the network core number 3"),
        (None, None, NORDIC, 1, "numbers images"),
        (None, 2, MCUBOOT_BEFORE_2767, 1, "numbers images"),
        (None, 2, MCUBOOT_MAIN, 1, "numbers images"),
        (False, None, NORDIC, 1, "numbers images"),
        (None, None, ONE_IMAGE, None, "lists no image 1"),
        (None, None, [(1, 0, 2)], None, "fit no rule (slot 0: 2)"),
        (None, None, [(1, 0, None), (1, 1, None)], None, "not known whether"),
        (None, 2, ONE_IMAGE, None, "lists no image 1"),
        # ... agrees ...
        (True, 2, DIRECT, 3, "gives the network core number 3"),
        (False, 2, NORDIC, 1, "numbers images"),
        (False, 1, ONE_IMAGE, None, "lists no image 1"),
        (False, 2, [(1, 0, None), (1, 1, None)], 1, "the network core is 1"),
        # ... or contradicts, and then nothing is known.
        (True, 2, NORDIC, None, "contradicts"),
        (False, 2, DIRECT, None, "contradicts"),
        (False, 1, DIRECT, None, "contradicts"),
        (False, None, DIRECT, None, "contradicts"),
        (True, None, NORDIC, None, "contradicts"),
        (True, 2, ONE_IMAGE, None, "contradicts"),
        (False, 2, [(1, 0, 2)], None, "contradicts"),
    ],
)
def test_the_number_follows_from_what_is_known(direct_upload, images, slot_info, number, reason):
    seen = network_upload(direct_upload=direct_upload, images=images, slot_info=slot_info)
    assert seen.number == number
    assert reason in seen.reason
    assert network_upload_number(direct_upload=direct_upload, images=images, slot_info=iter(slot_info)) == number


def test_another_image_may_be_the_network_cores():
    assert network_upload_number(direct_upload=True, images=3, index=2) == 5
    assert network_upload_number(direct_upload=False, images=3, index=2) == 2
    assert network_upload(direct_upload=False, images=2, index=2).reason.startswith("a bootloader with 2 images")
