"""A board in serial recovery, as tests hold it: upload an image, and prove it by the image list.

The only proof of an update is the hash in the image list, read from the board: MCUboot answers rc 0 to a corrupted
upload as well.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from pytest_nrfdfu.board.client import Progress, SmpClient
from pytest_nrfdfu.board.limits import findings
from pytest_nrfdfu.board.plan import Step, check_way_back, is_network_core, step_for
from pytest_nrfdfu.board.unit import Unfinished, Unit, UploadApart
from pytest_nrfdfu.errors import HashMismatch, SmpRejected, SmpTimeout
from pytest_nrfdfu.image.build import APP, NET
from pytest_nrfdfu.image.mcuboot import Image, Version
from pytest_nrfdfu.smp.messages import ImageStates, SlotInfoRequest
from pytest_nrfdfu.smp.upload import Upload

if TYPE_CHECKING:
    from pytest_nrfdfu.board.recovery import Entered

__all__ = ["HASH_SHOWN", "PROVED", "UNSEEN", "Proof", "Recovery"]

PROVED = "image list"
UNSEEN = "the bootloader's list cannot show the network core"
HASH_SHOWN = 12
"""Digits of a hash shown to people."""
_COPY_DELAY = 3.0
"""Seconds that the answer to the last chunk of a network core's image may take: MCUboot waits for the copy to begin
(sdk-nrf, modules/mcuboot/hooks/nrf53_hooks.c: about one second)."""
_NOT_TAKEN = (
    "MCUboot lists only images that it would boot: check that this one is signed with the bootloader's key and type"
)
_REPLACED = "Something else was uploaded, or swapped in from the secondary slot"
_NOT_SENT = "Neither recovery.upload nor dfu.update has sent it since recovery was entered"
_EMPTY = "; slot 0 is empty, or holds what MCUboot would not boot"
"""What to look at where an image is not listed."""


class Proof(NamedTuple):
    """Whether the board was shown to hold an image, how or why not, and the hash that was read from it."""

    verified: bool
    proof: str
    hash: bytes | None


class Recovery:
    """A board in serial recovery."""

    def __init__(self, unit: Unit, entered: Entered) -> None:
        self.unit = unit
        self.entered = entered
        self._session = unit.session
        self._sent: set[bytes] = set()
        """Hashes of images that were uploaded whole."""

    @property
    def smp(self) -> SmpClient:
        """For requests of one's own."""
        return self.unit.client

    def images(self) -> ImageStates:
        """The bootloader's image list. It leaves out slots that hold no valid image."""
        return self.unit.client.images()

    def upload(self, image: Image, *, progress: Progress | None = None) -> Upload:
        """Upload an image into its slot; UploadFailed if the board does not take all of it.

        An upload of the same image that was broken off in this session is taken up where the board has it: the result's
        `resumed` tells. `progress` is called with acknowledged and total bytes. A network core's image goes to the
        network core; ImageError, before anything is sent, if nobody tells by which number.
        """
        name = NET if is_network_core(image) else APP
        step = step_for(name, image, self.unit.config, self.unit.profile)
        upload = self.send(step, progress=progress)
        self.unit.uploads_apart.append(UploadApart(step, upload))
        return upload

    def send(self, step: Step, *, progress: Progress | None = None) -> Upload:
        """Upload one step of a plan; see `upload`. ConfigError, before anything is sent, without a way back."""
        unit, image = self.unit, step.image
        check_way_back(step, unit.config, unit.profile)
        if step.ask:
            step = step.asked(self._slot_rows(), unit.profile)
        start = self._taken_up(image)

        def began(upload: Upload) -> None:
            unit.unfinished = Unfinished(image.hash, upload, self._session)

        unit.swap_ahead = unit.swap_ahead.doubted
        limits = unit.limits()
        network_core = None if step.network_core else unit.network_core  # an upload makes the unit forget all
        if step.network_core:
            limits = replace(limits, last_delay=_COPY_DELAY)
        upload = unit.client.upload(
            image.data, limits=limits, image=step.number, start=start, progress=progress, began=began
        )
        unit.unfinished = None
        unit.network_core = network_core
        self._sent.add(image.hash)
        if changes := findings(upload, limits):
            unit.memory.note(unit.memory_key, **changes)
        return upload

    def _slot_rows(self) -> list[tuple[int, int, int | None]]:
        """The bootloader's slot info; none where it has no such command."""
        try:
            infos = self.unit.client.request(SlotInfoRequest())
        except (SmpRejected, SmpTimeout):
            return []
        return [(image.image, slot.slot, slot.upload_image_id) for image in infos.images for slot in image.slots]

    def _taken_up(self, image: Image) -> int:
        earlier = self.unit.unfinished
        if earlier is None or earlier.hash != image.hash or earlier.session != self._session:
            return 0
        return earlier.upload.acknowledged

    def verify(self, image: Image, name: str = APP) -> Proof:
        """Look the image up in the board's list. HashMismatch if the list shows that the board does not hold it.

        `name`: which of its build's images it is. An image other than the application's may be in any slot.
        """
        proof = self._looked_up(image, name)
        for apart in self.unit.uploads_apart:
            if apart.step.image.hash == image.hash:
                apart.verified, apart.proof, apart.hash = proof
        return proof

    def _looked_up(self, image: Image, name: str) -> Proof:
        if name == NET or is_network_core(image):
            return Proof(verified=False, proof=UNSEEN, hash=None)
        states = self.images()
        if name != APP:
            return self._verify_other(image, states)
        found = states.find(image=0, slot=0)
        if found is not None and found.hash is None and _same_version(found.version, image):
            why = "the bootloader's list shows no hashes (built without CONFIG_BOOT_SERIAL_IMG_GRP_HASH)"
            return Proof(verified=False, proof=why, hash=None)
        if found is not None and found.hash == image.hash and not self.unit.profile.lists_valid_only:
            why = f"bootloader {self.unit.profile.name} lists images unchecked: a damaged one shows the same hash"
            return Proof(verified=False, proof=why, hash=None)
        if found is None or found.hash != image.hash:
            raise self._mismatch(image, states)
        self.unit.remember(
            image.hash, f"version {image.version}, hash {image.hash.hex()[:HASH_SHOWN]}, proved by image list"
        )
        return Proof(verified=True, proof=PROVED, hash=found.hash)

    def _verify_other(self, image: Image, states: ImageStates) -> Proof:
        if any(state.hash is None for state in states.images):
            return Proof(verified=False, proof="the bootloader's list shows no hashes", hash=None)
        if not any(state.hash == image.hash for state in states.images):
            raise self._mismatch(image, states)
        return Proof(verified=self.unit.profile.lists_valid_only, proof=PROVED, hash=image.hash)

    def _mismatch(self, image: Image, states: ImageStates) -> HashMismatch:
        """The list does not show `image`: what was sent of it in this session, what is there, what to look at."""
        what = f"{image.source} (version {image.version}, hash {image.hash.hex()})"
        shown = f"its image list shows {_listed(states)}"
        earlier = self.unit.unfinished
        if image.hash in self._sent:
            text = f"was sent {what}, but {shown}. {_NOT_TAKEN if states.find() is None else _REPLACED}"
        elif earlier is not None and (earlier.hash, earlier.session) == (image.hash, self._session):
            sent = f"{earlier.upload.acknowledged} of {earlier.upload.total} bytes"
            text = (
                f"was sent no more than {sent} of {what}, and {shown}. Begin the upload again, which takes it up there"
            )
        else:
            text = f"does not hold {what}: {shown}. {_NOT_SENT}{_EMPTY if states.find() is None else ''}"
        return HashMismatch(f"{self.unit.name} {text}")


def _listed(states: ImageStates) -> str:
    listed = (
        f"image {s.image} slot {s.slot} version {s.version} hash {s.hash.hex() if s.hash else 'not shown'}"
        for s in states.images
    )
    return "; ".join(listed) or "no valid image"


def _same_version(listed: str, image: Image) -> bool:
    """Whether a listed version is an image's; old bootloaders write a build number of 0 out."""
    try:
        return Version.parse(listed) == image.version
    except ValueError:
        return False
