"""Swap using offset: the new image lies one page further up in the secondary slot, so pages change places at once.

Page k of the old image goes to page k of the secondary slot, then page k + 1 of that to page k of the primary one. A
revert does the opposite from the end on. The order of the effects, and where MCUboot looks for the images' headers
after each of them, are those of its boot/bootutil/src/swap_offset.c.

So are three traps: a reset while the last page is swapped to an image smaller by two pages or more leaves nothing that
could be reverted to, one while the only page of an image of one page is written leaves nothing to boot, and the image
that was replaced, when it is marked again, lies where MCUboot takes it for an upload to the wrong place and erases it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import NamedTuple

from pytest_nrfdfu.image.format import MAGIC, ImageHeader
from pytest_nrfdfu.sim.firmware import Effect
from pytest_nrfdfu.sim.slot_pair import Headers, SlotPair, SwapJob, SwapStatus
from pytest_nrfdfu.sim.slots import SlotArea
from pytest_nrfdfu.sim.swap_status import FRESH, Half, Op, Progress
from pytest_nrfdfu.sim.trailer import FieldState, SwapType

__all__ = ["OffsetSwap"]


class _Step(NamedTuple):
    """What becomes of one page of each image. Places are a slot and a page's number."""

    keep: tuple[tuple[SlotArea, int], tuple[SlotArea, int]] | None
    """The primary slot's page, and where it goes; None beyond the end of its image."""
    take: tuple[tuple[SlotArea, int], tuple[SlotArea, int]] | None
    """The page that comes to the primary slot, and where it goes; None beyond the end of its image."""


class OffsetSwap(NamedTuple):
    """The algorithm, for one image's slots."""

    pair: SlotPair

    @property
    def compatible(self) -> bool:
        """Slots of the same size, or a secondary slot larger by the page that it needs."""
        pair = self.pair
        primary, secondary = pair.primary.size // pair.page, pair.secondary.size // pair.page
        return secondary in (primary, primary + 1) and primary <= pair.slots.geometry.max_sectors

    # Where headers are.

    def headers(self, status: SwapStatus | None) -> Generator[Effect, None, Headers | None]:
        """boot_read_image_headers: both headers where `status` says that they are; None where one is not there.

        Without a status, or at the beginning, the secondary slot's header is looked for in its other place as well.
        """
        pair = self.pair
        if status is not None and status.progress != FRESH:
            return (yield from self._headers_amid(status))
        if status is not None and status.swap_type is not SwapType.REVERT:
            yield from pair.swap_type()  # for the primary slot, where it makes no difference
        primary = pair.header(pair.primary)
        if status is not None and primary.magic != MAGIC:
            return None
        secondary, base = yield from self._secondary_header(status)
        return Headers(primary, secondary, base)

    def _secondary_header(self, status: SwapStatus | None) -> Generator[Effect, None, tuple[ImageHeader, int]]:
        pair = self.pair
        reverts = status is not None and status.swap_type is SwapType.REVERT
        base = 0 if reverts or (yield from pair.swap_type()) is SwapType.REVERT else pair.page
        header = pair.header(pair.secondary, base)
        if header.magic != MAGIC:
            base = pair.page if (yield from pair.swap_type()) is SwapType.REVERT else 0
            header = pair.header(pair.secondary, base)
        return header, base

    def _headers_amid(self, status: SwapStatus) -> Generator[Effect, None, Headers | None]:
        """Both headers in the middle of a swap. The offset counts for validation only, of which there is none then."""
        pair = self.pair
        last = pair.pages_of(pair.trailers.read_swap_size(pair.primary)) - 1
        backwards = yield from self._reverts(status.swap_type)
        primary = pair.header(*self._primary_spot(status.progress, last, backwards=backwards))
        if primary.magic != MAGIC:
            return None
        backwards = yield from self._reverts(status.swap_type)
        secondary = pair.header(*self._secondary_spot(status.progress, last, backwards=backwards))
        return Headers(primary, secondary) if secondary.magic == MAGIC else None

    def _primary_spot(self, progress: Progress, last: int, *, backwards: bool) -> tuple[SlotArea, int]:
        """Slot and offset where the header is looked for of the image that was in the primary slot.

        While the last page is swapped forth, MCUboot takes the new image's header, in the primary slot by then, for the
        old one's. Its magic is right, its size is not (see `run`); of an image of one page only, it may not be there.
        """
        pair, done = self.pair, progress.idx - 1
        home, other, further_up = (pair.primary, 0), (pair.secondary, 0), (pair.secondary, pair.page)
        if backwards:
            return further_up if done > last or (done == last and progress.state == Half.SECOND) else home
        begun = progress.idx > 1 or progress.state == Half.SECOND
        return other if begun and progress.idx <= last else home

    def _secondary_spot(self, progress: Progress, last: int, *, backwards: bool) -> tuple[SlotArea, int]:
        """Slot and offset of the header of the image that was in the secondary slot."""
        pair = self.pair
        home, other, further_up = (pair.primary, 0), (pair.secondary, 0), (pair.secondary, pair.page)
        if backwards:
            return home if progress.idx - 1 > last else other
        return home if progress.idx > 1 else further_up

    def _reverts(self, swap_type: SwapType) -> Generator[Effect, None, bool]:
        return swap_type is SwapType.REVERT or (yield from self.pair.swap_type()) is SwapType.REVERT

    # What is done.

    def run(self, job: SwapJob) -> Generator[Effect, None, None]:
        """swap_run: what is left of the swap, from the step on that the job's status says."""
        pair, progress = self.pair, job.status.progress
        yield from pair.console.info("Starting swap using offset algorithm.")
        count = pair.pages_of(job.size)
        if progress == FRESH and count - 1 >= pair.room():
            yield from pair.no_room(count)
            return
        yield from self._mark_revert(job)
        if progress.idx == 1:
            if not job.status.from_primary:
                yield from pair.erase_trailer(pair.primary)
                yield from pair.begin_trailer(pair.primary, job)
            yield from pair.erase_trailer(pair.secondary)
        backwards = yield from self._reverts(job.swap_type)
        used = self._used_pages(job)
        for index in range(progress.idx, count + 1):
            state = progress.state if index == progress.idx else Half.FIRST
            step = self._back(count - index, used) if backwards else self._forth(index - 1, used)
            yield from self._swap_page(step, index, state)
        if backwards:
            # What is left there would be taken for a header, and the trailer for an update that waits.
            yield from pair.erase(pair.secondary, 0)
            yield from pair.erase_trailer(pair.secondary)

    def _mark_revert(self, job: SwapJob) -> Iterator[Effect]:
        """Let the secondary slot say that a revert is under way until the primary one does (fixup_revert)."""
        pair, trailers = self.pair, self.pair.trailers
        if job.swap_type is not SwapType.REVERT or job.status.progress.idx != 1:
            return
        state = trailers.read(pair.secondary)
        yield from pair.console.info(f"Secondary image: {state}")
        if state.magic is FieldState.UNSET:
            yield from pair.erase_trailer(pair.secondary)
            yield trailers.write_copy_done(pair.secondary)
            yield from pair.begin_trailer(pair.secondary, job)

    def _used_pages(self, job: SwapJob) -> tuple[int, int]:
        """How many pages the primary slot's image and the secondary one's have; one page beyond is swapped as well.

        The unprotected TLVs' sizes are read back, because in the middle of a swap they cannot be found.
        """
        pair = self.pair
        sizes = (
            header.tlv_offset + header.protect_tlv_size + tlvs
            for header, tlvs in zip(job.headers[:2], pair.trailers.read_tlv_sizes(pair.primary), strict=True)
        )
        primary, secondary = (-(-size // pair.page) for size in sizes)
        return primary, secondary

    def _forth(self, page: int, used: tuple[int, int]) -> _Step:
        pair = self.pair
        here, there = (pair.primary, page), (pair.secondary, page)
        return _Step(
            keep=(here, there) if page <= used[0] else None,
            take=((pair.secondary, page + 1), here) if page <= used[1] else None,
        )

    def _back(self, page: int, used: tuple[int, int]) -> _Step:
        pair = self.pair
        here, there = (pair.primary, page), (pair.secondary, page)
        return _Step(
            keep=(here, (pair.secondary, page + 1)) if page <= used[0] else None,
            take=(there, here) if page <= used[1] else None,
        )

    def _swap_page(self, step: _Step, index: int, state: int) -> Iterator[Effect]:
        pair = self.pair
        if state == Half.FIRST:
            if step.keep is not None:
                yield from pair.replace(*step.keep)
            yield from pair.note(Progress(Op.SWAP, index, Half.FIRST))
        if step.take is not None:
            yield from pair.replace(*step.take)
        yield from pair.note(Progress(Op.SWAP, index, Half.SECOND))
