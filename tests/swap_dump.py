"""What is in two slots, small enough to keep: whose pages lie where, and the bytes of the trailers.

Without other numbers the geometry is that of the emulated nRF51 in tests/data/mcuboot-swaps, with swap using offset.
"""

PAGE, SLOT_SIZE, WRITE_BLOCK, MAX_ALIGN = 0x400, 0x1A000, 4, 8
SLOTS = (0x8000, 0x22000)
PAGES = SLOT_SIZE // PAGE
HEADER = 0x200
MAGIC_AT, OK_AT, DONE_AT, INFO_AT, SIZE_AT = (SLOT_SIZE - back for back in (16, 24, 32, 40, 56))
STATUS_AT = SIZE_AT - PAGES * 2 * WRITE_BLOCK
"""Of the swap status: below magic and five fields, two notes for each page."""
ERASED = b"\xff"

Known = dict[bytes, tuple[str, int]]


def numbered(old: bytes, new: bytes, page: int = PAGE) -> Known:
    """Whose page it is and which, by content; an end that is not a whole page is filled up with what is erased."""
    return {
        image[at : at + page].ljust(page, ERASED): (name, at // page)
        for name, image in (("new", new), ("old", old))
        for at in range(0, len(image), page)
    }


def pages_of(content: bytes, known: Known, size: int = PAGE, status_at: int = STATUS_AT) -> list[list]:
    """[first page, whose, its number there, how many in a row], without what is erased and without the trailer."""
    rows: list[list] = []
    for page in range(status_at // size):
        piece = content[page * size : (page + 1) * size]
        if piece == ERASED * size:
            continue
        whose, number = known.get(piece, ("?", 0))
        if rows and rows[-1][1] == whose and [rows[-1][0] + rows[-1][3], rows[-1][2] + rows[-1][3]] == [page, number]:
            rows[-1][3] += 1
        else:
            rows.append([page, whose, number, 1])
    return rows


def trailer_of(content: bytes, start: int = STATUS_AT - STATUS_AT % PAGE) -> list[list]:
    """[offset, hex] of what is not erased from the page on in which the trailer begins."""
    rows, at = [], start
    while at < len(content):
        start = at
        while at < len(content) and content[at : at + 1] != ERASED:
            at += 1
        if at > start:
            rows.append([start, content[start:at].hex()])
        at += 1
    return rows
