"""The end of a trial, as a report: the image was confirmed, or MCUboot took it back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_nrfdfu.board.report import DfuReport, Phase
from pytest_nrfdfu.board.session import PROVED
from pytest_nrfdfu.image.build import APP

if TYPE_CHECKING:
    from pytest_nrfdfu.board.revert import Reverted
    from pytest_nrfdfu.board.unit import Unit
    from pytest_nrfdfu.smp.messages import ImageState

__all__ = ["confirmed", "reverted"]


def confirmed(unit: Unit, state: ImageState) -> DfuReport:
    """That an image was confirmed: the update that brought it is over. `state`: of the application's list."""
    return _report(unit, "confirm", state.version, state.hash, confirmed=True)


def reverted(unit: Unit, after: Reverted) -> DfuReport:
    """That an image on trial went away: which one runs again, and the time from the reset on."""
    return _report(
        unit,
        "revert",
        after.version,
        after.hash,
        timeline=(Phase("revert", 0.0, after.seconds),),
        notes=(f"version {after.away_version} was on trial, and is gone from slot 0",),
    )


def _report(
    unit: Unit,
    via: str,
    version: str,
    digest: bytes | None,
    *,
    confirmed: bool | None = None,
    timeline: tuple[Phase, ...] = (),
    notes: tuple[str, ...] = (),
) -> DfuReport:
    """A report of a board to which nothing was sent. Its build has no name: an image list tells hashes alone."""
    return DfuReport(
        unit=unit.name,
        build="",
        image=APP,
        verified=digest is not None,
        proof=PROVED if digest is not None else "the application's list shows no hash",
        hash=digest,
        running=PROVED,
        version=version,
        bytes=0,
        seconds=0.0,
        rate=0.0,
        chunk=0,
        via=via,
        confirmed=confirmed,
        timeline=timeline,
        notes=notes,
        simulated=unit.config.simulated,
    )
