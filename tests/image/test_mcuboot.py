"""What counts as a signed image, what each wrong file is told, and where an image fits."""

import gzip
import hashlib
import io
import json
import struct
import tracemalloc
import zipfile
from functools import lru_cache
from pathlib import Path

import cbor2
import firmware
import pytest
from firmware import SLOT_ADDRESS, SLOT_SIZE, sign
from hypothesis import example, given
from hypothesis import strategies as st

from pytest_nrfdfu.errors import ImageError
from pytest_nrfdfu.image import mcuboot
from pytest_nrfdfu.image.format import ALIGNED_TRAILER_MAGIC, HASHES
from pytest_nrfdfu.image.mcuboot import (
    MAGIC,
    TRAILER_MAGIC,
    ImageFlag,
    ImageHeader,
    TlvType,
    Version,
    check_link_address,
    check_slot,
    largest_image,
    load,
    parse,
)
from pytest_nrfdfu.image.sniff import Kind, sniff
from pytest_nrfdfu.smp import console

TRANSCRIPTS = Path(__file__).parents[1] / "data" / "mcuboot-transcripts"
IMAGES = TRANSCRIPTS / "images"

APP = struct.pack("<II", 0x2000_3158, SLOT_ADDRESS + 0x200 + 0x41) + bytes(range(248)) * 4
"""A body of 1000 bytes whose vector table fits the DK's slot 0."""


def tlv(kind, value):
    return struct.pack("<HH", kind, len(value)) + value


def area(*tlvs, magic=0x6907):
    body = b"".join(tlvs)
    return struct.pack("<HH", magic, len(body) + 4) + body


def build(body=APP, *, protected=(), before=(), after=(), hash_type=TlvType.SHA256, room=0x200, **fields):
    """An image put together by hand, for what imgtool does not make."""
    covered_tlvs = area(*protected, magic=0x6908) if protected else b""
    fields.setdefault("version", Version(1, 2, 3))
    header = ImageHeader(hdr_size=room, protect_tlv_size=len(covered_tlvs), img_size=len(body))._replace(**fields)
    covered = header.pack().ljust(room, b"\0") + body + covered_tlvs
    digest = HASHES[hash_type](covered).digest()
    return covered + area(*before, tlv(hash_type, digest), *after)


def padded(image, size=0x2000, *, align=8, image_ok=0xFF):
    """`image` in a slot of `size` bytes with a trailer, by the offsets of bootutil_public.c."""
    slot = bytearray(image.ljust(size, b"\xff"))
    magic = TRAILER_MAGIC if align == 8 else align.to_bytes(2, "little") + ALIGNED_TRAILER_MAGIC
    slot[-16:] = magic
    slot[-(16 + align if align <= 16 else 2 * align)] = image_ok
    return bytes(slot)


# --- What is read ---


def test_an_image_is_read_field_by_field():
    key, signature = tlv(TlvType.KEYHASH, b"k" * 32), tlv(TlvType.ED25519, b"s" * 64)
    counter = tlv(TlvType.SEC_CNT, struct.pack("<I", 7))
    data = build(protected=[counter], after=[key, signature], version=Version(1, 2, 3, 4))
    image = parse(data, "build/zephyr.signed.bin")
    assert image.source == "build/zephyr.signed.bin"
    assert image.data == image.payload == data
    assert (image.size, image.end, image.padded) == (len(data), len(data), False)
    assert image.version == (1, 2, 3, 4)
    assert image.header.magic == MAGIC
    assert (image.header.hdr_size, image.header.img_size, image.header.protect_tlv_size) == (0x200, 1000, 12)
    assert image.hash == hashlib.sha256(data[: 0x200 + 1000 + 12]).digest()
    assert (image.hash_type, image.hash_checked) == (TlvType.SHA256, True)
    assert image.signature is TlvType.ED25519
    assert [(t.name, t.protected) for t in image.tlvs] == [
        ("SEC_CNT", True),
        ("SHA256", False),
        ("KEYHASH", False),
        ("ED25519", False),
    ]
    assert image.tlvs[0].value == b"\x07\0\0\0"
    assert (image.initial_stack_pointer, image.reset_vector) == (0x2000_3158, 0x1_0241)
    assert (image.bootable, image.encrypted, image.trailer, image.confirmed) == (True, False, False, False)
    assert image.flags == 0


@pytest.mark.parametrize(
    ("key", "signature", "hash_type"),
    [
        ("rsa-2048", TlvType.RSA2048_PSS, TlvType.SHA256),
        ("rsa-3072", TlvType.RSA3072_PSS, TlvType.SHA256),
        ("ecdsa-p256", TlvType.ECDSA_SIG, TlvType.SHA256),
        ("ecdsa-p384", TlvType.ECDSA_SIG, TlvType.SHA384),
        ("ed25519", TlvType.ED25519, TlvType.SHA256),
        (None, None, TlvType.SHA256),
    ],
)
def test_signatures_of_imgtool(key, signature, hash_type):
    image = parse(sign(APP, key=key))
    assert image.signature is signature
    assert (image.hash_type, image.hash_checked) == (hash_type, True)
    assert image.reset_vector == 0x1_0241


@pytest.mark.parametrize("bits", [256, 384, 512])
def test_hashes_of_imgtool(bits):
    data = sign(APP, extra=("--sha", str(bits)))
    image = parse(data)
    assert image.hash_type is TlvType[f"SHA{bits}"]
    assert image.hash == hashlib.new(f"sha{bits}", data[: 0x200 + len(APP)]).digest()


def test_a_pure_signature_is_an_ordinary_one_with_a_mark():
    image = parse(sign(APP, key="ed25519", extra=("--pure",)))
    assert image.signature is TlvType.ED25519
    assert TlvType.SIG_PURE in {t.type for t in image.tlvs}


@pytest.mark.parametrize(
    ("extra", "names"),
    [
        (("--security-counter", "5", "--dependencies", "(1, 1.2.3+4)"), ["SEC_CNT", "DEPENDENCY"]),
        (("--vid", "example.com", "--cid", "x"), ["UUID_VID", "UUID_CID"]),
        (("--boot-record", "CoFM"), ["BOOT_RECORD"]),
        (("--custom-tlv", "0x00a0", "abc"), ["0x00a0"]),
    ],
)
def test_protected_tlvs_are_covered_by_the_hash(extra, names):
    data = sign(APP, extra=extra)
    image = parse(data)
    assert [t.name for t in image.tlvs if t.protected] == names
    assert image.hash == hashlib.sha256(data[: 0x200 + len(APP) + image.header.protect_tlv_size]).digest()


def test_a_compressed_image_shows_no_vector_table():
    image = parse(sign(APP * 8, extra=("--compression", "lzma2")))
    assert image.hash_checked
    assert image.flags & ImageFlag.COMPRESSED_LZMA2
    assert image.reset_vector is None


@pytest.mark.parametrize("kind", ["rsa-2048", "ecdsa-p256", "x25519"])
def test_the_hash_of_an_encrypted_image_cannot_be_checked(kind):
    image = parse(sign(APP, encrypt=kind))
    assert image.encrypted
    assert not image.hash_checked
    assert len(image.hash) == 32
    assert image.reset_vector is None


def test_an_image_that_could_be_encrypted_but_is_not_is_checked():
    image = parse(sign(APP, encrypt="x25519", extra=("--clear",)))
    assert image.encrypted
    assert image.hash_checked


def test_every_hash_has_to_be_right():
    digest = parse(build()).hash
    assert parse(build(after=[tlv(TlvType.SHA256, digest)])).hash == digest
    with pytest.raises(ImageError, match=r"the SHA512 over .* its TLV says 0000000000000000"):
        parse(build(after=[tlv(TlvType.SHA512, bytes(64))]))


def test_a_body_too_short_for_vectors_has_none():
    assert parse(build(b"1234567")).reset_vector is None
    assert parse(build(b"12345678")).reset_vector == int.from_bytes(b"5678", "little")


@pytest.mark.parametrize(
    ("text", "version", "shown"),
    [
        ("1.2.3", (1, 2, 3, 0), "1.2.3"),
        ("1.2.3+4", (1, 2, 3, 4), "1.2.3.4"),
        ("255.255.65535+4294967295", (255, 255, 65535, 4294967295), "255.255.65535.4294967295"),
        ("0.0.0", (0, 0, 0, 0), "0.0.0"),
    ],
)
def test_versions_are_shown_as_the_image_list_shows_them(text, version, shown):
    image = parse(sign(APP, text))
    assert image.version == version
    assert str(image.version) == shown
    assert Version.parse(text) == Version.parse(shown) == image.version


def test_versions_may_be_short():
    assert Version.parse("1") == (1, 0, 0, 0)
    assert Version.parse("1.2") == (1, 2, 0, 0)
    assert Version.parse("1.2+7") == (1, 2, 0, 7)
    assert Version.parse("00000000000000000001.2.3") == (1, 2, 3, 0)


@pytest.mark.parametrize(
    "text",
    ["", "v1.2.3", "1.2.3.4+5", "1.2.3-rc1", "1..2", "1.2.3 ", "256.0.0", "0.256.0", "0.0.65536", "0.0.0+4294967296"],
)
def test_other_versions_are_refused(text):
    with pytest.raises(ValueError, match="version"):
        Version.parse(text)


def test_a_version_of_a_million_digits_is_refused_at_once():
    for digits in ("9" * 1_000_000, "1" + "0" * 1_000_000):
        with pytest.raises(ValueError, match="does not fit"):
            Version.parse(f"{digits}.0.0")


# --- Padding and trailer ---


def test_padding_alone_is_not_uploaded():
    data = build()
    image = parse(data + b"\xff" * 500)
    assert (image.padded, image.trailer, image.confirmed) == (True, False, False)
    assert (image.size, image.end) == (len(data) + 500, len(data))
    assert image.payload == data


@pytest.mark.parametrize("align", [4, 8, 16, 32])
def test_a_padded_image_has_a_trailer(align):
    data = sign(APP, pad=True, slot_size=0x4000, align=align)
    image = parse(data)
    assert (image.size, image.padded, image.trailer, image.confirmed) == (0x4000, True, True, False)
    assert image.payload == sign(APP)


@pytest.mark.parametrize("align", [4, 8, 16, 32])
def test_a_confirmed_image_is_uploaded_with_its_trailer(align):
    data = sign(APP, confirm=True, slot_size=0x4000, align=align)
    image = parse(data)
    assert (image.size, image.trailer, image.confirmed) == (0x4000, True, True)
    assert image.payload == image.data == data


def test_the_trailer_of_an_overwriting_bootloader_is_the_same():
    image = parse(sign(APP, pad=True, slot_size=0x4000, extra=("--overwrite-only",)))
    assert image.trailer


@pytest.mark.parametrize("align", [8, 16, 32])
def test_imgtool_and_this_file_agree_on_trailers(align):
    data = sign(APP, confirm=True, slot_size=0x4000, align=align)
    assert padded(data[: parse(data).end], 0x4000, align=align, image_ok=1) == data


@pytest.mark.parametrize(
    ("tail", "shown"),
    [
        (b"\0", "00 at 0x610"),
        (b"\xff\xff\xff\0\xff", "00 ff at 0x613"),
        (b"\xff" * 16 + b"more", "6d 6f 72 65 at 0x620"),
        (TRAILER_MAGIC[:-1] + b"\x81", "77 c2 95 f3 60 d2 ef 7f at 0x610"),
        # A magic that would put image-ok into the image itself.
        (TRAILER_MAGIC, "77 c2 95 f3 60 d2 ef 7f at 0x610"),
        (b"\0" + b"\xff" * 100 + TRAILER_MAGIC, "00 ff ff ff ff ff ff ff at 0x610"),
        # Distances of the flags that are no power of two, or belong to the other magic.
        (b"\xff" * 100 + b"\x18\0" + ALIGNED_TRAILER_MAGIC, "18 00 2d e1 5d 29 41 0b at 0x674"),
        (b"\xff" * 100 + b"\x08\0" + ALIGNED_TRAILER_MAGIC, "08 00 2d e1 5d 29 41 0b at 0x674"),
        (b"\xff" * 100 + b"\0\0" + ALIGNED_TRAILER_MAGIC, "00 00 2d e1 5d 29 41 0b at 0x674"),
    ],
)
def test_anything_else_behind_the_image_is_refused(tail, shown):
    data = build()
    assert len(data) == 0x610
    with pytest.raises(ImageError) as caught:
        parse(data + tail)
    assert f"{len(tail)} bytes that are neither padding (0xff) nor a trailer: {shown}" in str(caught.value)


def test_a_flag_of_the_trailer_is_set_or_erased():
    assert parse(padded(build(), image_ok=0xFF)).trailer
    assert parse(padded(build(), image_ok=0x01)).confirmed
    with pytest.raises(ImageError, match="neither padding"):
        parse(padded(build(), image_ok=0x02))


# --- MCUboot's own verdict ---


def listed(case):
    """What MCUboot answered to the first request of a recorded case: (version, hash) by slot; None if no image list."""
    events = console.Decoder().feed(bytes.fromhex(case["steps"][0]["rx"]))
    packets = [event.data for event in events if isinstance(event, console.Packet)]
    try:
        answer = cbor2.loads(packets[0][8:]) if packets else {}
    except cbor2.CBORDecodeError:
        return None  # four longest versions do not fit MCUboot's buffer, and the answer is cut off
    if "images" not in answer:
        return None
    return {f"slot{2 * e['image'] + e['slot']}": (e["version"], e["hash"]) for e in answer["images"] if "hash" in e}


@lru_cache
def recorded_lists():
    """By image file: what MCUboot lists of the slot that holds this file alone, or None if it does not list it."""
    verdicts = {}
    with gzip.open(TRANSCRIPTS / "default.jsonl.gz", "rt") as lines:
        for case in map(json.loads, list(lines)[1:]):
            answer = listed(case) if case["category"] == "list" else None
            for slot, name in case["flash"].items() if answer is not None else ():
                if isinstance(name, str):
                    assert verdicts.setdefault(name, answer.get(slot)) == answer.get(slot), (name, case["id"])
    return verdicts


def test_images_that_mcuboot_lists_are_taken_and_shown_alike():
    accepted = {name: verdict for name, verdict in recorded_lists().items() if verdict}
    assert len(accepted) >= 16
    for name, (version, digest) in accepted.items():
        image = load(IMAGES / name, require_bootable=False)
        assert (str(image.version), image.hash) == (version, digest), name


def test_images_that_mcuboot_does_not_list_are_refused():
    refused = [name for name, verdict in recorded_lists().items() if verdict is None]
    assert len(refused) >= 13
    for name in refused:
        with pytest.raises(ImageError):
            load(IMAGES / name, require_bootable=False)


def test_the_trailers_of_the_recorded_images():
    confirmed, pad = load(IMAGES / "confirm12k.bin"), load(IMAGES / "pad12k.bin")
    assert (confirmed.trailer, confirmed.confirmed, confirmed.size) == (True, True, 12288)
    assert (pad.trailer, pad.confirmed, len(pad.payload)) == (True, False, 2600)


# --- What a wrong file is told ---


def archive():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as package:
        package.writestr("manifest.json", "{}")
    return buffer.getvalue()


NO_ROOM = struct.pack("<II", 0x2000_3158, 0xFC1) + bytes(1000)
NETWORK = struct.pack("<II", 0x2100_7898, 0x0100_3D65) + bytes(1000)
ZEPHYR_BIN = bytes(0x200) + struct.pack("<II", 0x2000_3100, 0x1_0FC1) + bytes(1000)

WRONG_FILES = {
    "empty": (b"", "looks like an empty file. Look at the build"),
    "elf": (b"\x7fELF\x01\x01\x01" + bytes(100), "an ELF file (zephyr.elf). Use zephyr.signed.bin"),
    "hex": (b":020000040001F9\r\n:10020000", "Intel HEX text. Only raw binaries are read: use zephyr.signed.bin"),
    "hex after a blank line": (b"\n:020000040001F9\n", "Intel HEX text"),
    "s-record": (b"S00F000068656C6C6F", "S-record"),
    "zip": (archive(), "a zip archive (dfu_application.zip?). Unpack it"),
    "empty zip": (b"PK\x05\x06" + bytes(18), "a zip archive"),
    "uf2": (b"UF2\n" + bytes(508), "a UF2 file"),
    "unsigned, no room": (
        NO_ROOM,
        "without room for a header (zephyr.bin). zephyr.bin is unsigned; use zephyr.signed.bin.",
    ),
    "unsigned network core": (NETWORK, "zephyr.bin is unsigned; use zephyr.signed.bin."),
    "unsigned": (ZEPHYR_BIN, "with room for an MCUboot header (zephyr.bin). zephyr.bin is unsigned; use zephyr.signed"),
    "unsigned, room 0xff": (b"\xff" * 0x200 + NO_ROOM, "with room for an MCUboot header"),
    "merged": (NO_ROOM.ljust(0x10000, b"\xff") + build(), "with an MCUboot image inside (merged.bin"),
    "2016": (struct.pack("<I", 0x96F3B83C) + bytes(100), "format of 2016"),
    "big-endian": (struct.pack(">I", MAGIC) + bytes(100), "big-endian"),
    "erased": (b"\xff" * 600, "nothing but 0xff"),
    "zeros": (bytes(600), "nothing but zeros"),
    "text": (b"Hello, world, this is text", "beginning 48 65 6c 6c 6f 2c 20 77 6f 72 6c 64 2c 20 74 68. Use zephyr"),
    "one byte": (b"\x02", "beginning 02."),
    "even reset vector": (struct.pack("<II", 0x2000_3158, 0xFC0) + bytes(100), "nothing that a Zephyr build makes"),
    "reset vector outside flash": (struct.pack("<II", 0x2000_3158, 0x0800_0FC1) + bytes(100), "nothing that a Zephyr"),
    "odd stack": (struct.pack("<II", 0x2000_3159, 0xFC1) + bytes(100), "nothing that a Zephyr build makes"),
    "stack outside RAM": (struct.pack("<II", 0x2008_0004, 0xFC1) + bytes(100), "nothing that a Zephyr build makes"),
    "colon": (b": not hex", "nothing that a Zephyr build makes"),
    "header cut": (build()[:24], "cut off: 24 bytes cannot hold the header's 32"),
    "header size": (build(hdr_size=31), "header says that it is 31 bytes long, and 32 is the least"),
    "body cut": (
        build()[:1500],
        "cut off: the header says 512 bytes of header and 1000 of body, and the file has 1500",
    ),
    "body of 4 GiB": (build(img_size=0xFFFF_FFF0), "512 bytes of header and 4294967280 of body, and the file has 1552"),
    "no TLVs": (
        build()[:1512],
        "cut off: TLVs with hash and signature should follow at offset 0x5e8, and the file ends",
    ),
    "TLV info cut": (build()[:1515], "should follow at offset 0x5e8, and the file ends at 0x5eb"),
    "TLVs cut": (
        build()[:1520],
        "cut off: the TLV area at offset 0x5e8 has 40 bytes, and the file ends after 8 of them",
    ),
    "TLV magic": (build(img_size=996), "behind the body, at 0x5e4, is 0xf5f4 instead of the TLVs' magic 0x6907"),
    "TLV area size": (build()[:1512] + struct.pack("<HH", 0x6907, 3), "at offset 0x5e8 claims a size of 3 bytes"),
    "TLV length": (
        build()[:1512] + area(struct.pack("<HH", 0x10, 32)),
        "the TLV at offset 0x5ec reaches beyond its area",
    ),
    "TLV head": (
        build()[:1512] + area(b"\x10\0"),
        "the TLV at offset 0x5ec reaches beyond its area, which ends at 0x5ee",
    ),
    "protected missing": (build(protect_tlv_size=12), "says 12 bytes of protected TLVs, and behind the body are 0"),
    "protected unannounced": (
        build(protected=[tlv(0x50, bytes(4))], protect_tlv_size=0),
        "says 0 bytes of protected TLVs, and behind the body are 12",
    ),
    "protected disagree": (
        build(protected=[tlv(0x50, bytes(4))], protect_tlv_size=16),
        "says 16 bytes of protected TLVs, and behind the body are 12",
    ),
    "protected alone": (build(protected=[tlv(0x50, bytes(4))])[:1524], "should follow at offset 0x5f4"),
    "no hash": (
        build()[:1512] + area(tlv(0x01, b"k" * 32)),
        "no hash TLV (SHA256, SHA384 or SHA512); its TLVs: KEYHASH.",
    ),
    "no TLV at all": (build()[:1512] + area(), "its TLVs: none."),
    "hash cut short": (build()[:1512] + area(tlv(0x10, b"")), "and its TLV says empty"),
    "body changed": (
        build().replace(b"\x01\x02\x03\x04", b"\x01\x02\x03\x05", 1),
        "The file was changed after signing",
    ),
    "not bootable": (build(flags=ImageFlag.NON_BOOTABLE), "its flags (0x10) say that MCUboot must not start it"),
    "encrypted without a key": (build(flags=ImageFlag.ENCRYPTED_AES128), "no TLV holds the encrypted key"),
}


@pytest.mark.parametrize(("data", "message"), WRONG_FILES.values(), ids=WRONG_FILES)
def test_a_wrong_file_is_told_what_it_is_and_what_to_do(data, message):
    with pytest.raises(ImageError) as caught:
        parse(data, "out/zephyr.bin")
    text = str(caught.value)
    assert text.startswith("cannot use out/zephyr.bin as an MCUboot image: ")
    assert message in text
    assert not text.endswith((".", " "))
    assert ". " in text, "no advice"


def test_a_wrong_hash_is_shown_beside_the_right_one():
    data = bytearray(build())
    right = parse(bytes(data)).hash
    data[-32] ^= 1
    with pytest.raises(ImageError) as caught:
        parse(bytes(data))
    assert f"is {right[:8].hex()}..., and its TLV says {bytes(data[-32:-24]).hex()}..." in str(caught.value)


def test_hashes_that_differ_at_their_end_are_shown_whole():
    data = bytearray(build())
    right = parse(bytes(data)).hash
    data[-1] ^= 1
    with pytest.raises(ImageError, match=f"is {right.hex()}, and its TLV says {bytes(data[-32:]).hex()}"):
        parse(bytes(data))


def test_an_image_that_mcuboot_must_not_start_can_be_asked_for():
    image = parse(sign(APP, extra=("--non-bootable",)), require_bootable=False)
    assert not image.bootable


def test_real_unsigned_firmware_is_recognised():
    assert sniff(firmware.real_firmware()) is Kind.UNSIGNED
    assert sniff(firmware.real_network_firmware()) is Kind.UNSIGNED
    assert sniff(bytes(0x200) + firmware.real_firmware()) is Kind.UNSIGNED_WITH_ROOM


# --- Files ---


def test_an_image_is_loaded_under_its_path(tmp_path):
    path = tmp_path / "zephyr.signed.bin"
    path.write_bytes(build())
    image = load(path)
    assert image.source == str(path)
    assert image == parse(build(), str(path))


def test_what_cannot_be_read_is_an_image_error(tmp_path):
    with pytest.raises(ImageError, match=r"nowhere\.bin as an MCUboot image: there is no such file\. Build first"):
        load(tmp_path / "nowhere.bin")
    with pytest.raises(ImageError, match=r"it is a directory\. Name the signed image"):
        load(tmp_path)
    with pytest.raises(ImageError, match="not a regular file"):
        load(Path("/dev/null"))
    with pytest.raises(ImageError):
        load(Path("a\0b"))
    with pytest.raises(ImageError):
        load(Path("a" * 5000))
    with pytest.raises(ImageError):
        load(tmp_path / "nowhere.bin" / "below")


def test_a_file_that_cannot_be_opened_is_an_image_error(tmp_path, monkeypatch):
    path = tmp_path / "x.bin"
    path.write_bytes(build())

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ImageError, match=r"cannot be read \(.*Permission denied\)"):
        load(path)


def test_a_file_too_large_for_any_slot_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(mcuboot, "MAX_FILE_SIZE", 1000)
    path = tmp_path / "x.bin"
    path.write_bytes(build())
    with pytest.raises(ImageError, match="more than 1000 bytes"):
        load(path)


# --- Does it fit? ---


def test_the_largest_image_leaves_room_for_the_trailer():
    # 112 pages: 1344 bytes of status, 32 of flags, 16 of magic; the last page holds them all.
    assert largest_image(SLOT_SIZE, "move") == largest_image(SLOT_SIZE, "offset") == SLOT_SIZE - 0x1000
    assert largest_image(SLOT_SIZE, "scratch") == SLOT_SIZE - 1344 - 48
    assert largest_image(SLOT_SIZE, "overwrite") == SLOT_SIZE - 40
    # 512 pages: 6144 bytes of status reach into a second page.
    assert largest_image(0x20_0000, "move") == 0x20_0000 - 0x2000
    assert largest_image(16, "move") == largest_image(0, "scratch") == largest_image(8, "overwrite") == 0


@pytest.mark.parametrize("swap", ["move", "offset", "scratch", "overwrite"])
def test_an_image_fits_up_to_the_last_byte(swap):
    slot = 0x4000
    limit = largest_image(slot, swap)
    overhead = len(build(b""))
    check_slot(parse(build(bytes(limit - overhead))), slot, swap=swap)
    with pytest.raises(ImageError) as caught:
        check_slot(parse(build(bytes(limit - overhead + 1)), "app.bin"), slot, swap=swap)
    text = str(caught.value)
    assert f"app.bin as an MCUboot image: the image has {limit + 1} bytes" in text
    assert f"at most {limit} can be used" in text
    assert f"swap using {swap}" in text


def test_imgtool_would_not_make_what_does_not_fit():
    """imgtool counts the trailer without rounding it to pages, so what fits here fits there."""
    with pytest.raises(AssertionError, match="exceeds requested size"):
        sign(bytes(largest_image(0x4000, "scratch")), slot_size=0x4000, extra=("--max-sectors", "4"))


def test_padding_counts_for_the_file_and_not_for_the_image():
    image = parse(sign(APP, confirm=True), "app.bin")
    check_slot(image, SLOT_SIZE)
    with pytest.raises(ImageError, match=rf"the file has 458752 bytes \({SLOT_SIZE - image.end} of them padding\)"):
        check_slot(image, SLOT_SIZE - 1)


def test_a_file_longer_than_the_slot_is_refused():
    with pytest.raises(ImageError, match="the file has 1552 bytes, and the slot 1551"):
        check_slot(parse(build()), 1551)


# --- Was it built for this slot? ---


def body(reset, size=1000):
    return struct.pack("<II", 0x2000_3158, reset) + bytes(size - 8)


def warning(data, address=SLOT_ADDRESS):
    return check_link_address(parse(data, "app.bin", require_bootable=False), address, SLOT_SIZE)


@pytest.mark.parametrize("reset", [0x1_0201, 0x1_0241, 0x1_05E7])
def test_an_image_linked_behind_its_header_is_right(reset):
    assert warning(build(body(reset))) is None


@pytest.mark.parametrize(
    ("reset", "message"),
    [
        (0x1_0240, "reset vector 0x10240 is even, so its body does not begin with a vector table"),
        (0x1_01FF, "outside its body, 0x10200 to 0x105e8. Was it signed with another header size"),
        (0x1_05E9, "outside its body, 0x10200 to 0x105e8. Was it signed with another header size"),
        (0x241, "reset vector 0x241 lies outside its body, 0x10200 to 0x105e8. It seems linked at 0: build it with"),
        (0x8_0241, "It was built for another slot"),
        (0xF_FFFF, "It was built for another slot"),
        (0x1000_0241, "It was built for another slot"),
        (0x10_0001, "No flash is there, so its body is no firmware of an nRF5340"),
        (0x4498_0F55, "No flash is there, so its body is no firmware of an nRF5340"),
        (0xFFFF_FFFF, "No flash is there, so its body is no firmware of an nRF5340"),
        (0x0100_3D65, "in the network core's flash: this is an image for the other core"),
    ],
)
def test_an_image_linked_elsewhere_is_told(reset, message):
    text = warning(build(body(reset)))
    assert text.startswith("app.bin would not run from the slot at 0x10000: ")
    assert message in text


def test_the_vector_table_has_to_be_aligned():
    assert warning(build(body(0x1_0441), room=0x400)) is None
    assert "header has 0x20 bytes" in warning(build(body(0x1_0241), room=0x20))


def test_an_image_for_a_fixed_address_says_which():
    fixed = build(body(0x1_0241), flags=ImageFlag.ROM_FIXED, load_addr=SLOT_ADDRESS)
    assert warning(fixed) is None
    assert "was signed for address 0x10000" in warning(fixed, address=0x8_0000)


def test_what_cannot_be_told_is_no_warning():
    assert warning(build(b"short")) is None
    assert warning(build(body(0x2000_0241), flags=ImageFlag.RAM_LOAD, load_addr=0x2000_0000)) is None
    assert warning(sign(body(0x241), encrypt="ecdsa-p256")) is None


def test_the_network_core_has_its_own_flash():
    network = build(body(0x0100_8A41), room=0x200)
    assert check_link_address(parse(network), 0x0100_8800, 0x3_7800) is None
    assert "It was built for another slot" in check_link_address(parse(network), 0x0101_0000, 0x1_0000)


def test_the_real_firmware_is_linked_at_0():
    image = parse(firmware.signed_app("4.5.6"), "app.bin")
    assert str(image.version) == "4.5.6"
    assert "It seems linked at 0" in check_link_address(image, SLOT_ADDRESS, SLOT_SIZE)
    check_slot(image, SLOT_SIZE)


# --- Nothing but ImageError ---

VALID = (
    build(b"0123456789abcdef" * 2, room=32),
    build(b"", room=32, protected=[tlv(TlvType.SEC_CNT, b"1234")], after=[tlv(TlvType.ECDSA_SIG, b"sig")]),
    padded(build(b"body", room=40), 0x200, image_ok=1),
    build(b"x" * 16, room=32, flags=ImageFlag.ENCRYPTED_AES128, after=[tlv(TlvType.ENC_KW, b"k" * 24)]),
    ZEPHYR_BIN,
    b":020000040001F9\n",
)
versions = st.builds(Version, *(st.integers(0, limit) for limit in (0xFF, 0xFF, 0xFFFF, 0xFFFF_FFFF)))
edits = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1 << 16), st.binary(max_size=6)), max_size=6)


def accepted(data):
    """The image, or None where ImageError came; nothing else may come."""
    try:
        image = parse(data, require_bootable=False)
    except ImageError:
        return None
    check_link_address(image, SLOT_ADDRESS, SLOT_SIZE)
    return image


@given(st.sampled_from(VALID), edits, st.integers(0, 1 << 12))
def test_damaged_files_raise_nothing_but_image_errors(data, changes, cut):
    damaged = bytearray(data[: cut or None])
    for insert, position, piece in changes:
        at = position % (len(damaged) + 1)
        damaged[at : at if insert else at + len(piece)] = piece
    image = accepted(bytes(damaged))
    if image is not None and image.hash_checked:
        covered = image.header.tlv_offset + image.header.protect_tlv_size
        assert image.hash == HASHES[image.hash_type](image.data[:covered]).digest()
        assert image.data[image.end :].strip(b"\xff") in {b"", TRAILER_MAGIC, b"\x01" + b"\xff" * 7 + TRAILER_MAGIC}


@given(st.binary(max_size=200))
@example(b"\xff")
@example(b"\x00\xff")
def test_noise_raises_nothing_but_image_errors(data):
    accepted(data)
    accepted(MAGIC.to_bytes(4, "little") + data)


@given(st.integers(0, 8 * (32 + 32 + 12) - 1))
def test_a_flipped_bit_in_what_the_hash_covers_is_always_found(bit):
    data = build(b"0123456789abcdef" * 2, room=32, protected=[tlv(TlvType.SEC_CNT, b"1234")])
    damaged = bytearray(data)
    damaged[bit // 8] ^= 1 << bit % 8
    assert accepted(bytes(damaged)) is None


@given(st.integers(0, len(VALID[1]) - 1))
def test_every_truncation_is_found(length):
    assert accepted(VALID[1][:length]) is None


@given(
    content=st.binary(max_size=64),
    protected=st.lists(st.tuples(st.integers(0xA0, 0xFF), st.binary(max_size=20)), max_size=4),
    plain=st.lists(st.tuples(st.integers(0xA0, 0xFF), st.binary(max_size=20)), max_size=4),
    version=versions,
    hash_type=st.sampled_from(sorted(HASHES)),
    padding=st.integers(0, 40),
)
def test_what_is_built_is_read_back(content, protected, plain, version, hash_type, padding):
    data = build(
        content,
        protected=[tlv(*t) for t in protected],
        before=[tlv(*t) for t in plain],
        version=version,
        hash_type=hash_type,
        room=64,
    )
    image = parse(data + b"\xff" * padding)
    assert [(t.type, t.value) for t in image.tlvs if t.protected] == protected
    assert [(t.type, t.value) for t in image.tlvs if not t.protected][:-1] == plain
    assert (image.version, image.hash_type, image.end) == (version, hash_type, len(data))
    assert image.padded == bool(padding)
    assert image.payload == data
    assert Version.parse(str(version)) == version


@given(st.builds(ImageHeader, *(st.integers(0, 2**n - 1) for n in (32, 32, 16, 16, 32, 32)), versions))
def test_headers_survive_packing(header):
    assert ImageHeader.unpack(header.pack()) == header


def test_headers_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match="does not fit"):
        ImageHeader(hdr_size=0x1_0000).pack()
    with pytest.raises(ValueError, match="32 bytes, here are 31"):
        ImageHeader.unpack(bytes(31))


@pytest.mark.parametrize(
    "data",
    [
        build(img_size=0xFFFF_FFF0),
        build(bytes(1 << 20)),
        build(after=[tlv(0xA0, b"")] * 16000),
        MAGIC.to_bytes(4, "little") + b"\xff" * (1 << 20),
        bytes(1 << 20) + b"x",
        b"\n" * (1 << 20),
    ],
    ids=["claims 4 GiB", "1 MiB", "16000 TLVs", "erased", "zeros", "newlines"],
)
def test_memory_stays_in_proportion(data):
    tracemalloc.start()
    try:
        accepted(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * len(data) + (4 << 20)


# --- The helpers of the tests ---


def test_what_is_missing_skips_unless_everything_is_required(monkeypatch):
    monkeypatch.delenv("NRFDFU_TESTS_REQUIRE_ALL", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no firmware"):
        firmware.unavailable("no firmware")
    monkeypatch.setenv("NRFDFU_TESTS_REQUIRE_ALL", "1")
    with pytest.raises(pytest.fail.Exception, match=r"no firmware .*forbids skipping"):
        firmware.unavailable("no firmware")


def test_room_that_the_build_left_is_used():
    image = parse(sign(bytes(0x200) + APP, pad_header=False))
    assert (image.header.hdr_size, image.reset_vector) == (0x200, 0x1_0241)
