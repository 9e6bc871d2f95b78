"""How a benchmark prints its rows: as one JSON object, or as a table, with what is true of all of them below."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Row = TypeVar("Row", bound=DataclassInstance)

__all__ = ["add_json_option", "print_rows"]


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--json``, which `print_rows` is asked with."""
    parser.add_argument("--json", action="store_true", help='print {"rows": [...]} instead of a table')


def print_rows(rows: Sequence[Row], table: Callable[[list[Row]], str], remark: str, *, as_json: bool) -> None:
    """Print `rows`: as JSON, or by `table` and with `remark`, which says what the figures are worth."""
    if as_json:
        print(json.dumps({"rows": [asdict(row) for row in rows]}, indent=1))
        return
    print(table(list(rows)))
    print(remark)
