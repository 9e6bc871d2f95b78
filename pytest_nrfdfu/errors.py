"""The errors of pytest-nrfdfu, one tree.

::

    NrfDfuError
      ConfigError            a file or an option is wrong            category config
      LeaseError             no unit is free, or the lease was lost  category bench
      BoardError             the rig                                 category bench
        UartError              a serial port cannot be used
          PortGone               it was there and is gone
        ProbeError             the debug probe, or the chip behind it
        LineError              a control line
        RecoveryNotEntered     every way into serial recovery failed
      ImageError             a file is not what it claims            category image
      SmpError               the protocol                            category protocol
        SmpTimeout             no answer in time (also a TimeoutError)
        SmpRejected            an answer that says no: ``rc``, ``group``
        SmpMalformed           an answer that cannot be read
      DfuError               the update failed                       category dfu
        UpdateRefused          the board, as it is, does not allow what was asked
        UploadFailed           the upload stopped before its end
          LossyLink              ... on a link that was seen to lose   category bench
        HashMismatch           the board does not list the image that it should hold
        NotBooted              the application was not seen running, or another image was

A message says what was tried, what was seen and what to look at, in that order.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

__all__ = [
    "BoardError",
    "ConfigError",
    "DfuError",
    "HashMismatch",
    "ImageError",
    "LeaseError",
    "LineError",
    "LossyLink",
    "NotBooted",
    "NrfDfuError",
    "PortGone",
    "ProbeError",
    "RecoveryNotEntered",
    "SmpError",
    "SmpMalformed",
    "SmpRejected",
    "SmpTimeout",
    "UartError",
    "UpdateRefused",
    "UploadFailed",
]


class NrfDfuError(Exception):
    """Base of every error that this package raises on purpose.

    ``category`` is what a nightly run is triaged by: ``config``, ``bench``, ``image``, ``protocol`` or ``dfu``.
    """

    category: ClassVar[str] = "dfu"


class ConfigError(NrfDfuError):
    """A configuration file, an option or a marker is wrong."""

    category = "config"


class LeaseError(NrfDfuError):
    """No unit is free, or the right to use one was lost."""

    category = "bench"


class BoardError(NrfDfuError):
    """Something of the rig does not work: port, probe, line, power."""

    category = "bench"


class UartError(BoardError):
    """A serial port cannot be opened or used."""


class PortGone(UartError):
    """A serial port that worked has vanished."""


class ProbeError(BoardError):
    """The debug probe or the chip behind it does not do what was asked.

    ``cause`` tells programs which trouble it is. Of the probe: ``not-found``, ``several`` (and none was chosen),
    ``no-library``, ``unreachable`` (a remote one), ``permission``, ``busy``, ``unplugged``, ``hangs``, ``died`` (the
    process that drives it). Of the chip: ``no-power``, ``wrong-chip``, ``locked``, ``secure-locked``, ``fault``. Empty
    for anything else.
    """

    def __init__(self, message: str, *, cause: str = "") -> None:
        super().__init__(message)
        self.cause = cause


class LineError(BoardError):
    """A control line cannot be driven."""


class Diagnosis(NamedTuple):
    """Why a board did not enter serial recovery; `pytest_nrfdfu.board.diagnosis` makes it."""

    cause: str
    """A stable name, such as ``recovery-line-not-connected``."""
    sentence: str
    """The cause in words: one sentence."""
    details: tuple[str, ...]
    """What else was tried and seen, a sentence each."""
    remedy: str
    """What to do: one sentence."""


class RecoveryNotEntered(BoardError):
    """None of the ways into serial recovery led there. `diagnosis` says why, by its evidence."""

    def __init__(self, message: str, diagnosis: Diagnosis | None = None) -> None:
        super().__init__(message)
        self.diagnosis = diagnosis


class ImageError(NrfDfuError):
    """An image file is not what it claims to be, or does not fit."""

    category = "image"


class SmpError(NrfDfuError):
    """Base of what can go wrong in the Simple Management Protocol."""

    category = "protocol"


class SmpTimeout(SmpError, TimeoutError):
    """No matching response came within the deadline. ``brief``: the message without what the console showed then."""

    def __init__(self, message: str, *, brief: str = "") -> None:
        super().__init__(message)
        self.brief = brief or message


class SmpRejected(SmpError):
    """The server answered that it will not do it.

    ``rc`` is the return code. ``group`` is None for a version 1 answer (``{"rc": n}``, an ``mgmt_err`` code) and
    the command group whose table ``rc`` belongs to for a version 2 answer (``{"err": {"group", "rc"}}``).
    """

    def __init__(self, message: str, *, rc: int, group: int | None = None) -> None:
        super().__init__(message)
        self.rc = rc
        self.group = group


class SmpMalformed(SmpError):
    """A packet cannot be read as SMP, or a response lacks what it must hold."""


class DfuError(NrfDfuError):
    """An update failed."""


class UpdateRefused(DfuError):
    """What was asked is not possible on this board as it is; the message says whether anything was sent.

    ``by_board``: the board itself said no, to a request that was sent; else it was not asked, because of what it is.
    """

    def __init__(self, message: str, *, by_board: bool = False) -> None:
        super().__init__(message)
        self.by_board = by_board


class UploadFailed(DfuError):
    """The upload stopped before its end."""


class LossyLink(UploadFailed):
    """The upload stopped, and other packets than the last were lost or damaged before: the wire, not the firmware."""

    category = "bench"


class HashMismatch(DfuError):
    """The image list, read from the board, does not hold the image that it should."""


class NotBooted(DfuError):
    """The application was not seen running after the update, or another image than the update's was."""
