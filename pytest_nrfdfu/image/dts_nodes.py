"""The nodes of a devicetree: properties by type, and addresses through the buses above.

Rules and defaults are those of the Devicetree Specification v0.4, chapter 2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

__all__ = ["Node", "Piece", "Reference", "Value"]


@dataclass(frozen=True, slots=True)
class Reference:
    """``&label`` or ``&{/path}``."""

    target: str
    """A label, or a path that begins with a slash."""


Piece = str | bytes | Reference | tuple[int | Reference, ...]
"""Part of a value: "text", [ bytes ], &reference, or < cells > as a tuple."""
Value = tuple[Piece, ...]
"""What a property holds. One that is only there holds nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One node, with what the readers of builds ask for."""

    name: str
    path: str
    labels: tuple[str, ...]
    parent: Node | None = field(repr=False)
    properties: Mapping[str, Value] = field(default_factory=dict, repr=False)
    children: Mapping[str, Node] = field(default_factory=dict, repr=False)

    @property
    def label(self) -> str:
        """The first label, or the path of a node without one."""
        return self.labels[0] if self.labels else self.path

    @property
    def okay(self) -> bool:
        """Enabled: a node without a status is."""
        return self.text("status") in {None, "okay", "ok"}

    @property
    def compatible(self) -> tuple[str, ...]:
        """The strings of ``compatible``, the most specific first."""
        return tuple(piece for piece in self.properties.get("compatible", ()) if isinstance(piece, str))

    def text(self, name: str) -> str | None:
        """A property's first string, if it has one."""
        return next((piece for piece in self.properties.get(name, ()) if isinstance(piece, str)), None)

    def cells(self, name: str) -> tuple[int | Reference, ...]:
        """All cells of a property, in their order; empty if it has none."""
        pieces = self.properties.get(name, ())
        return tuple(cell for piece in pieces if isinstance(piece, tuple) for cell in piece)

    def numbers(self, name: str) -> tuple[int, ...]:
        """As `cells`, but empty unless all of them are numbers."""
        cells = self.cells(name)
        numbers = tuple(cell for cell in cells if isinstance(cell, int))
        return numbers if len(numbers) == len(cells) else ()

    def number(self, name: str) -> int | None:
        """A property's first cell, if it is a number."""
        return next(iter(self.numbers(name)), None)

    def octets(self, name: str) -> bytes:
        """The bytes of a property in square brackets; empty if there are none."""
        return b"".join(piece for piece in self.properties.get(name, ()) if isinstance(piece, bytes))

    @property
    def reg(self) -> tuple[int, int] | None:
        """Address and size of the first entry of ``reg``, in the parent's address space; None without one."""
        widths = _cell_counts(self.parent)
        numbers = self.numbers("reg")
        if not numbers or len(numbers) < sum(widths):
            return None
        return _join(numbers[: widths[0]]), _join(numbers[widths[0] : sum(widths)])

    @property
    def address(self) -> int | None:
        """The address in the CPU's space: that of ``reg``, through the ``ranges`` of the parents that have them."""
        reg = self.reg
        if reg is None:
            return None
        address = reg[0]
        bus = self.parent
        while bus is not None and "ranges" in bus.properties:
            address = _translate(bus, address)
            bus = bus.parent
        return address

    def up(self) -> Iterator[Node]:
        """The node and its parents, to the root."""
        node: Node | None = self
        while node is not None:
            yield node
            node = node.parent


def _cell_counts(parent: Node | None) -> tuple[int, int]:
    """``#address-cells`` and ``#size-cells`` for a parent's children (defaults: specification, 2.3.5)."""
    if parent is None:
        return 2, 1
    address, size = parent.number("#address-cells"), parent.number("#size-cells")
    # More than four cells are in no use; without the bound a file could ask for slices without end.
    return min(4, 2 if address is None else address), min(4, 1 if size is None else size)


def _join(cells: tuple[int, ...]) -> int:
    value = 0
    for cell in cells:
        value = value << 32 | cell
    return value


def _translate(bus: Node, address: int) -> int:
    """From the address space of a bus's children into its own (specification, 2.3.8)."""
    child, size = _cell_counts(bus)
    own, _ = _cell_counts(bus.parent)
    numbers = bus.numbers("ranges")
    step = child + own + size
    for at in range(0, len(numbers) - step + 1, step) if step else ():
        start = _join(numbers[at : at + child])
        length = _join(numbers[at + child + own : at + step])
        if start <= address < start + length:
            return address - start + _join(numbers[at + child : at + child + own])
    return address
