"""Two hosts' captures of the same update compared: by meaning first, by bytes second.

Steps of the same name are put beside each other; then each is compared in the aspects of `diff_aspects`.
"""

from __future__ import annotations

import difflib
import itertools
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from pytest_nrfdfu.wire.annotate import body_fields
from pytest_nrfdfu.wire.capture import Capture
from pytest_nrfdfu.wire.diff_aspects import ASPECTS
from pytest_nrfdfu.wire.diff_steps import Step, steps
from pytest_nrfdfu.wire.frames import Frame
from pytest_nrfdfu.wire.paint import Paint, hex_rows

__all__ = ["Comparison", "Difference", "as_json", "compare", "render"]


class Difference(NamedTuple):
    """One thing that the hosts did not do alike. `step`: its number in the comparison, from 1.

    `a`, `b`: what each did. `frames`: one of each where it shows, None where there is none.
    """

    step: int
    name: str
    aspect: str
    a: str
    b: str
    matters: bool
    why: str
    frames: tuple[Frame | None, Frame | None] = (None, None)


class Comparison(NamedTuple):
    """Both hosts' steps side by side (None where one has none), and the differences in their order."""

    pairs: tuple[tuple[Step | None, Step | None], ...]
    differences: tuple[Difference, ...]

    @property
    def first(self) -> Difference | None:
        """The first difference that matters."""
        return next((one for one in self.differences if one.matters), None)


_MISSING_MATTERS = {
    "image upload": "without an upload nothing changes",
    "image erase": "it changes what is on the board",
    "image state": "it changes what is started",
    "reset": "without a reset the new image is not started",
    "unreadable": "MCUboot drops it, and may lose what comes after it on the same line",
}


def compare(a: Capture, b: Capture) -> Comparison:
    """What the hosts in `a` and `b` did alike and what not."""
    pairs = tuple(_aligned(steps(a), steps(b)))
    found: list[Difference] = []
    for number, (left, right) in enumerate(pairs, start=1):
        found += _of_pair(number, left, right)
    return Comparison(pairs, tuple(found))


def _aligned(a: list[Step], b: list[Step]) -> Iterator[tuple[Step | None, Step | None]]:
    """Steps of the same name beside each other, in the order of both."""
    matcher = difflib.SequenceMatcher(None, [step.name for step in a], [step.name for step in b], autojunk=False)
    for tag, a1, a2, b1, b2 in matcher.get_opcodes():
        if tag == "equal" or (a2 - a1 == b2 - b1 and not all(step.known for step in a[a1:a2] + b[b1:b2])):
            # What only one of them calls by a name is held against what the other did in its place.
            yield from zip(a[a1:a2], b[b1:b2], strict=True)
        else:
            yield from ((step, None) for step in a[a1:a2])
            yield from ((None, step) for step in b[b1:b2])


def _of_pair(number: int, left: Step | None, right: Step | None) -> Iterator[Difference]:
    if left is None or right is None:
        step = left or right
        assert step is not None
        why = _MISSING_MATTERS.get(step.name)
        said = ("sent" if left else "not sent", "sent" if right else "not sent")
        frame = step.sent[0].frame
        shown_by = (frame if left else None, frame if right else None)
        yield Difference(number, step.name, "step", *said, why is not None, why or "it only asks", shown_by)
        return
    for aspect in ASPECTS:
        if aspect.upload_only and not left.is_upload:
            continue
        a, b = aspect.value(left), aspect.value(right)
        if a.said != b.said:
            frames = (a.frame, b.frame)
            yield Difference(number, left.name, aspect.name, a.said, b.said, aspect.matters, aspect.why, frames)


def render(comparison: Comparison, names: tuple[str, str], paint: Paint, width: int = 100) -> Iterator[str]:
    """The comparison as text, `width` columns wide."""
    column = max(30, (width - 9) // 2)
    yield f"A: {names[0]}"
    yield f"B: {names[1]}"
    yield ""
    differing = {one.step for one in comparison.differences if one.matters}
    for number, (left, right) in enumerate(comparison.pairs, start=1):
        mark = paint("!", "red") if number in differing else " "
        begin = f"{number:3} {mark}"
        for ours, theirs in itertools.zip_longest(_cell(left, column), _cell(right, column), fillvalue=""):
            yield f"{begin} {ours:<{column}}  {theirs}".rstrip()
            begin = " " * 5
    yield ""
    yield from _render_first(comparison, paint, width)
    yield from _render_others(comparison, paint, width)


def _cell(step: Step | None, width: int) -> list[str]:
    """What a step says, in lines of `width`."""
    if step is None:
        return ["-"]
    answered = "" if step.answered == len(step.sent) else f", {step.answered} of {len(step.sent)} answered"
    return textwrap.wrap(f"{step.said}{answered}", width, subsequent_indent="  ", break_on_hyphens=False)


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)


def _render_first(comparison: Comparison, paint: Paint, width: int) -> Iterator[str]:
    first = comparison.first
    if first is None:
        yield paint("No difference that matters.", "green")
        return
    yield paint(f"The first difference that matters: {first.aspect} of step {first.step}, {first.name}", "red")
    for text in (f"A: {first.a}", f"B: {first.b}", f"It matters because {first.why}."):
        yield from _wrapped(text, width)
    yield from _render_bytes(first, paint)


def _render_bytes(first: Difference, paint: Paint) -> Iterator[str]:
    others = [set(_said(frame)) for frame in first.frames]
    if all(others):
        yield ""
        yield f"  The requests of both; {paint('>', 'red')} marks the fields that differ, whether it matters or not:"
    for name, frame, other in zip("AB", first.frames, reversed(others), strict=True):
        if frame is None:
            continue
        yield ""
        when = "" if frame.time_first is None else f" at {frame.time_first:.4f} s"
        yield f"  {name}, {frame.end - frame.start} bytes from byte {frame.start}{when}:"
        for (part, says), data in zip(_said(frame), (field.data for field in body_fields(frame)), strict=True):
            differs = bool(other) and (part, says) not in other
            for is_first, row in hex_rows(data):
                text = f"{part:<8}{row}  {says}" if is_first else f"{'':<8}{row}".rstrip()
                yield f"  {paint('>', 'red') if differs else ' '} {paint(text, 'bold') if differs else text}"


def _said(frame: Frame | None) -> list[tuple[str, str]]:
    return [] if frame is None else [(field.part, field.says) for field in body_fields(frame)]


def _render_others(comparison: Comparison, paint: Paint, width: int) -> Iterator[str]:
    others = [one for one in comparison.differences if one.matters and one is not comparison.first]
    if others:
        yield ""
        yield paint("Others that matter:", "yellow")
        yield from _listed(others, width)
    harmless = [one for one in comparison.differences if not one.matters]
    if harmless:
        yield ""
        yield paint("Differences that do not matter:", "grey")
        yield from _listed(harmless, width)


def _listed(differences: Iterable[Difference], width: int) -> Iterator[str]:
    """One paragraph for each thing that differs; steps in which it differs in the same way stand together."""
    merged: dict[tuple[str, str], list[Difference]] = {}
    for one in differences:
        merged.setdefault((one.aspect, one.why), []).append(one)
    for (aspect, why), found in merged.items():
        places: dict[tuple[str, str], list[int]] = {}
        for one in found:
            places.setdefault((one.a, one.b), []).append(one.step)
        said = "; ".join(
            f"step {', '.join(str(step) for step in where)}: {a} (A), {b} (B)" for (a, b), where in places.items()
        )
        yield from _wrapped(f"{aspect}, {said}. {why[:1].upper()}{why[1:]}.", width)


def as_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison for programs."""
    return {
        "steps": [
            {name: None if step is None else _step_json(step) for name, step in zip("ab", pair, strict=True)}
            for pair in comparison.pairs
        ],
        "differences": [_difference_json(one) for one in comparison.differences],
        "first": None if comparison.first is None else _difference_json(comparison.first),
    }


def _step_json(step: Step) -> dict[str, Any]:
    return {
        "name": step.name,
        "requests": len(step.sent),
        "answered": step.answered,
        "bytes": len(step.image) if step.is_upload else None,
    }


def _difference_json(one: Difference) -> dict[str, Any]:
    places = [None if frame is None else [frame.start, frame.end] for frame in one.frames]
    return {**one._asdict(), "frames": places}
