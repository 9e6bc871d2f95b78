"""What MCUboot does with the images before it starts one: finish a swap, validate what waits, swap or copy it, revert.

This is context_boot_go up to the validation of the primary slots. Left out are what a build may have besides:
downgrade prevention, dependencies between images, encrypted images, swap using scratch (an image that waits goes on
waiting), and MCUBOOT_VERIFY_IMG_ADDRESS, which erases an image that was linked for another slot.

Source: MCUboot, boot/bootutil/src/loader.c (boot_prepare_image_for_update, boot_validated_swap_type,
boot_validate_slot, boot_swap_image, boot_perform_update, boot_complete_partial_swap). Where versions differ it is the
main branch of 2026: that an image is not valid is said before it is erased, not after that.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import NamedTuple

from pytest_nrfdfu.image.format import ERASED, MAGIC, ImageFlag, ImageHeader
from pytest_nrfdfu.sim.boot_log import BootLog
from pytest_nrfdfu.sim.firmware import Effect
from pytest_nrfdfu.sim.overwrite import overwrite
from pytest_nrfdfu.sim.pcd import PcdHooks
from pytest_nrfdfu.sim.slot_pair import BootPanic, Headers, SlotPair, SwapJob, SwapStatus
from pytest_nrfdfu.sim.slots import SlotArea
from pytest_nrfdfu.sim.swap_move import MoveSwap
from pytest_nrfdfu.sim.swap_offset import OffsetSwap
from pytest_nrfdfu.sim.swap_status import FRESH
from pytest_nrfdfu.sim.trailer import FieldState, SwapType, Trailers
from pytest_nrfdfu.sim.validate import Validator, image_size, read_header

__all__ = ["BootPanic", "Swapper"]

_ERASED_MAGIC = int.from_bytes(bytes([ERASED]) * 4, "little")
_WAITING = (SwapType.TEST, SwapType.PERMANENT)
_MOVING = (*_WAITING, SwapType.REVERT)
_Algorithm = MoveSwap | OffsetSwap


class _Prepared(NamedTuple):
    """What is to be done with one image."""

    swap_type: SwapType
    headers: Headers | None = None
    status: SwapStatus = SwapStatus()
    resumed: bool = False
    """A swap that was interrupted has been finished."""


_NOTHING = _Prepared(SwapType.NONE)


class Swapper:
    """Brings the slots of `images` images into the state that their trailers ask for."""

    def __init__(
        self,
        trailers: Trailers,
        validator: Validator,
        images: int,
        log: BootLog = BootLog(),  # noqa: B008 - frozen
        hooks: PcdHooks | None = None,
    ) -> None:
        self._trailers = trailers
        self._validator = validator
        self._images = images
        self._log = log
        self._hooks = hooks

    def run(self) -> Generator[Effect, None, None]:
        """All images. Raises BootPanic where MCUboot would stand still."""
        if self._trailers.swap == "scratch":
            return
        pairs = [self._pair(image) for image in range(self._images)]
        prepared: list[_Prepared] = []
        for pair in pairs:
            found = _NOTHING if pair is None else (yield from self._prepare(pair))
            if found.resumed or found.swap_type not in (SwapType.NONE, SwapType.REVERT):
                # boot_review_image_swap_types: an image that was swapped before a reset only seems to want back.
                prepared = [_NOTHING if one.swap_type is SwapType.REVERT else one for one in prepared]
            prepared.append(found)
        for pair, found in zip(pairs, prepared, strict=True):
            if pair is not None:
                yield from self._perform(pair, found)
        for pair, found in zip(pairs, prepared, strict=True):
            if pair is not None and found.swap_type is not SwapType.NONE:
                yield from self._headers(pair, None)

    def _pair(self, image: int) -> SlotPair | None:
        primary, secondary = (self._trailers.slots.find(image, slot) for slot in (0, 1))
        if primary is None or secondary is None:
            return None
        if primary.virtual and self._trailers.swap != "overwrite":
            return None  # what is in the network core's flash cannot come back
        return SlotPair(image, primary, secondary, self._trailers, self._log, self._hooks)

    def _algorithm(self, pair: SlotPair) -> _Algorithm | None:
        """None where images are overwritten."""
        if self._trailers.swap == "overwrite":
            return None
        return OffsetSwap(pair) if self._trailers.swap == "offset" else MoveSwap(pair)

    def _headers(self, pair: SlotPair, status: SwapStatus | None) -> Generator[Effect, None, Headers | None]:
        algorithm = self._algorithm(pair)
        if algorithm is None:
            return Headers(pair.header(pair.primary), pair.header(pair.secondary))
        return (yield from algorithm.headers(status))

    # Finding out what is to be done.

    def _prepare(self, pair: SlotPair) -> Generator[Effect, None, _Prepared]:
        """boot_prepare_image_for_update: go on with a swap that was interrupted, or find out which one is wanted."""
        headers = yield from self._headers(pair, None)
        algorithm = self._algorithm(pair)
        status = SwapStatus()
        if algorithm is not None:
            if not algorithm.compatible:
                yield from self._log.warning("Cannot upgrade: not a compatible amount of sectors")
                return _NOTHING
            status = yield from self._read_status(pair)
            headers = yield from algorithm.headers(status)
        if headers is None:
            yield from self._log.warning(f"Failed reading image headers; Image={pair.image}")
            return _NOTHING
        if algorithm is not None and status.progress != FRESH:
            yield from self._resume(pair, algorithm, headers, status)
            return _Prepared(SwapType.NONE, resumed=True)
        return _Prepared((yield from self._wanted(pair, headers, status)), headers, status)

    def _read_status(self, pair: SlotPair) -> Generator[Effect, None, SwapStatus]:
        """swap_read_status: the primary slot's trailer tells of a swap only while the secondary one's is not set."""
        primary, secondary = self._trailers.states(pair.image)
        yield from self._log.info(f"Primary image: {primary}")
        yield from self._log.info(f"Secondary image: {secondary}")
        begun = primary.magic is FieldState.SET and primary.copy_done is FieldState.UNSET
        if not begun or secondary.magic is FieldState.SET:
            yield from self._log.info("Boot source: none")
            return SwapStatus()
        yield from self._log.info("Boot source: primary slot")
        return SwapStatus(self._trailers.read_progress(pair.primary), primary.swap_type, from_primary=True)

    def _wanted(self, pair: SlotPair, headers: Headers, status: SwapStatus) -> Generator[Effect, None, SwapType]:
        """Which swap is to be done, if the secondary slot's image is valid."""
        if status.swap_type is not SwapType.NONE:
            valid = yield from self._check_secondary(pair, headers, status, SwapType.NONE)
            return status.swap_type if valid else SwapType.FAIL
        wanted = yield from pair.swap_type()
        if wanted in _MOVING and not (yield from self._check_secondary(pair, headers, status, wanted)):
            return SwapType.NONE
        return wanted

    def _check_secondary(
        self, pair: SlotPair, headers: Headers, status: SwapStatus, wanted: SwapType
    ) -> Generator[Effect, None, bool]:
        """boot_validate_slot for the secondary slot: what is not valid there is erased."""
        header, area = headers.secondary, pair.secondary
        if header.magic == _ERASED_MAGIC or ImageFlag.NON_BOOTABLE in header.flags:
            yield from self._forget_update(pair, status)
            return False
        misplaced = self._trailers.swap == "offset" and wanted in _WAITING and status.progress == FRESH
        misplaced = misplaced and read_header(pair.slots, area).magic == MAGIC
        if misplaced:
            yield from self._log.error("Secondary header magic detected in first sector, wrong upload address?")
        elif self._validator.bootable(area, header, headers.secondary_base):
            return True
        yield from self._log.error("Image in the secondary slot is not valid!")
        yield from pair.erase_slot(area)
        return False

    def _forget_update(self, pair: SlotPair, status: SwapStatus) -> Generator[Effect, None, None]:
        """A trailer without an image, as an erase that was cut off leaves it, would keep the slot from being used."""
        if self._trailers.swap == "overwrite":
            return
        yield from pair.erase_trailer(pair.secondary)
        if self._trailers.swap != "move":
            return
        if status.swap_type is SwapType.REVERT or (yield from pair.swap_type()) is SwapType.REVERT:
            yield from pair.erase_trailer(pair.primary)
            yield from self._log.info(f"Cleared image {pair.image} primary slot trailer due to stuck revert")

    # Doing it.

    def _perform(self, pair: SlotPair, prepared: _Prepared) -> Generator[Effect, None, None]:
        algorithm = self._algorithm(pair)
        if prepared.swap_type is SwapType.UNKNOWN:
            raise BootPanic("the interrupted swap is of no known type")
        if prepared.swap_type is SwapType.FAIL and algorithm is not None:
            # As if it had just been reverted, so that it is not tried again.
            yield from self._set_image_ok(pair)
        if prepared.swap_type not in _MOVING or prepared.headers is None:
            return
        if algorithm is None:
            yield from overwrite(pair, prepared.headers.secondary)
            return
        status = prepared.status if self._images == 1 else SwapStatus()
        sizes = (
            _size_of(pair, pair.primary, prepared.headers.primary, 0),
            _size_of(pair, pair.secondary, prepared.headers.secondary, prepared.headers.secondary_base),
        )
        whole, tlvs = max(size for size, _ in sizes), (sizes[0][1], sizes[1][1])
        yield from algorithm.run(SwapJob(prepared.swap_type, whole, prepared.headers, tlvs, status))
        yield from self._finish(pair, prepared.swap_type)

    def _resume(
        self, pair: SlotPair, algorithm: _Algorithm, headers: Headers, status: SwapStatus
    ) -> Generator[Effect, None, None]:
        """boot_complete_partial_swap."""
        size = self._trailers.read_swap_size(pair.primary)
        yield from algorithm.run(SwapJob(status.swap_type, size, headers, status=status))
        yield from self._finish(pair, status.swap_type)
        yield from algorithm.headers(None)

    def _finish(self, pair: SlotPair, swap_type: SwapType) -> Generator[Effect, None, None]:
        """The images have changed places: what was not just a test is confirmed."""
        if swap_type in (SwapType.PERMANENT, SwapType.REVERT):
            yield from self._set_image_ok(pair)
        if swap_type in _MOVING:
            yield self._trailers.write_copy_done(pair.primary)

    def _set_image_ok(self, pair: SlotPair) -> Generator[Effect, None, None]:
        if self._trailers.read(pair.primary).image_ok is FieldState.UNSET:
            yield self._trailers.write_image_ok(pair.primary)


def _size_of(pair: SlotPair, area: SlotArea, header: ImageHeader, base: int) -> tuple[int, int]:
    """Bytes of an image with its TLVs, and of the unprotected ones alone; nothing where there is no image."""
    if header.magic != MAGIC:
        return 0, 0
    found = image_size(pair.slots, area, header, base)
    if found is None:
        raise BootPanic(f"the image in {area.name} has no TLVs")
    return found
