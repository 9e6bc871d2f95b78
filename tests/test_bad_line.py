"""Whole updates over a bad line in real time: process, port, probe and lines as in any run, bytes lost both ways."""

import firmware
import pytest

from pytest_nrfdfu.bench.pool import Choice, Pool
from pytest_nrfdfu.board.dfu import Dfu
from pytest_nrfdfu.config import UnitConfig, load, shipped_configs
from pytest_nrfdfu.image.build import load as load_build
from pytest_nrfdfu.sim_admin import SimAdmin

LOSS = 0.0002
"""Share of bytes dropped or flipped, half each, in each direction."""
LINE_LOSS = 0.01
"""Share of lines lost, each way."""
DAMAGE = {"bytes": {"drop_rate": LOSS / 2, "flip_rate": LOSS / 2}, "lines": {"line_loss": LINE_LOSS}}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("seed", range(3))
def test_update_over_a_bad_line_ends_verified(seed: int, damage: str, tmp_path) -> None:
    file = tmp_path / "app.signed.bin"
    file.write_bytes(firmware.signed_app())
    build = load_build(file)
    (unit,) = load(shipped_configs() / "nrf5340dk-sim.toml")
    sim = unit.config.sim.model_copy(update={"seed": seed, **DAMAGE[damage]})
    config = unit.config.model_copy(update={"sim": sim})
    pool = Pool()
    try:
        board = pool.unit(Choice("bad-line", (UnitConfig(None, config, unit.file),)))
        report = Dfu(board).update(build)
        assert report.verified
        assert report.hash == build.hash
        with SimAdmin(pool.simulator(board).admin) as admin:
            faults = admin.counters()["faults"]
    finally:
        pool.close()
    assert sum(faults.values()), "the line was not bad at all"
    assert report.retries + report.resyncs
