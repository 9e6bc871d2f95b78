"""Public keys and signatures: what counts as a key, which images it vouches for, and what each wrong one is told."""

import re
import struct
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import firmware
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import example, given
from hypothesis import strategies as st

from pytest_nrfdfu.errors import ConfigError, ImageError
from pytest_nrfdfu.image.format import TlvType
from pytest_nrfdfu.image.keys import MAX_KEY_FILE_SIZE, PublicKey, check_signature, load_public_key, parse_public_key
from pytest_nrfdfu.image.mcuboot import parse
from pytest_nrfdfu.sim.board import BoardOptions, SimBoard
from pytest_nrfdfu.sim.firmware import FlashTiming
from pytest_nrfdfu.sim.slots import Slots
from pytest_nrfdfu.sim.trailer import Trailers
from pytest_nrfdfu.sim.validate import Validator, read_header

KINDS = ("rsa-2048", "rsa-3072", "ecdsa-p256", "ecdsa-p384", "ed25519")
NAMES = dict(zip(KINDS, ("RSA-2048", "RSA-3072", "ECDSA P-256", "ECDSA P-384", "Ed25519"), strict=True))
BODY = struct.pack("<II", 0x2000_3158, firmware.SLOT_ADDRESS + 0x241) + bytes(range(248)) * 4

kinds = pytest.mark.parametrize("kind", KINDS)


@lru_cache
def other_key(kind: str) -> Path:
    """A second key of the same kind."""
    path = firmware.private_key(kind).with_name(f"other-{kind}.pem")
    firmware.imgtool("keygen", "-k", path, "-t", kind)
    return path


@lru_cache
def getpub(kind: str, encoding: str) -> bytes:
    """The public key as ``imgtool getpub`` writes it."""
    path = firmware.private_key(kind).with_name(f"{kind}-{encoding}.pub")
    firmware.imgtool("getpub", "-k", firmware.private_key(kind), "-e", encoding, "-o", path)
    return path.read_bytes()


def key_of(kind: str) -> PublicKey:
    return load_public_key(firmware.private_key(kind))


def signed(kind: str | None, **more):
    return firmware.sign(BODY, key=kind, **more)


def image(data: bytes):
    return parse(data, "zephyr.signed.bin")


def tlv_at(data: bytes, *types: int) -> int:
    """Where the value of the first TLV of one of these types begins."""
    parsed = parse(data)
    at = parsed.header.tlv_offset + 4
    while True:
        kind, length = struct.unpack_from("<HH", data, at)
        if kind in types:
            return at + 4
        at += 4 + length


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x01]) + data[at + 1 :]


SIGNATURES = (TlvType.RSA2048_PSS, TlvType.RSA3072_PSS, TlvType.ECDSA_SIG, TlvType.ED25519)


# What is a key


@kinds
def test_a_private_key_stands_for_its_public_half(kind):
    private = load_public_key(firmware.private_key(kind))
    public = parse_public_key(getpub(kind, "pem"), private.source)
    assert private == public
    assert private.name == NAMES[kind]
    assert private.source == str(firmware.private_key(kind))


@kinds
@pytest.mark.parametrize("encoding", ["lang-c", "pem", "raw"])
def test_every_form_that_imgtool_writes_is_read(kind, encoding):
    """``raw`` is DER; ``lang-c`` is what a Zephyr build keeps as autogen-pubkey.c."""
    assert parse_public_key(getpub(kind, encoding)) == parse_public_key(firmware.private_key(kind).read_bytes())


@kinds
@pytest.mark.parametrize(
    "written",
    [
        pytest.param(lambda k: k.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()), id="PKCS8 DER"),
        pytest.param(
            lambda k: k.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo), id="public DER"
        ),
        pytest.param(
            lambda k: b"\r\n" + k.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), id="blank line"
        ),
    ],
)
def test_der_is_read_as_well(kind, written):
    private = serialization.load_pem_private_key(firmware.private_key(kind).read_bytes(), None)
    assert parse_public_key(written(private)) == replace(key_of(kind), source="key")


@kinds
def test_the_keys_digest_is_the_images_keyhash(kind):
    parsed = image(signed(kind))
    (named,) = [tlv.value for tlv in parsed.tlvs if tlv.type == TlvType.KEYHASH]
    assert key_of(kind).digest(parsed.hash_type) == named


def password_key():
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret"))


def old_password_key():
    return b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n"


def public_pem(key):
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


ADVICE = "Give the public key that the bootloader was built with; `imgtool getpub -k KEY -e pem` writes one"
KINDS_ADVICE = "Signing keys are RSA (2048 or 3072 bits), ECDSA (P-256 or P-384) or Ed25519"
NO_KEYS = [
    (lambda: b"", f"it is empty. {ADVICE}"),
    (lambda: b"no key at all", f"it is neither PEM nor DER, and begins with 6e 6f 20 6b 65 79 20 61. {ADVICE}"),
    (lambda: signed("ed25519"), f"it is an MCUboot image. {ADVICE}"),
    (lambda: bytes(MAX_KEY_FILE_SIZE + 1), f"it has more than 65536 bytes. {ADVICE}"),
    (
        lambda: b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        f"it is a certificate. {ADVICE}",
    ),
    (lambda: getpub("rsa-2048", "pem")[:200], f"it is a damaged PEM file, or one that holds no key. {ADVICE}"),
    (
        lambda: b"const unsigned char key[] = { 0x30, 0x31 };",
        f"it is C source, and its first array holds no key. {ADVICE}",
    ),
    (password_key, f"it is a private key with a password. {ADVICE}"),
    (old_password_key, f"it is a private key with a password. {ADVICE}"),
    (
        lambda: public_pem(ec.generate_private_key(ec.SECP521R1())),
        f"it is a key of type ECDSA on secp521r1, and MCUboot has no signatures with it. {KINDS_ADVICE}",
    ),
    (
        lambda: public_pem(rsa.generate_private_key(65537, 1024)),
        f"it is a key of type RSA with 1024 bits, and MCUboot has no signatures with it. {KINDS_ADVICE}",
    ),
    (
        lambda: firmware.private_key("x25519").read_bytes(),
        f"it is a key of type X25519, and MCUboot has no signatures with it. {KINDS_ADVICE}",
    ),
]


@pytest.mark.parametrize(("content", "seen"), NO_KEYS, ids=range(len(NO_KEYS)))
def test_what_is_no_key_is_told_why(tmp_path, content, seen):
    path = tmp_path / "key.pem"
    path.write_bytes(content())
    with pytest.raises(ConfigError) as error:
        load_public_key(path)
    assert str(error.value) == f"cannot use {path} as a public key: {seen}"


@pytest.mark.parametrize(("name", "seen"), [("none.pem", "No such file or directory"), ("", "Is a directory")])
def test_a_file_that_cannot_be_read_is_told_why(tmp_path, name, seen):
    with pytest.raises(ConfigError, match=rf"as a public key: it cannot be read \({seen}\)\. {re.escape(ADVICE)}"):
        load_public_key(tmp_path / name)


def test_without_the_package_cryptography_it_says_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "cryptography"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(ConfigError, match=r"package cryptography is not there.*pip install cryptography"):
        parse_public_key(b"-----BEGIN PUBLIC KEY-----")


def test_the_package_cryptography_is_not_imported_before_a_key_is_read():
    code = "import sys, pytest_nrfdfu.image.keys; sys.exit('cryptography' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


# Which images a key vouches for


@kinds
def test_an_image_signed_with_the_key_is_accepted(kind):
    check_signature(image(signed(kind)), key_of(kind))


@kinds
@pytest.mark.parametrize("more", [{"pad": True}, {"confirm": True}, {"version": "255.255.65535+4294967295"}])
def test_padding_and_version_do_not_matter(kind, more):
    check_signature(image(signed(kind, **more)), key_of(kind))


@kinds
def test_an_image_with_the_whole_key_in_it_is_accepted(kind):
    check_signature(image(signed(kind, extra=("--public-key-format", "full"))), key_of(kind))


@pytest.mark.parametrize("kind", ["ecdsa-p256", "ecdsa-p384"])
def test_a_signature_filled_up_to_a_fixed_length_is_accepted(kind):
    """``imgtool sign --pad-sig`` fills up with zeros; how many depends on the signature's random part."""
    check_signature(image(signed(kind, extra=("--pad-sig",))), key_of(kind))
    parsed = image(signed(kind))
    filled, spoiled = (replace(parsed, tlvs=with_signature(parsed, end)) for end in (b"\0\0", b"\0\1"))
    check_signature(filled, key_of(kind))
    with pytest.raises(ImageError, match="does not match"):
        check_signature(spoiled, key_of(kind))


def with_signature(parsed, end):
    """The TLVs with bytes behind the signature's value."""
    return tuple(replace_value(t, t.value + end) if t.type == parsed.signature else t for t in parsed.tlvs)


def test_protected_tlvs_are_signed_too():
    data = signed("ecdsa-p256", extra=("--security-counter", "7"))
    check_signature(image(data), key_of("ecdsa-p256"))


@pytest.mark.parametrize("sha", ["256", "512"])
def test_ed25519_signs_any_hash(sha):
    check_signature(image(signed("ed25519", extra=("--sha", sha))), key_of("ed25519"))


def test_a_pure_signature_covers_the_image_itself():
    data = signed("ed25519", extra=("--pure",))
    parsed = image(data)
    check_signature(parsed, key_of("ed25519"))
    in_body = replace(parsed, data=flipped(parsed.data, 0x300))
    with pytest.raises(ImageError, match="does not match"):
        check_signature(in_body, key_of("ed25519"))


@pytest.mark.parametrize(("kind", "encrypt"), [("rsa-2048", "rsa-2048"), ("ecdsa-p256", "ecdsa-p256")])
def test_an_encrypted_image_is_checked_by_its_hash(kind, encrypt):
    data = signed(kind, encrypt=encrypt)
    parsed = image(data)
    assert parsed.encrypted
    check_signature(parsed, key_of(kind))
    with pytest.raises(ImageError, match="does not match"):
        check_signature(image(flipped(data, tlv_at(data, *SIGNATURES) + 40)), key_of(kind))


# Which not, and what is said


def test_an_unsigned_image():
    with pytest.raises(ImageError) as error:
        check_signature(image(signed(None)), replace(key_of("rsa-2048"), source="mcuboot.pem"))
    assert str(error.value) == (
        "zephyr.signed.bin is not signed at all: it carries a hash only, and a bootloader with the RSA-2048 key"
        " mcuboot.pem would not list it. Sign it: imgtool sign --key, or CONFIG_BOOT_SIGNATURE_KEY_FILE"
    )


@pytest.mark.parametrize(("with_key", "key"), [(a, b) for a in KINDS for b in KINDS if a != b], ids=str)
def test_an_image_signed_with_another_kind_of_key(with_key, key):
    with pytest.raises(ImageError) as error:
        check_signature(image(signed(with_key)), replace(key_of(key), source="mcuboot.pem"))
    hashed = "SHA384" if with_key == "ecdsa-p384" else "SHA256"
    assert str(error.value) == (
        f"zephyr.signed.bin is signed with {NAMES[with_key]} over {hashed}, the key mcuboot.pem is {NAMES[key]}. Sign"
        " it with the bootloader's key, or give the key that the bootloader was built with"
    )


@kinds
@pytest.mark.parametrize("form", ["hash", "full"])
def test_an_image_signed_with_another_key_than_the_bootloaders(kind, form):
    key = replace(load_public_key(other_key(kind)), source="mcuboot.pem")
    parsed = image(signed(kind, extra=("--public-key-format", form)))
    with pytest.raises(ImageError) as error:
        check_signature(parsed, key)
    named = key_of(kind).digest(parsed.hash_type)[:8].hex()
    own = key.digest(parsed.hash_type)[:8].hex()
    assert str(error.value) == (
        f"zephyr.signed.bin is signed with another key than the bootloader's: it names {named}..., and the"
        f" {NAMES[kind]} key mcuboot.pem is {own}.... Sign it with that key (CONFIG_BOOT_SIGNATURE_KEY_FILE), or give"
        " the key that the bootloader was built with"
    )


@kinds
def test_a_signature_that_was_changed(kind):
    data = signed(kind)
    # The middle of the signature: its head is DER structure with ECDSA.
    at = tlv_at(data, *SIGNATURES) + 30
    with pytest.raises(ImageError) as error:
        check_signature(image(flipped(data, at)), replace(key_of(kind), source="mcuboot.pem"))
    assert str(error.value) == (
        f"the signature of zephyr.signed.bin does not match the image, although it names the {NAMES[kind]} key"
        " mcuboot.pem. The file was changed after signing, or damaged by a copy: sign or copy it again"
    )


@kinds
def test_a_signature_taken_from_another_image(kind):
    mine, theirs = signed(kind), signed(kind, version="9.9.9")
    at, from_at = tlv_at(mine, TlvType.SHA256, TlvType.SHA384), tlv_at(theirs, TlvType.SHA256, TlvType.SHA384)
    parsed = image(theirs)
    swapped = replace(parsed, tlvs=tuple(t if t.type != parsed.signature else other(mine, t) for t in parsed.tlvs))
    assert at == from_at
    with pytest.raises(ImageError, match="does not match the image"):
        check_signature(swapped, key_of(kind))


def other(data: bytes, tlv):
    return next(t for t in parse(data).tlvs if t.type == tlv.type)


def test_a_signature_without_a_key_named():
    parsed = image(signed("ed25519"))
    anonymous = replace(parsed, tlvs=tuple(tlv for tlv in parsed.tlvs if tlv.type != TlvType.KEYHASH))
    with pytest.raises(ImageError, match=r"another key than the bootloader's: it names no key \(no KEYHASH\), and"):
        check_signature(anonymous, key_of("ed25519"))


def test_of_two_signatures_one_by_the_key_is_enough():
    """Nothing that imgtool makes, but bootutil walks the TLVs in this way."""
    parsed = image(signed("ecdsa-p256"))
    foreign = [replace_value(tlv, tlv.value[::-1]) for tlv in parsed.tlvs if tlv.type == TlvType.KEYHASH]
    nonsense = [replace_value(tlv, b"\0" * 70) for tlv in parsed.tlvs if tlv.type == TlvType.ECDSA_SIG]
    check_signature(replace(parsed, tlvs=(*foreign, *nonsense, *parsed.tlvs)), key_of("ecdsa-p256"))


def replace_value(tlv, value):
    return tlv._replace(value=value)


# Agreement with the simulated bootloader


def boards_verdict(data: bytes, key: bytes) -> bool:
    """Whether a simulated board that was built with `key` lists `data` in slot 0 (by its own walk over flash)."""
    board = SimBoard(BoardOptions(public_key=key, image=data, timing=FlashTiming(0.0, 0.0)))
    slots = Slots(board.chip, board.slots)
    validator = Validator(slots, parse_public_key(key), Trailers(slots, "move").max_image_size)
    listed = validator.valid(board.slots[0], read_header(slots, board.slots[0]))
    board.machine.advance(1.0)
    assert (board.program == "application") == listed
    return listed


def our_verdict(data: bytes, key: bytes) -> bool:
    try:
        check_signature(parse(data), parse_public_key(key))
    except ImageError:
        return False
    return True


@kinds
@pytest.mark.parametrize("key", [*KINDS, "other"])
def test_what_is_accepted_the_board_lists_and_nothing_else(kind, key):
    path = other_key(kind) if key == "other" else firmware.private_key(key)
    data, content = signed(kind), path.read_bytes()
    assert our_verdict(data, content) is boards_verdict(data, content) is (key == kind)


@kinds
@pytest.mark.parametrize("part", ["signature", "key hash", "hash", "body", "header"])
def test_what_was_tampered_with_both_refuse(kind, part):
    data, content = signed(kind), firmware.private_key(kind).read_bytes()
    at = {
        "signature": lambda: tlv_at(data, *SIGNATURES) + 30,
        "key hash": lambda: tlv_at(data, TlvType.KEYHASH) + 5,
        "hash": lambda: tlv_at(data, TlvType.SHA256, TlvType.SHA384) + 5,
        "body": lambda: 0x300,
        "header": lambda: 20,
    }[part]()
    broken = flipped(data, at)
    assert our_verdict(data, content) is boards_verdict(data, content) is True
    assert our_verdict(broken, content) is boards_verdict(broken, content) is False


def test_an_unsigned_image_both_refuse():
    data, content = signed(None), firmware.private_key("ecdsa-p256").read_bytes()
    assert our_verdict(data, content) is boards_verdict(data, content) is False


# Anything


@given(st.binary(max_size=400))
@example(b"-----BEGIN PUBLIC KEY-----\n")
@example(b"-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n")
@example(b"unsigned char x[] = {0x30}")
def test_no_content_of_a_key_file_raises_anything_else(content):
    with suppress(ConfigError):
        parse_public_key(content)


@given(kind=st.sampled_from(KINDS), data=st.data())
def test_no_damage_to_a_key_file_raises_anything_else(kind, data):
    content = bytearray(getpub(kind, data.draw(st.sampled_from(["pem", "raw", "lang-c"]))))
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[at] = data.draw(st.integers(0, 255))
    with suppress(ConfigError):
        parse_public_key(bytes(content))


@given(kind=st.sampled_from(KINDS), data=st.data())
def test_no_damage_to_the_tlvs_raises_anything_else(kind, data):
    content = bytearray(signed(kind))
    start = parse(bytes(content)).header.tlv_offset
    for at in data.draw(st.lists(st.integers(start, len(content) - 1), min_size=1, max_size=4)):
        content[at] = data.draw(st.integers(0, 255))
    with suppress(ImageError):
        check_signature(parse(bytes(content)), key_of(kind))
