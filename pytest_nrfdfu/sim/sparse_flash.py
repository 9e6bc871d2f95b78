"""Flash with neither time nor a chip around it, of which only the pages exist that are not erased."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_nrfdfu.sim.slots import SlotArea

__all__ = ["SparseFlash"]

_ERASED = 0xFF


class SparseFlash:
    """Flash of which only the pages exist that are not erased. Satisfies the bootloader's `Hardware`."""

    def __init__(self, page_size: int) -> None:
        self._page_size = page_size
        self._erased_page = bytes([_ERASED]) * page_size
        self._pages: dict[int, bytes] = {}
        self.touched: set[int] = set()
        """Numbers of the pages that were written or erased since they were filled."""
        self.gpregret = [0, 0]

    resetreas = 0
    recovery_pin_low = False

    def clear_resetreas(self, mask: int) -> None:
        """There are no reset causes here."""

    def _page(self, number: int) -> bytes:
        return self._pages.get(number, self._erased_page)

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes from `address` on."""
        first, offset = divmod(address, self._page_size)
        last = (address + max(size, 1) - 1) // self._page_size
        data = b"".join(map(self._page, range(first, last + 1))) if last > first else self._page(first)
        return data[offset : offset + size]

    def fill(self, address: int, data: bytes) -> None:
        """Program without being noticed."""
        while data:
            number, offset = divmod(address, self._page_size)
            piece = data[: self._page_size - offset]
            page = bytearray(self._page(number))
            old = int.from_bytes(page[offset : offset + len(piece)], "big")
            new = old & int.from_bytes(piece, "big")
            page[offset : offset + len(piece)] = new.to_bytes(len(piece), "big")
            self._pages[number] = bytes(page)
            address += len(piece)
            data = data[len(piece) :]

    def write(self, address: int, data: bytes) -> None:
        """Program: bits go from 1 to 0 only."""
        self.touched.update(range(address // self._page_size, (address + len(data) - 1) // self._page_size + 1))
        self.fill(address, data)

    def write_ram(self, address: int, data: bytes) -> None:
        """Overwrite, as RAM can be; `data` lies in one page."""
        number, offset = divmod(address, self._page_size)
        page = bytearray(self._page(number))
        page[offset : offset + len(data)] = data
        self._pages[number] = bytes(page)

    def erase(self, address: int) -> None:
        """Erase the page at `address`."""
        number = address // self._page_size
        self._pages.pop(number, None)
        self.touched.add(number)

    def pages(self, area: SlotArea) -> Iterator[bytes]:
        """The pages of a slot."""
        return map(self._page, self.page_numbers(area))

    def page_numbers(self, area: SlotArea) -> range:
        """The numbers of the pages of a slot."""
        return range(area.address // self._page_size, (area.address + area.size) // self._page_size)
