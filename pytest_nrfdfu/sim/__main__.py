"""``python -m pytest_nrfdfu.sim``: a simulated nRF5340 DK as a process, which prints its endpoints as JSON."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

from pytest_nrfdfu.sim.options import parse
from pytest_nrfdfu.sim.server import event_loop, serve


def main(argv: Sequence[str] | None = None) -> int:
    """Run until told to end; returns the exit status."""
    options = parse(argv)
    with asyncio.Runner(loop_factory=event_loop) as runner:
        return runner.run(serve(options))


if __name__ == "__main__":
    sys.exit(main())
