"""Leases across hosts: a unit is a place of a labgrid coordinator, found by its tags or its name.

A place is taken by a reservation, which queues fairly with everybody else's, and held until it is released or this
process dies: its child releases on the death of its parent, and the next run on this host takes back what a process
left that could not. A place that a living process holds is never taken. See `labgrid_identity` for how they are told
apart, `labgrid_place` for what a place fills in of a configuration, `labgrid_client` for the process that has labgrid.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pytest_nrfdfu.bench.labgrid_client import Client, Gone, Refused, interpreter
from pytest_nrfdfu.bench.labgrid_identity import Identity, is_dead, me
from pytest_nrfdfu.bench.labgrid_place import Place, fill_in, problem
from pytest_nrfdfu.config import UnitConfig
from pytest_nrfdfu.config_types import LabgridConfig
from pytest_nrfdfu.errors import ConfigError, LeaseError

__all__ = ["LabgridKeeper", "LabgridLease"]

_POLL = 0.5
"""Seconds between looks while waiting; each keeps the reservations alive, which end after 60 s without one
(labgrid/remote/common.py, Reservation.refresh)."""
_ALLOCATED = 1
"""State of a reservation whose place is ready to be acquired (labgrid/remote/common.py, ReservationState)."""
_WAITING = 0


@dataclass(slots=True, eq=False)
class LabgridLease:
    """A place, held until it is released or lost."""

    unit: UnitConfig
    place: str
    _keeper: LabgridKeeper
    lost: str | None = None
    """Why it was lost, once that was seen."""
    _released: bool = False

    def check(self) -> None:
        """LeaseError if coordinator, exporter or place were lost; takes at most some 5 s, where nobody answers."""
        if self._released:
            raise LeaseError(f"the lease of {self.unit.name} was given back")
        if self.lost is None:
            self._keeper.look_after(self)
        if self.lost is not None:
            raise LeaseError(f"the lease of {self.unit.name} (labgrid's place {self.place}) was lost: {self.lost}")

    def release(self) -> None:
        """Give the place back."""
        if not self._released:
            self._released = True
            self._keeper.give_back(self)


@dataclass(slots=True)
class _Hunt:
    """One search for a unit."""

    units: Sequence[UnitConfig]
    queued: dict[str, str] = field(default_factory=dict)
    """Reservation by place."""
    refused: dict[str, str] = field(default_factory=dict)
    """Why a place cannot be had, by its name."""
    unusable: list[str] = field(default_factory=list)
    """Of the last look: why places are not waited for."""
    told: list[str] = field(default_factory=list)
    """Of the last look: who holds what."""
    by_sibling: bool = False
    """Of the last look: a worker of the same run holds one, and will give it back."""


class LabgridKeeper:
    """Leases of the places of one coordinator. `run`: the same for all workers of a run of pytest-xdist."""

    def __init__(self, config: LabgridConfig, run: str = "") -> None:
        """ConfigError if there is no interpreter that has labgrid."""
        self.config = config
        self._me = me(run)
        self.client = Client(config.coordinator, interpreter(config.python), self._me.host, self._me.user)
        self._leases: list[LabgridLease] = []

    def acquire(self, units: Sequence[UnitConfig], *, deadline: float, say: Callable[[str], None]) -> LabgridLease:
        """A lease of any free place that is one of `units`.

        A unit with an id is the place of that name, one without any place with the tags of [labgrid]. Waits until
        `deadline` (seconds, monotonic; one that has passed asks once) and for [labgrid] reservation seconds at most;
        for a worker of the same run past a deadline that was still to come. Raises LeaseError with who holds each, and
        ConfigError where a place does not complete the configuration.
        """
        if not self.config.tags and any(unit.id is None for unit in units):
            raise ConfigError("[labgrid] has no tags, so any place would do: name the tags of this board's places")
        hunt = _Hunt(units)
        began = time.monotonic()
        ask_once, limit = began >= deadline, began + self.config.reservation
        said: set[str] = set()
        try:
            self.client.start()
            while (lease := self._try(hunt)) is None:
                now = time.monotonic()
                if ask_once or now >= limit or (now >= deadline and not hunt.by_sibling):
                    raise LeaseError(f"no unit is free: {'; '.join(hunt.told)}")
                for text in hunt.told:
                    if text not in said:
                        said.add(text)
                        say(f"waiting: {text}")
                time.sleep(_POLL)
        except Gone as gone:
            self._lose_all(str(gone))
            raise
        finally:
            self._leave(hunt)
        return lease

    # --- looking for one --------------------------------------------------------------------------------------------

    def _try(self, hunt: _Hunt) -> LabgridLease | None:
        """One look at the coordinator; a lease, if a place was free."""
        places, owners = self._look()
        candidates = list(self._candidates(hunt.units, places))
        self._refuse_none(hunt, candidates, places)
        usable = self._usable(hunt, candidates)
        # Free ones first: whoever asks for all at once keeps others from places that it will not need.
        for unit, place in sorted(usable, key=lambda found: bool(found[1].acquired or found[1].reservation)):
            if self._is_ready(hunt, place) and (lease := self._take(hunt, unit, place)) is not None:
                return lease
        usable = self._usable(hunt, candidates)
        hunt.told = hunt.unusable + [self._told(place, owners) for _, place in usable]
        hunt.by_sibling = any(self._is_sibling(place) for _, place in usable)
        return None

    def _usable(self, hunt: _Hunt, candidates: list[tuple[UnitConfig, Place]]) -> list[tuple[UnitConfig, Place]]:
        """The candidates that are worth waiting for; LeaseError if none is."""
        found = [
            (unit, place, hunt.refused.get(place.name) or problem(place, unit.config)) for unit, place in candidates
        ]
        hunt.unusable = [why for _, _, why in found if why is not None]
        if len(hunt.unusable) == len(found):
            raise LeaseError(f"no unit can be used: {'; '.join(hunt.unusable)}")
        return [(unit, place) for unit, place, why in found if why is None]

    def _look(self) -> tuple[list[Place], dict[str, Mapping[str, Any]]]:
        """All places, and the reservations by token, after what dead processes left was taken back."""
        seen = self.client.call("look")
        places = [Place.read(data) for data in seen["places"]]
        left = [place for place in places if place.acquired and self._was_left(place.acquired, place.name)]
        dead = [item for item in seen["reservations"] if self._was_left(item["owner"])]
        if not left and not dead:
            return places, {item["token"]: item for item in seen["reservations"]}
        for place in left:
            self.client.call("release", place=place.name, holder=place.acquired)
        for item in dead:
            with suppress(Refused):  # it has ended meanwhile
                self.client.call("cancel", token=item["token"])
        return self._look()

    def _was_left(self, name: str, place: str | None = None) -> bool:
        """Whether `name` is a process of this host that has died; or this one, whose earlier child has lost `place`."""
        if name == self._me.name:
            return place is not None and all(lease.place != place for lease in self._leases)
        holder = Identity.parse(name)
        return holder is not None and is_dead(holder, self._me)

    def _candidates(self, units: Sequence[UnitConfig], places: list[Place]) -> Iterator[tuple[UnitConfig, Place]]:
        """What may be used: units in their order, each with the places that it can be."""
        held = {lease.place for lease in self._leases}
        for unit in units:
            wanted = self.config.tags if unit.id is None else {**self.config.tags, "name": unit.id}
            for place in sorted(places, key=lambda place: place.name):
                if place.name not in held and place.has(wanted):
                    yield unit, place

    def _refuse_none(self, hunt: _Hunt, candidates: list[tuple[UnitConfig, Place]], places: list[Place]) -> None:
        if candidates:
            return
        held = {lease.place for lease in self._leases}
        tags = " ".join(f"{key}={value}" for key, value in self.config.tags.items())
        ids = " or ".join(unit.id for unit in hunt.units if unit.id is not None)
        called = f" called {ids}" if ids else ""
        known = ", ".join(sorted(place.name for place in places)) or "none"
        used = f"; this process holds {', '.join(sorted(held))} already" if held else ""
        raise LeaseError(
            f"labgrid's coordinator {self.config.coordinator} has no place{called} with the tags {tags or '(any)'} that"
            f" is not in use here{used}; its places are {known} (labgrid-client places, labgrid-client set-tags)"
        )

    def _is_ready(self, hunt: _Hunt, place: Place) -> bool:
        """Whether the place is kept for this search; it queues for it on the way."""
        token = hunt.queued.get(place.name)
        if token is None:
            state = self.client.call("reserve", tags={**self.config.tags, "name": place.name})
            hunt.queued[place.name] = state["token"]
        else:
            try:
                state = self.client.call("poll", token=token)
            except Refused:  # ended, because this process was suspended for a minute
                state = {"state": None}
        if state["state"] not in {_WAITING, _ALLOCATED}:
            self._cancel(hunt, place.name)
        return bool(state["state"] == _ALLOCATED)

    def _take(self, hunt: _Hunt, unit: UnitConfig, place: Place) -> LabgridLease | None:
        """Acquire a place that is kept for this search; None, and the reason in `hunt`, if that cannot be."""
        try:
            taken = Place.read(self.client.call("acquire", place=place.name))
        except Refused as refused:
            hunt.refused[place.name] = f"{place.name} cannot be acquired: {refused}"
            with suppress(Refused):  # acquired, and gone from the list
                self.client.call("release", place=place.name)
            return None
        finally:
            # Acquired places need none, and one that is left would keep the place for a minute after its release.
            self._cancel(hunt, place.name)
        try:
            why = problem(taken, unit.config)
            filled = fill_in(unit, taken, self.client.command) if why is None else unit
        except ConfigError:
            self.client.call("release", place=place.name)
            raise
        if why is not None:
            self.client.call("release", place=place.name)
            hunt.refused[place.name] = why
            return None
        lease = LabgridLease(filled, place.name, self)
        self._leases.append(lease)
        return lease

    def _cancel(self, hunt: _Hunt, place: str) -> None:
        token = hunt.queued.pop(place, None)
        if token is not None and self.client.pid is not None:
            with suppress(Refused):
                self.client.call("cancel", token=token)

    def _leave(self, hunt: _Hunt) -> None:
        """The search is over: queue no more, and end the session if nothing is held through it."""
        with suppress(Gone):
            for place in list(hunt.queued):
                self._cancel(hunt, place)
        if not self._leases:
            self.client.stop()

    # --- who holds what ---------------------------------------------------------------------------------------------

    def _is_sibling(self, place: Place) -> bool:
        holder = Identity.parse(place.acquired or "")
        # What this process holds itself, by another keeper even, comes free by nobody else.
        mine = holder is not None and (holder.boot, holder.pid) == (self._me.boot, self._me.pid)
        return holder is not None and not mine and holder.sibling_of(self._me)

    def _told(self, place: Place, owners: Mapping[str, Mapping[str, Any]]) -> str:
        if place.acquired:
            return f"{place.name} is held by {_who(place.acquired)} since {_at(place.changed)}"
        reservation = owners.get(place.reservation or "")
        if reservation is None or reservation["owner"] == self._me.name:
            return f"{place.name} was free, and somebody else was faster"
        return (
            f"{place.name} is reserved for {_who(reservation['owner'])} until {_at(reservation['until'])} or longer"
            " (labgrid keeps the reservation of a client that was killed for 60 s)"
        )

    # --- what leases ask for ----------------------------------------------------------------------------------------

    def look_after(self, lease: LabgridLease) -> None:
        """See whether a lease was lost; with the coordinator, all of them are."""
        try:
            lease.lost = self.client.call("check", place=lease.place)
        except Gone as gone:
            self._lose_all(str(gone))
        except LeaseError as error:
            lease.lost = str(error)

    def give_back(self, lease: LabgridLease) -> None:
        """Release a lease's place, if it is held still; what cannot be released now, the next run takes back."""
        if lease in self._leases:
            self._leases.remove(lease)
            try:
                self.client.call("release", place=lease.place)
            except Gone as gone:
                self._lose_all(str(gone))
            except LeaseError:
                pass
        if not self._leases:
            self.client.stop()

    def _lose_all(self, why: str) -> None:
        """Nobody answers: a coordinator that is started again knows nothing of who held what."""
        for lease in self._leases:
            lease.lost = lease.lost or why
        self._leases.clear()
        self.client.stop(at_once=True)


def _who(name: str) -> str:
    """``host/user`` in words."""
    known = Identity.parse(name)
    if known is not None:
        return str(known)
    host, _, user = name.partition("/")
    return f"{user}@{host}" if user else name


def _at(seconds: float) -> str:
    """A time of the coordinator's clock, for people here."""
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")
