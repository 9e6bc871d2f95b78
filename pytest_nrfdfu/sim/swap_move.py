"""Swap using move: the primary slot's image moves up by one page, then the pages of both slots change places.

Page k of the old image so waits in page k + 1 of the primary slot until the new image's page k has taken its place. The
order of the effects, and where the images' headers are after each of them, are those of MCUboot's
boot/bootutil/src/swap_move.c, and what they leave in flash was compared with MCUboot's own code, compiled for a PC: no
reset between two of them loses an image, neither in a swap nor while it is reverted.

A swap for which the primary slot has not the room is begun anew at every boot: nothing takes the mark away, and each
time copy_done is written again (boot_perform_update).
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import NamedTuple

from pytest_nrfdfu.image.format import MAGIC
from pytest_nrfdfu.sim.firmware import Effect
from pytest_nrfdfu.sim.slot_pair import Headers, SlotPair, SwapJob, SwapStatus
from pytest_nrfdfu.sim.slots import SlotArea
from pytest_nrfdfu.sim.swap_status import FRESH, Half, Op, Progress
from pytest_nrfdfu.sim.trailer import FieldState, SwapType

__all__ = ["MoveSwap"]


class MoveSwap(NamedTuple):
    """The algorithm, for one image's slots."""

    pair: SlotPair

    @property
    def compatible(self) -> bool:
        """Slots of the same size, or a primary slot with room for the page more that it needs."""
        pair = self.pair
        primary, secondary = pair.primary.size // pair.page, pair.secondary.size // pair.page
        fits = primary in (secondary, secondary + 1) or pair.room() == secondary + 1
        return fits and primary <= pair.slots.geometry.max_sectors

    def headers(self, status: SwapStatus | None) -> Generator[Effect, None, Headers | None]:
        """boot_read_image_headers: both headers where `status` says that they are; None where one is not there.

        Without a status they are read where they belong, whatever is there.
        """
        yield from ()
        pair = self.pair
        if status is None:
            return Headers(pair.header(pair.primary), pair.header(pair.secondary))
        primary, secondary = (pair.header(*spot) for spot in self._spots(status.progress))
        if primary.magic != MAGIC or (status.progress != FRESH and secondary.magic != MAGIC):
            return None
        return Headers(primary, secondary)

    def _spots(self, progress: Progress) -> tuple[tuple[SlotArea, int], tuple[SlotArea, int]]:
        """Slot and offset of the primary slot's image and of the secondary one's."""
        pair = self.pair
        home, other, moved_up = (pair.primary, 0), (pair.secondary, 0), (pair.primary, pair.page)
        if progress == FRESH:
            return home, other
        last = pair.pages_of(pair.trailers.read_swap_size(pair.primary))
        if progress.op is Op.MOVE:
            return (moved_up if progress.idx > last else home), other
        if progress.idx == 1:
            return moved_up, (home if progress.state == Half.SECOND else other)
        return (other, home) if progress.idx <= last else (home, other)

    def run(self, job: SwapJob) -> Generator[Effect, None, None]:
        """swap_run: what is left of the swap, from the step on that the job's status says."""
        pair, status = self.pair, job.status
        yield from pair.console.info("Starting swap using move algorithm.")
        last = pair.pages_of(job.size)
        if status.progress == FRESH and last >= pair.room():
            yield from pair.no_room(last + 1)
            return
        yield from self._mark_revert(job)
        first = 1
        if status.progress.op is Op.MOVE:
            for index in range(status.progress.idx, last + 1):
                yield from self._move_up(job, index, last - index)
        else:
            first = status.progress.idx
            if status.progress.state == Half.SECOND and first <= last:
                yield from self._give(first)
                first += 1
        for index in range(first, last + 1):
            yield from self._take(index)
            yield from self._give(index)

    def _mark_revert(self, job: SwapJob) -> Iterator[Effect]:
        """Let a revert look like a permanent swap until it is noted as begun, so that it can be resumed.

        This is fixup_revert: while the primary slot's trailer is made anew nothing else would tell of it.
        """
        pair, trailers = self.pair, self.pair.trailers
        progress = job.status.progress
        if job.swap_type is not SwapType.REVERT or progress.op is not Op.MOVE or progress.idx != 1:
            return
        state = trailers.read(pair.secondary)
        yield from pair.console.info(f"Secondary image: {state}")
        if state.magic is not FieldState.UNSET:
            return
        yield from pair.erase_trailer(pair.secondary)
        yield trailers.write_image_ok(pair.secondary)
        yield trailers.write_swap_size(pair.secondary, job.size)
        yield trailers.write_magic(pair.secondary)

    def _move_up(self, job: SwapJob, index: int, page: int) -> Iterator[Effect]:
        """Copy a page of the primary slot to the next one: the last page of the image comes first."""
        pair = self.pair
        if index == 1:
            if not job.status.from_primary:
                yield from pair.erase_trailer(pair.primary)
                yield from pair.begin_trailer(pair.primary, job)
            yield from pair.erase_trailer(pair.secondary)
        yield from pair.replace((pair.primary, page), (pair.primary, page + 1))
        yield from pair.note(Progress(Op.MOVE, index, Half.FIRST))

    def _take(self, index: int) -> Iterator[Effect]:
        """The new image's page goes to the primary slot."""
        pair = self.pair
        yield from pair.replace((pair.secondary, index - 1), (pair.primary, index - 1))
        yield from pair.note(Progress(Op.SWAP, index, Half.FIRST))

    def _give(self, index: int) -> Iterator[Effect]:
        """The old image's page, moved up before, goes to the secondary slot."""
        pair = self.pair
        yield from pair.replace((pair.primary, index), (pair.secondary, index - 1))
        yield from pair.note(Progress(Op.SWAP, index, Half.SECOND))
