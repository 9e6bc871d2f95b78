"""Reads a .config: the Kconfig values with which an image was built.

The file is generated, one option a line (Zephyr, scripts/kconfig/kconfiglib.py, ``_config_contents``)::

    CONFIG_BOOT_LINE_BUFS=8
    CONFIG_BOOT_SIGNATURE_KEY_FILE="root-rsa-2048.pem"
    # CONFIG_BOOT_MGMT_ECHO is not set

An option that does not exist in that version, or whose dependencies are not met, is not in the file at all. So "not
there" and "is not set" are different things: the second says that the code knows the option.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from pytest_nrfdfu.errors import ImageError
from pytest_nrfdfu.image.textfile import read_text

__all__ = ["Config", "Value", "parse", "read"]

Value = str | int | bool
Config = Mapping[str, Value]
"""Values by option, with the prefix: ``CONFIG_SERIAL``, and in sysbuild's own file ``SB_CONFIG_BOARD``."""

_SET = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)")
_NOT_SET = re.compile(r"#\s*([A-Za-z_][A-Za-z0-9_]*) is not set\s*")
_NUMBER = re.compile(r"-?(?:0[xX][0-9a-fA-F]{1,16}|[0-9]{1,20})")
"""64 bits; anything longer stays text, and cannot cost time to convert."""
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")
_SHOWN = 60


def read(path: Path) -> dict[str, Value]:
    """The values in the .config at `path`. ImageError if it cannot be read, or holds anything else."""
    return parse(read_text(path), str(path))


def parse(text: str, source: str = ".config") -> dict[str, Value]:
    """The values in the text of a .config.

    ``y`` is True, ``n`` and "is not set" are False, decimal and hexadecimal numbers are int, the rest is text without
    its quotes. ImageError names `source` and the line that is nothing of the kind.
    """
    values: dict[str, Value] = {}
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip()
        if match := _SET.fullmatch(stripped):
            values[match[1]] = _value(match[2])
        elif match := _NOT_SET.fullmatch(stripped):
            values[match[1]] = False
        elif stripped and not stripped.startswith("#"):
            raise ImageError(
                f"{source}, line {number}: expected CONFIG_NAME=value or a comment, not {stripped[:_SHOWN]!r}. "
                "It is not the .config of a build, or it is damaged: build again"
            )
    return values


def _value(text: str) -> Value:
    if text in {"y", "n"}:
        return text == "y"
    if quoted := _QUOTED.fullmatch(text):
        return _ESCAPED.sub(r"\1", quoted[1])
    return _number(text) if _NUMBER.fullmatch(text) else text


def _number(text: str) -> int:
    # Not base 0: Kconfig writes decimal numbers with leading zeros as they were given.
    return int(text, 16 if "x" in text.lower() else 10)
