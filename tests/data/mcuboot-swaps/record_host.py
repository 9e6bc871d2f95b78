"""Records what MCUboot's own bootutil makes of its slots; record_host.sh compiles it and calls this.

python record_host.py FOLDER_WITH_THE_LIBRARIES OUT
"""

import ctypes
import gzip
import json
import sys
from pathlib import Path

_TESTS = Path(__file__).parents[2]
sys.path.insert(0, str(_TESTS))

from swap_cases import LAYOUTS, PAGE, Boot, Layout, cases, rows_of

ENDED = ("booted", "nothing boots", "cut off", "panic")
NOT_CUT = -1


class Host:
    """A chip whose MCUboot is the library at `path`."""

    def __init__(self, path: Path, layout: Layout) -> None:
        self._library = ctypes.CDLL(str(path))
        self._library.host_slot.restype = ctypes.POINTER(ctypes.c_ubyte)
        self._library.host_log.restype = ctypes.c_char_p
        self._library.host_rewritten.restype = ctypes.c_long
        self._library.host_boot.argtypes = [ctypes.c_long]
        self._sizes = layout.primary * PAGE, layout.secondary * PAGE

    @property
    def rewritten(self) -> int:
        """Bytes written without having been erased."""
        return self._library.host_rewritten()

    def load(self, old: bytes, new: bytes, base: int) -> None:
        self._library.host_setup(*self._sizes)
        for number, data in enumerate((old, b"\xff" * base + new)):
            ctypes.memmove(self._library.host_slot(number), data, len(data))

    def boot(self, cut: int | None = None) -> Boot:
        ended = self._library.host_boot(NOT_CUT if cut is None else cut)
        lines = self._library.host_log().decode().splitlines()
        return Boot(ENDED[ended], [line for line in lines if line != "E: panic!"])

    def mark(self, *, permanent: bool) -> int:
        return self._library.host_mark(permanent)

    def confirm(self) -> int:
        return self._library.host_confirm()

    def erase(self, slot: int, page: int) -> None:
        ctypes.memset(ctypes.byref(self._library.host_slot(slot).contents, page * PAGE), 0xFF, PAGE)

    def clear(self, slot: int, offset: int) -> None:
        ctypes.memset(ctypes.byref(self._library.host_slot(slot).contents, offset), 0, 4)

    def slot(self, number: int) -> bytes:
        return ctypes.string_at(self._library.host_slot(number), self._sizes[number])


def main() -> None:
    libraries, out = map(Path, sys.argv[1:])
    for name, layout in LAYOUTS.items():
        host = Host(libraries / f"{name}.so", layout)
        rows = [{"case": case, **row} for case in cases(layout) for row in rows_of(host, layout, case)]
        head = {**layout._asdict(), "page": PAGE, "rewritten": host.rewritten}
        lines = "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in [head, *rows])
        with (out / f"{name}.jsonl.gz").open("wb") as raw, gzip.GzipFile("", "wb", mtime=0, fileobj=raw) as file:
            file.write(lines.encode())


if __name__ == "__main__":
    main()
