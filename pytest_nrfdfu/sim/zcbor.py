"""CBOR as the zcbor library reads and writes it in MCUboot, with its limits and its leniency.

Decoding: 32-bit lengths and counts, one level of backup, no checks of what is skipped beyond its own length.
Encoding: into a buffer of fixed size; what does not fit is left out, and encoding goes on. Maps and lists have
indefinite length (ZCBOR_CANONICAL is off).

Source: zcbor 0.8.1, src/zcbor_decode.c and zcbor_encode.c, as in MCUboot's boot/zcbor; MCUboot,
boot/boot_serial/src/zcbor_bulk.c.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

__all__ = ["CborError", "Reader", "Writer", "decode_map"]

_UINT, _NEGATIVE, _BYTES, _TEXT, _LIST, _MAP, _TAG, _SIMPLE = range(8)
_ONE_BYTE, _EIGHT_BYTES, _INDEFINITE = 24, 27, 31
_BREAK = 0xFF
_FALSE, _TRUE = 20, 21
_WORD = 4
"""sizeof(size_t) on the nRF5340."""
_WORD_RANGE = 1 << 8 * _WORD
_LARGE_COUNT = 0xFFFFFFFF - 15
"""ZCBOR_LARGE_ELEM_COUNT: what an indefinite container may hold."""
_MAX_COUNT = 0xFFFFFFFF - 16


class CborError(Exception):
    """zcbor refuses."""


class Reader:
    """Decodes one payload. `elements` is how many more values the current container may give."""

    def __init__(self, payload: bytes, *, elements: int = 1) -> None:
        self._payload = payload
        self._at = 0
        self._elements = elements
        self._indefinite = False
        self._outer: list[tuple[int, bool]] = []

    def _initial(self) -> int:
        if self._at >= len(self._payload):
            raise CborError("the payload is at its end")
        return self._payload[self._at]

    def _argument(self, size: int) -> int:
        """Take a head, and return its argument, which may have `size` bytes at most."""
        additional = self._initial() & 0x1F
        length = 0 if additional < _ONE_BYTE else 1 << (additional - _ONE_BYTE)
        if additional > _EIGHT_BYTES or length > size:
            raise CborError("bad length of an integer")
        start = self._at + 1
        if start + length > len(self._payload):
            raise CborError("the payload is at its end")
        self._at = start + length
        return int.from_bytes(self._payload[start : start + length], "big") if length else additional

    def _extract(self, size: int, major: int) -> int:
        """Take the head of a value of type `major` as an element of the current container."""
        if self._initial() >> 5 != major:
            raise CborError("wrong type")
        if self._elements == 0:
            raise CborError("no more elements in this container")
        value = self._argument(size)
        self._elements -= 1
        return value

    def uint32(self) -> int:
        """An unsigned integer of at most four bytes (zcbor_uint32_decode, zcbor_size_decode)."""
        return self._extract(_WORD, _UINT)

    def boolean(self) -> bool:
        """`true` or `false` (zcbor_bool_decode), in one byte or, against RFC 8949, in two."""
        value = self._extract(1, _SIMPLE)
        if value not in (_FALSE, _TRUE):
            raise CborError("not a boolean")
        return value == _TRUE

    def byte_string(self) -> bytes:
        """A byte string of definite length."""
        return self._string(_BYTES)

    def text(self) -> bytes:
        """A text string of definite length, as bytes: zcbor does not look at its encoding."""
        return self._string(_TEXT)

    def _string(self, major: int) -> bytes:
        at, elements = self._at, self._elements
        length = self._extract(_WORD, major)
        if length > len(self._payload) - self._at:
            self._at, self._elements = at, elements
            raise CborError("a string is longer than the payload")
        value = self._payload[self._at : self._at + length]
        self._at += length
        return value

    def map_start(self) -> None:
        """Enter a map."""
        initial = self._initial()
        if initial == _MAP << 5 | _INDEFINITE and self._elements:
            self._at += 1
            self._elements -= 1
            count, indefinite = _LARGE_COUNT, True
        else:
            count, indefinite = self._extract(_WORD, _MAP) * 2, False
            if count >= _MAX_COUNT:
                raise CborError("too many elements")
        self._outer.append((self._elements, self._indefinite))
        self._elements, self._indefinite = count, indefinite

    def map_end(self) -> None:
        """Leave the map; everything in it must have been read."""
        left, indefinite = self._elements, self._indefinite
        self._elements, self._indefinite = self._outer.pop()
        if indefinite:
            if self._initial() != _BREAK:
                raise CborError("the map is not at its end")
            self._at += 1
        elif left:
            raise CborError("elements are left in the map")

    def skip(self) -> None:
        """Skip one value of any type with all that it holds (zcbor_any_skip)."""
        if self._elements == 0:
            raise CborError("no more elements in this container")
        start = self._at
        try:
            self._skip_nested()
        except CborError:
            self._at = start
            raise
        self._elements -= 1

    def _skip_nested(self) -> None:
        """Skip without recursion: a payload may nest a list in each of its thousand bytes."""
        left: list[int | None] = [1]  # what each open container still holds; None until a break comes
        while left:
            count = left[-1]
            if count is None and self._at < len(self._payload) and self._payload[self._at] == _BREAK:
                self._at += 1
                left.pop()
            elif count == 0:
                left.pop()
            else:
                if count is not None:
                    left[-1] = count - 1
                self._skip_head(left)

    def _skip_head(self, left: list[int | None]) -> None:
        """Skip one head with its tags, and the string behind it; a container is added to `left`."""
        while self._initial() >> 5 == _TAG:
            self._argument(_WORD)
        initial = self._initial()
        major = initial >> 5
        if major in (_LIST, _MAP) and initial & 0x1F == _INDEFINITE:
            self._at += 1
            left.append(None)
            return
        value = self._argument(8)
        if major in (_BYTES, _TEXT):
            if value > len(self._payload) - self._at:
                raise CborError("a string is longer than the payload")
            self._at += value
        elif major == _MAP:
            if value >= _WORD_RANGE // 2:
                raise CborError("too many elements")
            left.append(value * 2)
        elif major == _LIST:
            left.append(value % _WORD_RANGE)


def decode_map(payload: bytes, keys: Mapping[bytes, Callable[[Reader], object]]) -> dict[bytes, object]:
    """Read a map by its keys (zcbor_map_decode_bulk): CborError for anything but text keys, and for repeated keys.

    Keys that are not in `keys` are skipped with their values. Bytes behind the map do not matter.
    """
    reader = Reader(payload)
    reader.map_start()
    found: dict[bytes, object] = {}
    while True:
        try:
            key = reader.text()
        except CborError:
            break
        if key in found:
            raise CborError(f"key {key!r} comes twice")
        if key in keys:
            found[key] = keys[key](reader)
            continue
        try:
            reader.skip()
        except CborError:
            break
    reader.map_end()
    return found


class Writer:
    """Encodes into `capacity` bytes. Each method says whether its value fitted; if not, nothing was written."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._data = bytearray()

    @property
    def data(self) -> bytes:
        """What was encoded so far."""
        return bytes(self._data)

    def clear(self) -> None:
        """Start again (reset_cbor_state)."""
        self._data.clear()

    def _put(self, piece: bytes) -> bool:
        if len(self._data) + len(piece) > self._capacity:
            return False
        self._data += piece
        return True

    @staticmethod
    def _head(major: int, value: int) -> bytes:
        if value < _ONE_BYTE:
            return bytes([major << 5 | value])
        exponent = next(e for e in range(4) if value < 1 << (8 << e))
        return bytes([major << 5 | _ONE_BYTE + exponent]) + value.to_bytes(1 << exponent, "big")

    def map_start(self) -> bool:
        """Begin a map of indefinite length."""
        return self._put(bytes([_MAP << 5 | _INDEFINITE]))

    def list_start(self) -> bool:
        """Begin a list of indefinite length."""
        return self._put(bytes([_LIST << 5 | _INDEFINITE]))

    def end(self) -> bool:
        """End the map or list."""
        return self._put(bytes([_BREAK]))

    def text(self, value: bytes) -> bool:
        """A text string, or a key."""
        return self._put(self._head(_TEXT, len(value)) + value)

    def byte_string(self, value: bytes) -> bool:
        """A byte string."""
        return self._put(self._head(_BYTES, len(value)) + value)

    def integer(self, value: int) -> bool:
        """An integer of at most 64 bits."""
        return self._put(self._head(_UINT, value) if value >= 0 else self._head(_NEGATIVE, -1 - value))

    def boolean(self, value: bool) -> bool:  # noqa: FBT001 - the value itself
        """`true` or `false`."""
        return self._put(self._head(_SIMPLE, _TRUE if value else _FALSE))
