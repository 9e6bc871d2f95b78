"""Lists the debug probes of this host as JSON: ``python -m pytest_nrfdfu.board.probe_list``.

A process of its own, as the rig's child is: pyOCD prints, takes a second to import, and may hang in a USB driver. No
probe is opened. The object has ``probes`` (``unique_id``, ``vendor``, ``product`` each) and ``jlink``: whether pyOCD
can use J-Links, for which SEGGER's software must be installed.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

__all__ = ["main"]


def main() -> int:
    """Print the list to what was standard output; pyOCD's own words go to standard error."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answer:
        os.dup2(2, 1)
        json.dump(_found(), answer)
    return 0


def _found() -> dict[str, Any]:
    from pyocd.core.helpers import ConnectHelper
    from pyocd.probe.aggregator import PROBE_CLASSES

    probes = ConnectHelper.get_all_connected_probes(blocking=False, print_wait_message=False)
    return {
        "jlink": "jlink" in PROBE_CLASSES,
        "probes": [
            {"unique_id": probe.unique_id, "vendor": probe.vendor_name, "product": probe.product_name}
            for probe in probes
        ],
    }


if __name__ == "__main__":
    sys.exit(main())
