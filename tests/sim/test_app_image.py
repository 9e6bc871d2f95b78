"""The application's image group, error by error; the same requests were put to Zephyr 4.4, see test_app_replay.py."""

import hashlib
from dataclasses import replace

import pytest
from app_server import PAGE, Bench
from simulator import image_hash, make_image

from pytest_nrfdfu.image.format import ImageFlag, ImageHeader
from pytest_nrfdfu.sim.app_flash import SlotStream
from pytest_nrfdfu.sim.firmware import Erase, Write
from pytest_nrfdfu.sim.slots import NRF5340_MULTI_IMAGE_SLOTS, NRF5340_SLOTS, Geometry
from pytest_nrfdfu.smp.header import ImageCommand, Op

OLD, NEW = make_image("1.0.0"), make_image("2.0.0", 3 * PAGE)
SHA = hashlib.sha256(NEW).digest()
PAGES = NRF5340_SLOTS[1].size // PAGE
STATE, ERASE, SLOT_INFO = ImageCommand.STATE, ImageCommand.ERASE, ImageCommand.SLOT_INFO


def erases(bench):
    """The pages erased by the last request, as numbers within slot 1."""
    base = bench.areas[1].address
    return [(effect.address - base) // PAGE for effect in bench.effects if isinstance(effect, Erase)]


@pytest.fixture
def bench():
    return Bench(slot0=OLD)


@pytest.fixture
def both():
    return Bench(slot0=OLD, slot1=NEW)


# The list.


def test_the_list_has_all_flags_and_a_split_status(bench):
    assert bench.payload(STATE, op=Op.READ) == {
        "images": [
            {
                "slot": 0,
                "version": "1.0.0",
                "hash": image_hash(OLD),
                "bootable": True,
                "pending": False,
                "confirmed": True,
                "active": True,
                "permanent": False,
            }
        ],
        "splitStatus": 0,
    }


def test_a_frugal_list_leaves_out_what_is_false():
    """CONFIG_MCUMGR_GRP_IMG_FRUGAL_LIST."""
    bench = Bench(slot0=OLD, slot1=NEW, frugal=True)
    bench.set_pending(permanent=False)
    assert bench.payload(STATE, op=Op.READ) == {
        "images": [
            {
                "slot": 0,
                "version": "1.0.0",
                "hash": image_hash(OLD),
                "bootable": True,
                "confirmed": True,
                "active": True,
            },
            {"slot": 1, "version": "2.0.0", "hash": image_hash(NEW), "bootable": True, "pending": True},
        ]
    }


@pytest.mark.parametrize("swap", ["move", "offset", "overwrite", "scratch"])
@pytest.mark.parametrize("permanent", [False, True])
def test_an_update_that_waits_is_pending(permanent, swap):
    bench = Bench(slot0=OLD, slot1=NEW, swap=swap)
    bench.set_pending(permanent=permanent)
    assert bench.flags(0) == {"active", "confirmed"}
    assert bench.flags(1) == {"pending"} | ({"permanent"} if permanent else set())


@pytest.mark.parametrize("swap", ["move", "scratch"])
def test_an_image_on_trial_is_not_confirmed_and_the_old_one_is(swap):
    bench = Bench(slot0=NEW, slot1=OLD, swap=swap)
    bench.set_on_trial()
    assert (bench.flags(0), bench.flags(1)) == ({"active"}, {"confirmed"})


def test_swap_using_offset_has_the_image_a_page_up_but_not_the_one_it_swapped_out():
    new = Bench(slot0=OLD, slot1=NEW, swap="offset")
    assert new.images().find(slot=1).version == "2.0.0"
    swapped = Bench(slot0=NEW, swap="offset")
    swapped.chip.program(swapped.areas[1].address, OLD)
    swapped.set_on_trial()
    assert swapped.images().find(slot=1).version == "1.0.0"


def test_an_image_that_must_not_boot_is_listed_as_such():
    header = ImageHeader.unpack(OLD)
    image = header._replace(flags=ImageFlag.NON_BOOTABLE).pack() + OLD[32:]
    (found,) = Bench(slot0=image).images().images
    assert found.bootable is False


def test_images_are_numbered_where_there_are_two():
    bench = Bench(areas=NRF5340_MULTI_IMAGE_SLOTS, images=2, slot0=OLD, slots={3: OLD})
    assert [(image.image, image.slot) for image in bench.images().images] == [(0, 0), (1, 1)]


@pytest.mark.parametrize(("images", "built_in", "there"), [(1, True, True), (1, False, False), (2, False, True)])
def test_slot_info(images, built_in, there):
    areas = NRF5340_MULTI_IMAGE_SLOTS if images == 2 else NRF5340_SLOTS
    answer = Bench(areas=areas, images=images, slot_info=built_in).payload(SLOT_INFO, op=Op.READ)
    if not there:
        assert answer == {"rc": 8}
        return
    assert [entry["image"] for entry in answer["images"]] == list(range(images))
    assert answer["images"][0]["slots"] == [
        {"slot": 0, "size": areas[0].size},
        {"slot": 1, "size": areas[1].size, "upload_image_id": 0},
    ]


# Test and confirm.


def test_an_image_is_marked_for_test_and_the_answer_is_the_list(both):
    answer = both.payload(STATE, hash=image_hash(NEW), confirm=False)
    assert [image["pending"] for image in answer["images"]] == [False, True]
    assert both.payload(STATE, hash=image_hash(NEW)) == answer  # again is no error, and without confirm is a test
    assert both.effects == []


def test_an_image_is_confirmed_before_it_ran(both):
    answer = both.payload(STATE, hash=image_hash(NEW), confirm=True)
    assert answer["images"][1]["permanent"]
    assert both.payload(STATE, hash=image_hash(NEW), confirm=True) == answer


@pytest.mark.parametrize("by_hash", [False, True])
def test_an_image_on_trial_confirms_itself(by_hash):
    bench = Bench(slot0=NEW, slot1=OLD)
    bench.set_on_trial()
    digest = image_hash(NEW) if by_hash else None
    answer = bench.payload(STATE, hash=digest, confirm=True)
    assert [image["confirmed"] for image in answer["images"]] == [True, False]
    assert len(bench.effects) == 1


def test_confirming_what_never_was_on_trial_changes_nothing(bench):
    assert bench.payload(STATE, confirm=True)["images"][0]["confirmed"]
    assert bench.effects == []


REFUSED_STATES = {
    "a test needs a hash": ({}, {}, 24, 3),
    "a hash has 32 bytes": ({}, {"hash": b"12"}, 24, 3),
    "no image has the hash": ({}, {"hash": bytes(32)}, 8, 1),
    "the running image is not tested": ({}, {"hash": image_hash(OLD)}, 33, 1),
    "confirm while a test is pending": ({"pending": "test"}, {"confirm": True}, 28, 6),
    "confirm what is pending as a test": ({"pending": "test"}, {"hash": image_hash(NEW), "confirm": True}, 28, 6),
    "confirm while another is confirmed": ({"pending": "permanent"}, {"confirm": True}, 28, 6),
    "test what is confirmed": ({"pending": "permanent"}, {"hash": image_hash(NEW)}, 28, 6),
    "test the one that comes back": ({"on_trial": True}, {"hash": image_hash(NEW)}, 28, 6),
    "the trailer is damaged": ({"bad_magic": 1}, {"hash": image_hash(NEW)}, 23, 1),
    "the running image's trailer is damaged": ({"bad_magic": 0, "on_trial": True}, {"confirm": True}, None, None),
}


@pytest.mark.parametrize(("before", "request_", "code", "rc"), REFUSED_STATES.values(), ids=REFUSED_STATES)
@pytest.mark.parametrize("version", [0, 1])
def test_states_that_cannot_be_set(both, before, request_, code, rc, version):
    if "pending" in before:
        both.set_pending(permanent=before["pending"] == "permanent")
    if before.get("on_trial"):
        both.set_on_trial()
    if (number := before.get("bad_magic")) is not None:
        area = both.areas[number]
        both.chip.program(area.address + area.size - 16, bytes(16))
    answer = both.payload(STATE, version, **request_)
    if code is None:  # a bad magic is no trial, so the image counts as confirmed
        assert answer["images"][0]["confirmed"]
    else:
        assert answer == ({"err": {"group": 1, "rc": code}} if version else {"rc": rc})
    assert both.effects == []


@pytest.mark.parametrize(
    ("slot", "confirm", "error"), [(3, True, None), (3, False, None), (2, True, 32), (2, False, 33)]
)
def test_of_another_image_only_the_secondary_slot_may_be_chosen(slot, confirm, error):
    """Slot 2 is the network core's virtual one, whose image header nobody put there but this test."""
    areas = tuple(area if area.image == 0 else _real(area) for area in NRF5340_MULTI_IMAGE_SLOTS)
    bench = Bench(areas=areas, images=2, slot0=OLD, slots={slot: NEW}, swap="overwrite")
    answer = bench.payload(STATE, hash=image_hash(NEW), confirm=confirm)
    assert answer.get("err") == (None if error is None else {"group": 1, "rc": error})
    if error is None:
        assert bench.flags(3) == {"pending"} | ({"permanent"} if confirm else set())


def _real(area):
    """The slot in flash, at an address that the layout leaves free or uses alike."""
    return replace(area, virtual=False, address=0xC0000) if area.virtual else area


# Erasing.


@pytest.mark.parametrize("slot", [None, 1])
def test_erase_empties_slot_1(both, slot):
    assert both.payload(ERASE, slot=slot) == {}
    assert erases(both) == list(range(PAGES))
    assert both.content(1) == b"\xff" * both.areas[1].size
    assert both.payload(ERASE) == {}
    assert erases(both) == []  # it is empty already


@pytest.mark.parametrize(
    ("before", "options", "slot", "code"),
    [
        (None, {}, 0, 9),
        ("trial", {}, 1, 9),
        ("test", {"erases_pending": False}, 1, 9),
        ("permanent", {"erases_pending": False}, 1, 9),
        ("test", {}, 1, None),
        ("permanent", {}, 1, None),
        (None, {}, 2, 10),
        (None, {}, 255, 10),
    ],
)
def test_a_slot_in_use_is_not_erased(before, options, slot, code):
    bench = Bench(slot0=OLD, slot1=NEW, **options)
    if before == "trial":
        bench.set_on_trial()
    elif before:
        bench.set_pending(permanent=before == "permanent")
    answer = bench.payload(ERASE, slot=slot)
    assert answer == ({} if code is None else {"err": {"group": 1, "rc": code}})
    assert bool(erases(bench)) == (code is None)


def test_erase_ends_an_upload(bench):
    bench.upload(0, NEW[:300], len=len(NEW))
    assert bench.payload(ERASE) == {}
    assert bench.upload(300, NEW[300:600]) == {"off": 0}


# Uploading.


@pytest.mark.parametrize("chunk", [32, 111, 330])
@pytest.mark.parametrize("erase", ["at-start", "progressive"])
@pytest.mark.parametrize("swap", ["move", "offset"])
def test_an_upload_is_in_slot_1_whatever_was_there(chunk, erase, swap):
    bench = Bench(slot0=OLD, slot1=make_image("1.5.0", 9 * PAGE), swap=swap, erase=erase)
    area = bench.areas[1]
    bench.chip.program(area.address + area.size - 16, bytes(16))  # a stale, even damaged trailer
    assert bench.upload_all(NEW, chunk) == {"off": len(NEW)}
    start = PAGE if swap == "offset" else 0
    assert bench.content(1, len(NEW), start) == NEW
    assert bench.content(1, PAGE, area.size - PAGE) == b"\xff" * PAGE
    assert bench.images().find(slot=1).hash == image_hash(NEW)
    assert bench.flags(1) == set()


def test_the_first_chunk_erases_what_the_image_needs_and_the_trailer(both):
    both.upload(0, NEW[:300], len=len(NEW))
    assert erases(both) == [0, 1, 2, 3, PAGES - 1]
    both.upload(300, NEW[300:600])
    assert erases(both) == []


def test_an_erased_slot_is_not_erased_again(bench):
    bench.upload(0, NEW[:300], len=len(NEW))
    assert bench.effects == []  # and 300 bytes do not fill the buffer


@pytest.mark.parametrize("less", [0, PAGE - 1, PAGE])
def test_an_image_that_reaches_the_trailer_erases_every_page_once(both, less):
    both.upload(0, NEW[:300], len=both.areas[1].size - less)
    assert erases(both) == list(range(PAGES))


@pytest.mark.parametrize("less", [0, PAGE - 1, PAGE])
def test_progressively_as_well(less):
    area = NRF5340_SLOTS[1]
    stream = SlotStream(area, Geometry(), erases=True)
    effects = list(stream.write(bytes(area.size - less), last=True))
    erased = [effect.address for effect in effects if isinstance(effect, Erase)]
    assert erased == list(range(area.address, area.address + area.size, PAGE))


def test_progressively_a_page_is_erased_when_it_is_written():
    bench = Bench(slot0=OLD, erase="progressive")
    erased, off = [], 0
    while off < len(NEW):
        off = bench.upload(off, NEW[off : off + 256], len=len(NEW))["off"]
        erased += [(page, off) for page in erases(bench)]
    assert erased == [(0, 512), (1, PAGE + 512), (2, 2 * PAGE + 512), (3, 3 * PAGE + 512), (PAGES - 1, len(NEW))]


def test_flash_is_written_in_blocks_of_512_bytes(bench):
    bench.upload(0, NEW[:300], len=len(NEW))
    bench.upload(300, NEW[300:600])
    assert [len(effect.data) for effect in bench.effects if isinstance(effect, Write)] == [512]


FIRST = {"data": NEW[:300], "len": len(NEW), "off": 0}
REFUSED_UPLOADS = {
    "no offset": ({**FIRST, "off": None}, 20, 3, "header malformed"),
    "no length": ({**FIRST, "len": None}, 21, 3, "header malformed"),
    "less than a header": ({**FIRST, "data": NEW[:31]}, 22, 3, "header malformed"),
    "no image": ({**FIRST, "data": bytes(300)}, 23, 1, "magic mismatch"),
    "a digest too long": ({**FIRST, "sha": bytes(33)}, 24, 3, None),
    "too large": ({**FIRST, "len": NRF5340_SLOTS[1].size + 1}, 30, 1, "img too large"),
    "older": ({**FIRST, "upgrade": True, "data": make_image("0.9.0")[:300]}, 27, 6, "downgrade"),
    "only a higher build number": ({**FIRST, "upgrade": True, "data": make_image("1.0.0.7")[:300]}, 27, 6, "downgrade"),
    "the same": ({**FIRST, "upgrade": True, "data": OLD[:300]}, 27, 6, "downgrade"),
}


@pytest.mark.parametrize(("request_", "code", "rc", "reason"), REFUSED_UPLOADS.values(), ids=REFUSED_UPLOADS)
@pytest.mark.parametrize("version", [0, 1])
def test_uploads_that_are_refused(bench, request_, code, rc, reason, version):
    bench.upload(0, NEW[:300], len=len(NEW))
    answer = bench.payload(ImageCommand.UPLOAD, version, **request_)
    told = {"rc": rc} | ({"rsn": reason} if reason else {})
    assert answer == ({"err": {"group": 1, "rc": code}} if version else told)
    assert bench.upload(300, NEW[300:600]) == {"off": 0}  # and the upload that was going on is over


def test_a_map_that_cannot_be_read_is_refused_and_the_upload_goes_on(bench):
    bench.upload(0, NEW[:300], len=len(NEW))
    assert bench.payload(ImageCommand.UPLOAD, off="x") == {"rc": 3}
    assert bench.upload(300, NEW[300:600]) == {"off": 600}


def test_upgrade_needs_a_running_image_that_tells_its_version():
    assert Bench().upload(**FIRST, upgrade=True) == {"err": {"group": 1, "rc": 26}}


def test_upgrade_takes_what_is_newer(bench):
    assert bench.upload(**FIRST, upgrade=True) == {"off": 300}


@pytest.mark.parametrize(
    ("before", "options", "free"),
    [("trial", {}, False), ("test", {}, True), ("test", {"erases_pending": False}, False), ("permanent", {}, True)],
)
def test_an_upload_needs_a_free_slot(both, before, options, free):
    bench = Bench(slot0=OLD, slot1=NEW, **options)
    if before == "trial":
        bench.set_on_trial()
    else:
        bench.set_pending(permanent=before == "permanent")
    assert bench.upload(**FIRST) == ({"off": 300} if free else {"err": {"group": 1, "rc": 9}})


def test_a_wrong_offset_is_answered_with_the_right_one(bench):
    assert bench.upload(300, NEW[300:600]) == {"off": 0}
    bench.upload(**FIRST)
    assert bench.upload(900, NEW[900:1200]) == {"off": 300}
    assert bench.upload(300) == {"off": 300}


def test_more_than_was_announced_is_refused(bench):
    bench.upload(0, NEW[:300], len=400)
    assert bench.upload(300, NEW[300:600]) == {"err": {"group": 1, "rc": 31}}


def test_an_upload_is_resumed_by_its_digest(bench):
    bench.upload(**FIRST, sha=SHA)
    assert bench.upload(**FIRST, sha=SHA) == {"off": 300}
    assert bench.upload(**FIRST, sha=SHA[:8]) == {"off": 300}  # another one: a new upload
    assert bench.upload(**FIRST) == {"off": 300}  # without one as well
    assert bench.upload(600, NEW[600:700]) == {"off": 300}


def test_the_last_chunk_ends_the_session(bench):
    bench.upload_all(NEW, 300)
    last = len(NEW) - len(NEW) % 300
    assert bench.upload(last, NEW[last:]) == {"off": 0}


@pytest.mark.parametrize(("digest", "match"), [(SHA, True), (bytes(32), False), (SHA[:16], False), (None, False)])
def test_the_last_chunk_tells_whether_the_digest_matches(digest, match):
    assert Bench(slot0=OLD, checks=True).upload_all(NEW, 300, sha=digest) == {"off": len(NEW), "match": match}


def test_what_is_in_the_slot_already_needs_no_upload():
    bench = Bench(slot0=OLD, slot1=NEW, checks=True)
    assert bench.upload(**FIRST, sha=SHA) == {"off": len(NEW), "match": True}
    assert bench.effects == []
    assert Bench(slot0=OLD, slot1=NEW).upload(**FIRST, sha=SHA) == {"off": 300}


def test_an_image_that_reaches_beyond_the_slot_by_its_offset_fails_when_it_gets_there():
    bench = Bench(slot0=OLD, swap="offset")
    size = bench.areas[1].size - PAGE + 4
    bench.upload(0, NEW[:300], len=size)
    for off in range(300, size - 300, 300):
        assert bench.upload(off, bytes(300)) == {"off": off + 300}
    off += 300
    assert bench.upload(off, bytes(size - off)) == {"err": {"group": 1, "rc": 12}}


@pytest.mark.parametrize(("image", "slot"), [(None, 1), (0, 1), (1, 3)])
def test_with_two_images_the_number_chooses_the_slot(image, slot):
    bench = Bench(areas=NRF5340_MULTI_IMAGE_SLOTS, images=2, slot0=OLD, swap="overwrite")
    bench.upload_all(NEW, 300, image=image)
    assert bench.content(slot, len(NEW)) == NEW


def test_an_image_that_there_is_not_has_no_free_slot():
    bench = Bench(areas=NRF5340_MULTI_IMAGE_SLOTS, images=2, slot0=OLD, swap="overwrite")
    assert bench.upload(**FIRST, image=2) == {"err": {"group": 1, "rc": 9}}
    assert Bench(slot0=OLD).upload(**FIRST, image=2) == {"off": 300}  # with one image nobody looks
