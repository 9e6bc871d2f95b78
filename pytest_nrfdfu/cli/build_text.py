"""The text of ``nrfdfu build``: what `build.describe` found, for people."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["render"]

_UNSIGNED = ", with a hash and no signature (as of imgtool without --key): for a bootloader that checks none"

_LABEL = 22
"""Width of the column of labels."""
_HASH_SHOWN = 16
"""Digits of a hash that are shown; --json has all."""


def render(seen: Mapping[str, Any], width: int = 100) -> str:
    """`describe`'s answer as text of at most `width` columns where words allow, ending in a line feed."""
    facts = seen["facts"] or {}
    lines = [f"{seen['name']}  ({seen['path']})"]
    if facts:
        lines += _rows([("board", facts["board"]), ("chip and core", facts["soc"])], width)
    lines += _render_images(seen["images"], width)
    if facts:
        lines += _render_bootloader(facts, width)
        lines += _render_slots(facts["slots"], width)
    if seen["notes"]:
        lines += ["", "notes"]
        lines += [line for note in seen["notes"] for line in _wrap("  - ", note, width)]
    return "\n".join(lines) + "\n"


def _wrap(label: str, text: str, width: int) -> list[str]:
    indent = " " * len(label)
    wrapped = textwrap.wrap(
        text, width, initial_indent=label, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
    )
    return wrapped or [label.rstrip()]


def _rows(rows: Iterable[tuple[str, object]], width: int) -> list[str]:
    """Labels and what is known; what is not known is left out."""
    lines = []
    for label, value in rows:
        if value is not None and value != "":
            lines += _wrap(f"  {label:<{_LABEL}}", str(value), width)
    return lines


def _render_images(images: Sequence[Mapping[str, Any]], width: int) -> list[str]:
    if not images:
        return ["", "images", "  none"]
    lines = []
    for image in images:
        signature = f", signed ({image['signature']})" if image["signature"] else _UNSIGNED
        upload = "none" if image["upload"] is None else str(image["upload"])
        lines += ["", f"image {image['name']}"]
        lines += _rows(
            [
                ("file", image["file"]),
                ("version", image["version"]),
                ("hash", f"{image['hash'][:_HASH_SHOWN]}..."),
                ("size", f"{image['bytes']} bytes"),
                ("kind", image["variant"] + signature),
                ("slot", image["slot"] and _place(image["slot"])),
                ("upload number", f"{upload} ({image['upload_reason']})"),
            ],
            width,
        )
    return lines


def _place(slot: Mapping[str, Any]) -> str:
    memory = f" in {slot['memory']}" if slot["memory"] else ""
    return f"0x{slot['size']:x} bytes at 0x{slot['address']:x}{memory} (by {slot['source']})"


def _render_bootloader(facts: Mapping[str, Any], width: int) -> list[str]:
    boot = facts["bootloader"]
    if boot is None:
        return ["", "bootloader", "  none in this build"]
    lines = ["", "bootloader"]
    if not boot["serial_recovery"]:
        lines += ["  no serial recovery (CONFIG_MCUBOOT_SERIAL is not set)"]
    rows = [
        ("profile", boot["profile"]),
        ("ways into recovery", _entrances(boot)),
        ("recovery pin", facts["button"] and _button(facts["button"])),
        ("speaks SMP on", facts["uart"] and _uart(facts["uart"])),
        ("boot mode kept in", facts["boot_mode"] and _boot_mode(facts["boot_mode"])),
        ("receives", _receives(boot)),
        ("image list", "with hashes" if boot["hash"] else "without hashes: an update cannot be proved"),
        ("also knows", ", ".join(_commands(boot)) or "nothing else"),
        ("images", f"{boot['images']}, {'direct upload' if boot['direct_upload'] else 'no direct upload'}"),
        ("network core", _network(facts)),
        ("upgrade", boot["upgrade_mode"]),
        ("erases", "page by page" if boot["erase_progressively"] else "the whole slot at the first packet"),
        ("flash", _flash(facts)),
        ("signature", _signature(boot)),
    ]
    return lines + _rows(rows, width)


def _entrances(boot: Mapping[str, Any]) -> str:
    details = {
        "gpio": f" (held for {boot['detect_delay']:g} s)" if boot["detect_delay"] else "",
        "wait-for-dfu": f" ({boot['wait_for_dfu']:g} s)",
    }
    found = [entrance + details.get(entrance, "") for entrance in boot["entrances"]]
    if boot["boot_request"]:
        found.append("asked for by the application (boot request)")
    return ", ".join(found) or "none"


def _button(button: Mapping[str, Any]) -> str:
    pull = f", pull-{button['pull']}" if button["pull"] else ""
    return f"{button['pin']}, active {button['active']}{pull}"


def _uart(uart: Mapping[str, Any]) -> str:
    if uart["usb"]:
        known = uart["vendor_id"] is not None and uart["product_id"] is not None
        identity = f" {uart['vendor_id']:04x}:{uart['product_id']:04x}" if known else ""
        return f"USB{identity} ({uart['node']}, CDC ACM)"
    rate = f" at {uart['baudrate']} baud" if uart["baudrate"] is not None else ""
    flow = "RTS/CTS flow control" if uart["flow_control"] == "rtscts" else "no flow control"
    return f"{uart['node']}{rate}, {flow}"


def _boot_mode(mode: Mapping[str, Any]) -> str:
    where = f"0x{mode['register']:x}" if mode["register"] is not None else "a place that is not told"
    prefix = f", prefix {mode['prefix']}" if mode["prefix"] else ", no prefix"
    check = f", checksum of {mode['checksum']} bytes" if mode["checksum"] else ", no checksum"
    return f"{where} ({mode['node']}){prefix}{check}"


def _receives(boot: Mapping[str, Any]) -> str:
    raw = "SMP without console framing (raw), " if boot["raw_protocol"] else ""
    return (
        f"{raw}{boot['receive_size']} bytes a packet, {boot['line_length']} characters a line, "
        f"{boot['line_buffers']} line buffers"
    )


def _commands(boot: Mapping[str, Any]) -> list[str]:
    names = {"image_state": "image states", "slot_info": "slot info", "echo": "echo", "params": "parameters"}
    return [name for key, name in names.items() if boot[key]]


def _network(facts: Mapping[str, Any]) -> str:
    number = facts["network_upload"]
    return f"{'no upload number' if number is None else f'upload number {number}'} ({facts['network_upload_reason']})"


def _flash(facts: Mapping[str, Any]) -> str | None:
    if facts["erase_page"] is None or facts["write_block"] is None:
        return None
    return f"pages of {facts['erase_page']} bytes, written in units of {facts['write_block']}"


def _signature(boot: Mapping[str, Any]) -> str | None:
    if boot["signature"] is None:
        return None
    key = f" by {Path(boot['key_file']).name}" if boot["key_file"] else ""
    encryption = ", takes encrypted images" if boot["encryption"] else ""
    return f"{boot['signature']}{key}{encryption}"


def _render_slots(slots: Mapping[str, Any], width: int) -> list[str]:
    rows: list[tuple[str, object]] = []
    for name, slot in slots.items():
        rows.append((name, _place(slot)))
        if slot["secondary"]:
            rows.append((f"{name}, secondary", _place(slot["secondary"])))
    return ["", "slots", *_rows(rows, width)] if rows else []
