"""Reads public keys and checks the signatures of images, before any hardware is touched.

"Signed with another key than the bootloader's" is a common mistake that takes long to find: MCUboot takes the upload,
answers rc 0, and lists no image. What counts is the key that the bootloader on the board was built with; this module
only sees the key that it is given.

Source: MCUboot, scripts/imgtool/image.py and keys/ (what is signed, and what KEYHASH is the hash of),
boot/bootutil/src/image_validate.c, bootutil_find_key.c and image_ecdsa.c (what is accepted).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pytest_nrfdfu.errors import ConfigError, ImageError
from pytest_nrfdfu.image.format import HASHES, MAGIC, Tlv, TlvType
from pytest_nrfdfu.image.mcuboot import Image

__all__ = ["MAX_KEY_FILE_SIZE", "PublicKey", "check_signature", "load_public_key", "parse_public_key"]

MAX_KEY_FILE_SIZE = 64 << 10
"""A larger file is not read, in bytes. The longest of imgtool's keys, RSA-3072 as C source, has under 4 KiB."""
_ED25519_SIGNATURE = 64
"""Length of an Ed25519 signature in bytes (RFC 8032)."""
_RSA_SALT = 32
"""Length of the PSS salt in bytes (imgtool, keys/rsa.py; bootutil's image_rsa.c takes no other)."""
_SHOWN = 8
_KINDS = "RSA (2048 or 3072 bits), ECDSA (P-256 or P-384) or Ed25519"
_ADVICE = "Give the public key that the bootloader was built with; `imgtool getpub -k KEY -e pem` writes one"
_C_BYTES = re.compile(rb"=\s*\{([^}]*)\}")
_C_BYTE = re.compile(rb"0x([0-9a-fA-F]{2})\b")

Verify = Callable[[bytes, bytes], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """The one key that a bootloader was built with."""

    name: str
    """``RSA-2048``, ``RSA-3072``, ``ECDSA P-256``, ``ECDSA P-384`` or ``Ed25519``."""
    hash_tlv: TlvType
    """Which hash of the image is signed. With Ed25519 imgtool also takes others (``--sha``)."""
    signature_tlv: TlvType
    encoded: bytes = field(repr=False)
    """As it lies in the bootloader: PKCS #1 for RSA, else SubjectPublicKeyInfo. Its digest is an image's KEYHASH."""
    signature_size: int | None
    """Exact length of a signature in bytes; None where it varies."""
    verify: Verify = field(repr=False, compare=False)
    """Digest (for a pure signature: what is signed itself) and signature: do they belong together?"""
    source: str = "key"
    """What messages call it: the file's path."""

    def digest(self, hash_tlv: TlvType) -> bytes:
        """The digest of the key, as a KEYHASH TLV beside a hash TLV of type `hash_tlv` holds it."""
        digest = HASHES[hash_tlv]()
        digest.update(self.encoded)
        return digest.digest()


# Reading keys


def load_public_key(path: Path) -> PublicKey:
    """Read the key in a file: PEM or DER, public or private (of which the public half is taken), or C source.

    The C source is what ``imgtool getpub`` writes by default, and what a Zephyr build of MCUboot keeps as
    ``autogen-pubkey.c``. ConfigError for everything else.
    """
    source = str(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_KEY_FILE_SIZE + 1)
    except OSError as error:
        raise _refuse(source, f"it cannot be read ({error.strerror or error})", _ADVICE) from None
    return parse_public_key(data, source)


def parse_public_key(data: bytes, source: str = "key") -> PublicKey:
    """Like `load_public_key`, for the file's content. Raises nothing but ConfigError."""
    if len(data) > MAX_KEY_FILE_SIZE:
        raise _refuse(source, f"it has more than {MAX_KEY_FILE_SIZE} bytes", _ADVICE)
    from_c = _c_source(data)
    key = _read(data if from_c is None else from_c)
    if key is None:
        seen = _looks_like(data) if from_c is None else "it is C source, and its first array holds no key"
        raise _refuse(source, seen, _ADVICE)
    return _describe(key, source)


def _refuse(source: str, seen: str, advice: str) -> ConfigError:
    return ConfigError(f"cannot use {source} as a public key: {seen}. {advice}")


def _c_source(data: bytes) -> bytes | None:
    """The bytes of the first array in C source."""
    found = _C_BYTES.search(data) if b"unsigned char" in data else None
    return None if found is None else bytes(int(byte, 16) for byte in _C_BYTE.findall(found[1]))


def _read(data: bytes) -> Any | None:
    """The key as an object of the package cryptography; None where there is none."""
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization
    except ImportError as error:
        raise ConfigError(
            f"a public key cannot be read: the package cryptography is not there ({error}). Install it:"
            " pip install cryptography"
        ) from None
    pem = data.lstrip().startswith(b"-----BEGIN")
    try:
        if pem and b"PRIVATE KEY-----" not in data:
            return serialization.load_pem_public_key(data.lstrip())
        if pem:
            return _public_half(serialization.load_pem_private_key, data.lstrip())
        try:
            return serialization.load_der_public_key(data)
        except ValueError:
            return _public_half(serialization.load_der_private_key, data)
    except (ValueError, TypeError, UnsupportedAlgorithm, AttributeError):
        return None


def _public_half(load: Callable[..., Any], data: bytes) -> Any:
    """The public key in a private one. Whether RSA's primes are primes takes long to tell, and is not used here."""
    return load(data, None, unsafe_skip_rsa_key_validation=True).public_key()


def _looks_like(data: bytes) -> str:
    if not data:
        return "it is empty"
    if data.startswith(MAGIC.to_bytes(4, "little")):
        return "it is an MCUboot image"
    if b"BEGIN CERTIFICATE" in data:
        return "it is a certificate"
    if data.lstrip().startswith(b"-----BEGIN") and b"ENCRYPTED" in data:
        return "it is a private key with a password"
    if data.lstrip().startswith(b"-----BEGIN"):
        return "it is a damaged PEM file, or one that holds no key"
    return f"it is neither PEM nor DER, and begins with {data[:_SHOWN].hex(' ')}"


def _describe(key: Any, source: str) -> PublicKey:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    if isinstance(key, rsa.RSAPublicKey) and key.key_size in (2048, 3072):
        return PublicKey(
            name=f"RSA-{key.key_size}",
            hash_tlv=TlvType.SHA256,
            signature_tlv=TlvType.RSA2048_PSS if key.key_size == 2048 else TlvType.RSA3072_PSS,
            encoded=key.public_bytes(Encoding.DER, PublicFormat.PKCS1),
            signature_size=key.key_size // 8,
            verify=_rsa(key),
            source=source,
        )
    curve = key.curve.name if isinstance(key, ec.EllipticCurvePublicKey) else None
    if curve in ("secp256r1", "secp384r1"):
        hash_tlv = TlvType.SHA256 if curve == "secp256r1" else TlvType.SHA384
        return PublicKey(
            name="ECDSA P-256" if curve == "secp256r1" else "ECDSA P-384",
            hash_tlv=hash_tlv,
            signature_tlv=TlvType.ECDSA_SIG,
            encoded=key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
            signature_size=None,
            verify=_ecdsa(key, hash_tlv),
            source=source,
        )
    if isinstance(key, ed25519.Ed25519PublicKey):
        return PublicKey(
            name="Ed25519",
            hash_tlv=TlvType.SHA256,
            signature_tlv=TlvType.ED25519,
            encoded=key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
            signature_size=_ED25519_SIGNATURE,
            verify=_ed25519(key),
            source=source,
        )
    size = f" with {key.key_size} bits" if isinstance(key, rsa.RSAPublicKey) else ""
    what = f"ECDSA on {curve}" if curve else type(key).__name__.strip("_").removesuffix("PublicKey")
    raise _refuse(
        source,
        f"it is a key of type {what}{size}, and MCUboot has no signatures with it",
        f"Signing keys are {_KINDS}",
    )


# The primitives


def _ignoring_invalid(check: Callable[[bytes, bytes], None]) -> Verify:
    """Turn a check that raises into one that returns False; also for a digest of another length."""
    from cryptography.exceptions import InvalidSignature

    def verify(digest: bytes, signature: bytes) -> bool:
        try:
            check(digest, signature)
        except (InvalidSignature, ValueError):
            return False
        return True

    return verify


def _rsa(key: Any) -> Verify:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding, utils

    pss = padding.PSS(padding.MGF1(hashes.SHA256()), salt_length=_RSA_SALT)
    prehashed = utils.Prehashed(hashes.SHA256())
    return _ignoring_invalid(lambda digest, signature: key.verify(signature, digest, pss, prehashed))


def _ecdsa(key: Any, hash_tlv: TlvType) -> Verify:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, utils

    algorithm = ec.ECDSA(utils.Prehashed(hashes.SHA256() if hash_tlv == TlvType.SHA256 else hashes.SHA384()))
    return _ignoring_invalid(lambda digest, signature: key.verify(_unpadded(signature), digest, algorithm))


def _unpadded(signature: bytes) -> bytes:
    """An ECDSA signature without the zeros that fill it up to a fixed length (``imgtool sign --pad-sig``).

    It is a DER sequence of under 128 bytes, so its second byte is its length.
    """
    end = 2 + signature[1] if len(signature) > 1 else 0
    return signature[:end] if not signature[end:].strip(b"\0") else signature


def _ed25519(key: Any) -> Verify:
    return _ignoring_invalid(lambda digest, signature: key.verify(signature, digest))


# Checking images


def check_signature(image: Image, key: PublicKey) -> None:
    """ImageError unless `image` carries a signature that `key` made.

    Of an encrypted image the signature is checked against the hash that its TLV names, which is the plaintext's; a
    pure signature of one covers the plaintext itself and is not checked. Whether the bootloader expects pure
    signatures (CONFIG_BOOT_SIGNATURE_TYPE_PURE), or another hash than SHA-256 with Ed25519, its key does not say.
    """
    if image.signature is None:
        raise ImageError(
            f"{image.source} is not signed at all: it carries a hash only, and a bootloader with the {key.name} key"
            f" {key.source} would not list it. Sign it: imgtool sign --key, or CONFIG_BOOT_SIGNATURE_KEY_FILE"
        )
    if not any(tlv.type == key.signature_tlv for tlv in image.tlvs) or not _fits(image, key):
        raise ImageError(
            f"{image.source} is signed with {_signed_with(image)}, the key {key.source} is {key.name}. Sign it with"
            " the bootloader's key, or give the key that the bootloader was built with"
        )
    signatures = _signatures(image, key)
    if not signatures.own:
        raise ImageError(
            f"{image.source} is signed with another key than the bootloader's: it names {_shown(signatures.others)},"
            f" and the {key.name} key {key.source} is {_shown((key.digest(image.hash_type),))}. Sign it with that key"
            " (CONFIG_BOOT_SIGNATURE_KEY_FILE), or give the key that the bootloader was built with"
        )
    if image.encrypted and _pure(image):
        return
    message = _signed_region(image) if _pure(image) else image.hash
    if not any(key.verify(message, signature) for signature in signatures.own):
        raise ImageError(
            f"the signature of {image.source} does not match the image, although it names the {key.name} key"
            f" {key.source}. The file was changed after signing, or damaged by a copy: sign or copy it again"
        )


def _fits(image: Image, key: PublicKey) -> bool:
    """ECDSA signatures of both curves have one TLV type; the hash tells them apart."""
    return key.signature_tlv == TlvType.ED25519 or image.hash_type == key.hash_tlv


def _signed_with(image: Image) -> str:
    names = {
        TlvType.RSA2048_PSS: "RSA-2048",
        TlvType.RSA3072_PSS: "RSA-3072",
        TlvType.ECDSA224: "ECDSA P-224",
        TlvType.ECDSA_SIG: "ECDSA P-384" if image.hash_type == TlvType.SHA384 else "ECDSA P-256",
        TlvType.ED25519: "Ed25519",
    }
    found = [TlvType(tlv.type) for tlv in image.tlvs if tlv.type in names]
    return f"{' and '.join(names[kind] for kind in found)} over {image.hash_type.name}"


def _pure(image: Image) -> bool:
    return any(tlv.type == TlvType.SIG_PURE and tlv.value == b"\x01" for tlv in image.tlvs)


def _signed_region(image: Image) -> bytes:
    """Header, body and protected TLVs."""
    return image.data[: image.header.tlv_offset + image.header.protect_tlv_size]


class _Signatures(NamedTuple):
    """The signatures that an image says are by the key, and the keys that it names otherwise (digests)."""

    own: tuple[bytes, ...]
    others: tuple[bytes, ...]


def _signatures(image: Image, key: PublicKey) -> _Signatures:
    """Walk the TLVs as bootutil does: a KEYHASH (or the whole key, PUBKEY) says whose the next signature is."""
    own: list[bytes] = []
    others: list[bytes] = []
    ours = False
    for tlv in image.tlvs:
        if tlv.type in (TlvType.KEYHASH, TlvType.PUBKEY):
            named = _named(tlv, image.hash_type)
            ours = named == key.digest(image.hash_type)
            if not ours:
                others.append(named)
        elif tlv.type == key.signature_tlv and ours:
            own.append(tlv.value)
    return _Signatures(tuple(own), tuple(others))


def _named(tlv: Tlv, hash_tlv: TlvType) -> bytes:
    """The digest of the key that a TLV names."""
    if tlv.type == TlvType.KEYHASH:
        return tlv.value
    digest = HASHES[hash_tlv]()
    digest.update(tlv.value)
    return digest.digest()


def _shown(digests: tuple[bytes, ...]) -> str:
    return " and ".join(f"{digest[:_SHOWN].hex() or 'nothing'}..." for digest in digests) or "no key (no KEYHASH)"
