"""What a host does in an update that nothing disturbs."""

from __future__ import annotations

from collections.abc import Callable

from pytest_nrfdfu.host_conformance.conftest import Clean
from pytest_nrfdfu.image.build import Build

Saw = Callable[[str], None]


def test_uploads_completely(clean: Clean, saw: Saw) -> None:
    """Uploads the whole image, and ends well."""
    assert clean.held, f"slot 0 does not hold the image; {clean.run}\n{clean.target.story()}"
    assert not clean.run.failed, f"the board has the image, and the host failed: {clean.run}"
    sizes = [step.size for step in clean.observed.uploads]
    saw(f"{len(sizes)} chunks of up to {max(sizes)} bytes")


def test_asks_for_the_image_list(clean: Clean, saw: Saw) -> None:
    """Asks for the image list."""
    lists = clean.observed.lists
    assert lists, "it never asked what the board holds"
    saw(f"{len(lists)} times")


def test_reads_the_hash_back(clean: Clean, image: Build) -> None:
    """Reads the image list after the upload, the only proof of it."""
    found = clean.observed.after_upload(clean.observed.lists)
    assert found, "it asked for no image list after the last chunk; MCUboot answers rc 0 to a corrupted image as well"
    shown = [entry.get("hash") for e in found if e.response for entry in (e.response.payload or {}).get("images", ())]
    assert image.hash in shown, "no image list that it got has the image's hash"


def test_starts_the_image(clean: Clean) -> None:
    """Resets the board at the end, and the image runs."""
    assert clean.observed.after_upload(clean.observed.resets), "it sent no OS reset after the last chunk"
    assert clean.started, "it sent an OS reset, and the board does not run the image"


def test_repeats_nothing_that_is_answered(clean: Clean, saw: Saw) -> None:
    """Waits long enough for an erase: repeats no request."""
    uploads = clean.observed.uploads
    assert uploads, "it uploaded nothing"
    offsets = [step.off for step in uploads]
    again = sorted({off for off in offsets if offsets.count(off) > 1})
    assert not again, f"it sent the chunks at {again[:5]} again, though every one is answered within 0.2 s"
    slowest = max((e.round_trip or 0.0 for e in clean.observed.exchanges), default=0.0)
    saw(f"the slowest response took {slowest * 1000:.0f} ms")
