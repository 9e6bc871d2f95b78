"""What the simulated application says, from the image in flash."""

import pytest
from simulator import image_hash, make_image

from pytest_nrfdfu.image.format import PROTECTED_TLV_INFO_MAGIC, TLV_HEADER, TLV_INFO, TlvType, Version
from pytest_nrfdfu.sim.app_identity import identify
from pytest_nrfdfu.sim.application import BOOT_BANNER, Application, application_starter
from pytest_nrfdfu.sim.firmware import Idle, Send, Sleep
from pytest_nrfdfu.sim.slots import SlotArea

AREA = SlotArea("slot0", image=0, slot=0, address=0x100, size=0x2000)


class Flash:
    """A slot with `contents`; reading beyond its end is a mistake."""

    def __init__(self, contents):
        self.bytes = bytes(AREA.address) + contents.ljust(AREA.size, b"\xff")

    def read(self, address, size):
        assert address >= AREA.address
        assert address + size <= len(self.bytes)
        return self.bytes[address : address + size]


def test_it_prints_the_banner_and_who_it_is_then_idles():
    image = make_image("1.2.3.4", 1000)
    main = Application(Flash(image), AREA, boot_delay=0.5).main()
    assert next(main) == Sleep(0.5)
    sent = next(main)
    assert sent == Send(
        BOOT_BANNER + b"nrfdfu-sim: application 1.2.3.4 hash " + image_hash(image).hex().encode() + b"\r\n"
    )
    assert next(main) == next(main) == Idle()


def test_the_starter_starts_the_slot_it_is_given():
    program = application_starter(Flash(make_image()))(AREA)
    assert program.area is AREA
    program.interrupt(b"ignored\n")


def test_the_hash_is_found_behind_protected_tlvs():
    image = make_image("1.0.0", 1000)
    tlv = TLV_HEADER.pack(TlvType.SEC_CNT, 4) + bytes(4)
    protected = TLV_INFO.pack(PROTECTED_TLV_INFO_MAGIC, TLV_INFO.size + len(tlv)) + tlv
    found = identify(Flash(image[:0x200] + image[0x200:1512] + protected + image[1512:]), AREA)
    assert found == (Version(1, 0, 0), image_hash(image))


@pytest.mark.parametrize(
    "tlvs",
    [
        b"",
        TLV_INFO.pack(0x6907, 0),
        TLV_INFO.pack(0x6907, 0xFFFF),
        TLV_INFO.pack(0x6907, 40) + TLV_HEADER.pack(TlvType.SHA256, 0xFFFF),
        TLV_INFO.pack(0x6907, 12) + TLV_HEADER.pack(TlvType.KEYHASH, 4) + b"abcd",
    ],
)
def test_tlvs_without_a_hash(tlvs):
    image = make_image("1.0.0", 1000)[:1512] + tlvs
    assert identify(Flash(image), AREA) == (Version(1, 0, 0), b"")
    assert b"hash none" in list_sent(image)


def test_an_image_that_leaves_the_slot_is_not_read_beyond_it():
    image = bytearray(make_image("1.0.0", 1000))
    image[12:16] = (0xFFFFFF00).to_bytes(4, "little")
    assert identify(Flash(bytes(image)), AREA) == (Version(1, 0, 0), b"")


def list_sent(contents):
    main = Application(Flash(contents), AREA).main()
    next(main)
    return next(main).data


def test_an_empty_slot_is_no_image():
    assert identify(Flash(b""), AREA) is None
    assert b"no image" in list_sent(b"")
