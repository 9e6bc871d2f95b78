"""What goes where, and what is refused before the board is touched: configuration and bootloader against the build."""

from dataclasses import replace

import builds
import firmware
import pytest
import simulator

from pytest_nrfdfu.board.plan import (
    Step,
    check_signatures,
    check_way_back,
    is_network_core,
    misfit,
    plan,
    profile_for,
    step_for,
)
from pytest_nrfdfu.config import BoardConfig
from pytest_nrfdfu.errors import ConfigError, ImageError
from pytest_nrfdfu.image.bootloader import PROFILES
from pytest_nrfdfu.image.build import load

SMALL_BODY = b"\x00\x00\x08\x20\x01\x02\x01\x00" + bytes(2000)
"""A vector table that points into slot 0, behind the header."""
NET_BODY = b"\x00\x00\x00\x21\x01\x90\x00\x01" + bytes(2000)
"""One that points behind b0n, in the network core's flash."""
TWO_IMAGES = {"CONFIG_UPDATEABLE_IMAGE_NUMBER": 2}
DIRECT = {"CONFIG_MCUBOOT_SERIAL_DIRECT_IMAGE_UPLOAD": True}
GPIO = {"driver": "command", "assert": ["on"], "release": ["off"]}


def app_image():
    return simulator.make_image("1.2.3", 2000)


def net_image():
    return firmware.sign(NET_BODY, "2.0.0", slot_size=0x40000)


def real(**tables):
    """A board that is not simulated, with a serial recovery line, whose lines say their level."""
    line = {"driver": "serial", "port": "/dev/ttyS7", "line": "rts", "active": "low"}
    recovery = {"entry": ["gpio"], "line": line} | tables.pop("recovery", {})
    return BoardConfig.model_validate(
        {
            "board": "dk",
            "uart": {"port": "/dev/ttyS8"} | tables.pop("uart", {}),
            "probe": {"unique_id": "1"},
            "recovery": recovery,
            **tables,
        }
    )


def sim(**tables):
    return BoardConfig.model_validate({"board": "sim", "sim": {}, **tables})


@pytest.fixture
def sysbuild(tmp_path):
    def make(**how):
        images = {"zephyr.signed.bin": app_image()}
        return load(builds.sysbuild(tmp_path / "build", images=images, **how))

    return make


@pytest.fixture
def app(tmp_path):
    return load(builds.bin_file(tmp_path / "app.bin", app_image()))


@pytest.fixture
def net(tmp_path):
    return load(builds.bin_file(tmp_path / "net.bin", net_image()))


# --- steps ----------------------------------------------------------------------------------------------------------


def test_an_application_is_number_0(app):
    (step,) = plan(app, real())
    assert (step.name, step.number, step.ask, step.warning, step.network_core) == ("app", 0, False, None, False)
    (step,) = plan(app, real(images={"app": {"upload": 5}}))
    assert step.number == 5


@pytest.mark.parametrize(("mcuboot", "number"), [(TWO_IMAGES, 1), (TWO_IMAGES | DIRECT, 3), (DIRECT, 3)])
def test_the_builds_bootloader_tells_the_network_cores_number(sysbuild, mcuboot, number):
    steps = plan(sysbuild(network=net_image(), mcuboot=mcuboot), real())
    assert [(step.name, step.number, step.ask) for step in steps] == [("net", number, False), ("app", 0, False)]
    assert [step.network_core for step in steps] == [True, False]


def test_the_builds_bootloader_has_no_number(sysbuild):
    build = sysbuild(network=net_image())
    with pytest.raises(ImageError, match=r"one image and without CONFIG_MCUBOOT_SERIAL_DIRECT_IMAGE_UPLOAD has no"):
        plan(build, real())


def test_a_bare_file_has_to_ask(net):
    """Neither build nor configuration tells; the profile's guess does not count."""
    (step,) = plan(net, real())
    assert (step.name, step.number, step.ask) == ("net", None, True)
    rows = [(0, 0, None), (0, 1, 1), (1, 0, None), (1, 1, 3)]
    assert step.asked(rows, PROFILES["ncs-2.6"]).number == 1
    assert step.asked([(0, 0, 1), (0, 1, 2), (1, 0, 3), (1, 1, 4)], PROFILES["ncs-2.6"]).number == 3
    with pytest.raises(ImageError, match=r"is not known for bootloader ncs-2\.6.*upload in \[images\.net\]"):
        step.asked([], PROFILES["ncs-2.6"])


@pytest.mark.parametrize(
    ("bootloader", "number"),
    [({"direct_upload": True}, 3), ({"direct_upload": False, "images": 2}, 1), ({"images": 2}, None)],
)
def test_the_configuration_tells(net, bootloader, number):
    """With two images alone both numbers are possible, so it is asked."""
    (step,) = plan(net, real(bootloader=bootloader))
    assert (step.number, step.ask) == (number, number is None)


@pytest.mark.parametrize(
    ("bootloader", "upload"),
    [
        ({"direct_upload": True}, 0),
        ({"direct_upload": True}, 1),
        ({"direct_upload": True}, 2),
        ({"direct_upload": False, "images": 1}, 1),
        ({"direct_upload": False, "images": 2}, 0),
        ({}, 0),
    ],
)
def test_a_slot_of_the_application_is_not_for_the_network_core(net, bootloader, upload):
    with pytest.raises(ImageError, match=rf"upload number {upload} means a slot of the application.*force = true"):
        plan(net, real(bootloader=bootloader, images={"net": {"upload": upload}}))
    (step,) = plan(net, real(bootloader=bootloader, images={"net": {"upload": upload, "force": True}}))
    assert (step.name, step.number) == ("net", upload)


def test_the_network_core_has_a_slot_too(net):
    with pytest.raises(ImageError, match="and the slot 1024"):
        plan(net, real(bootloader={"direct_upload": True}, images={"net": {"slot_size": 1024}}))


def test_another_image_needs_a_number(app):
    """Names that are neither core's mean nothing to the bootloader."""
    profile = PROFILES["ncs-2.6"]
    with pytest.raises(ImageError, match=r"image 'modem' is uploaded with: add upload = N to an \[images\.modem\]"):
        step_for("modem", app.image, real(), profile)
    step = step_for("modem", app.image, real(images={"modem": {"upload": 2}}), profile)
    assert (step.name, step.number) == ("modem", 2)


def test_recovery_alone_knows_the_network_core_by_its_address(app, net):
    assert is_network_core(net.image)
    assert not is_network_core(app.image)
    board = real(bootloader={"direct_upload": True})
    step = step_for("app", net.image, board, profile_for(board, None))
    assert (step.name, step.number) == ("net", 3)


# --- the build against the configuration ----------------------------------------------------------------------------


def test_a_build_that_fits(sysbuild):
    assert misfit(sysbuild(), real()) is None


PIN_RESET = {"entry": ["pin-reset"]}


@pytest.mark.parametrize(
    ("how", "tables", "phrase"),
    [
        ({}, {"recovery": PIN_RESET}, 'recovery.entry has "pin-reset", *CONFIG_BOOT_SERIAL_PIN_RESET=y for MCUboot*'),
        (
            {"mcuboot": {"CONFIG_BOOT_SERIAL_ENTRANCE_GPIO": False, "CONFIG_BOOT_SERIAL_PIN_RESET": True}},
            {},
            'recovery.entry has "gpio", *Set CONFIG_BOOT_SERIAL_ENTRANCE_GPIO=y*',
        ),
        ({"mcuboot": {"CONFIG_MCUBOOT_SERIAL": False}}, {}, "*has no serial recovery*"),
        ({}, {"uart": {"baudrate": 1_000_000}}, "uart.baudrate is 1000000, *at 115200 baud*"),
        (
            {},
            {"recovery": {"line": {"driver": "serial", "port": "/dev/ttyS7", "line": "rts", "active": "high"}}},
            'recovery.line.active is "high", *is active low*',
        ),
    ],
    ids=["pin-reset", "gpio", "no recovery", "baudrate", "level"],
)
def test_configuration_against_the_builds_bootloader(sysbuild, how, tables, phrase):
    from fnmatch import fnmatchcase

    build = sysbuild(**how)
    with pytest.raises(ConfigError) as caught:
        plan(build, real(**tables))
    assert fnmatchcase(str(caught.value), phrase)
    assert misfit(build, real(**tables)) == str(caught.value)
    assert misfit(build, sim()) is None  # its bootloader is what the simulator was started with


def test_what_agrees_is_taken(sysbuild):
    """The other sides of the refusals above."""
    mcuboot = {"CONFIG_BOOT_SERIAL_PIN_RESET": True}
    assert misfit(sysbuild(mcuboot=mcuboot), real(recovery=PIN_RESET)) is None
    assert misfit(sysbuild(), real(recovery={"entry": ["smp"]})) is None
    assert misfit(sysbuild(), real(recovery={"line": GPIO})) is None  # commands do not say their level
    fast = builds.DTS.replace("0x1c200", hex(1_000_000))
    assert misfit(sysbuild(dts=fast), real(uart={"baudrate": 1_000_000})) is None


def test_a_build_for_another_chip(sysbuild, app, tmp_path):
    other = {"CONFIG_BOARD_TARGET": "nrf52840dk/nrf52840", "CONFIG_SOC": "nrf52840", "CONFIG_SOC_NRF5340_CPUAPP": False}
    for board in (real(), sim()):
        with pytest.raises(ImageError, match=r"is for nrf52840dk/nrf52840 \(chip nrf52840\), and board"):
            plan(sysbuild(config=other), board)
    data = app_image()
    entry = builds.manifest_file("app.bin", data, board="nrf9160dk", soc="nrf9160")
    text = builds.json.dumps(builds.manifest(entry))
    package = load(builds.zip_file(tmp_path / "other.zip", {"app.bin": data, "manifest.json": text}))
    assert "is for nrf9160dk (chip nrf9160)" in str(misfit(package, real()))


def test_a_hex_at_another_address(tmp_path):
    path = builds.hex_file(tmp_path / "app.hex", app_image(), 0x20000)
    tables = {"images": {"app": {"slot_address": 0x10000, "slot_size": 0x70000}}}
    assert "it begins at 0x20000" in str(misfit(load(path), real(**tables)))
    assert misfit(load(path), real()) is None  # nobody tells where the slot is
    right = load(builds.hex_file(tmp_path / "right.hex", app_image()))
    assert misfit(right, real(**tables)) is None


def test_the_slot_of_the_build_counts_where_the_configuration_has_none(sysbuild):
    small = builds.DTS.replace("0x10000 0x70000", "0x10000 0x1000")
    build = sysbuild(dts=small)
    assert "the slot 4096" in str(misfit(build, real())) or "slot's 4096" in str(misfit(build, real()))
    assert misfit(build, real(images={"app": {"slot_address": 0x10000, "slot_size": 0x70000}})) is None


def test_an_application_that_would_not_run_there(app):
    elsewhere = {"app": {"slot_address": 0x80000, "slot_size": 0x70000}}
    assert "allow_link_address = true" in str(misfit(app, real(images=elsewhere)))
    assert misfit(app, real(images={"app": elsewhere["app"] | {"allow_link_address": True}})) is None
    (step,) = plan(app, sim(images=elsewhere))
    assert "would not run from the slot at 0x80000" in step.warning


# --- the profile, and keys ------------------------------------------------------------------------------------------


def test_configuration_over_build_over_profile(sysbuild, app):
    facts = sysbuild(mcuboot={"CONFIG_BOOT_SERIAL_MAX_RECEIVE_SIZE": 4096, "CONFIG_BOOT_LINE_BUFS": 16}).facts
    assert profile_for(real(), facts).receive_size == 4096
    told = profile_for(real(bootloader={"profile": "ncs-2.2", "receive_size": 512}), facts)
    assert (told.receive_size, told.line_buffers) == (512, 16)
    assert profile_for(real(bootloader={"profile": "ncs-2.2"}), app.facts) == PROFILES["ncs-2.2"]
    assert profile_for(sim(), facts) == PROFILES["ncs-2.6"]  # the simulator's own, whatever was built


def test_every_image_is_checked_with_the_key(tmp_path):
    app = firmware.sign(SMALL_BODY, key="ecdsa-p256")
    images = {"app.bin": app, "net.bin": firmware.sign(NET_BODY, key="ed25519", slot_size=0x40000)}
    build = load(builds.package(tmp_path / "both.zip", images))
    key = real(bootloader={"public_key": firmware.private_key("ecdsa-p256"), "direct_upload": True})
    assert "net.bin is signed with Ed25519" in str(misfit(build, key))
    alone = replace(build, images={"app": build.images["app"]})
    assert misfit(alone, key) is None
    assert check_signatures(alone, key)
    assert not check_signatures(alone, real())


# --- the way back ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recovery", "direct", "number", "refused"),
    [
        ({"entry": ["smp"]}, False, 0, True),
        ({"entry": ["smp"]}, True, 0, True),
        ({"entry": ["smp"]}, True, 1, True),
        ({"entry": ["smp"]}, True, 2, False),  # slot 1: the application stays
        ({"entry": ["smp"]}, False, 2, True),
        ({"entry": ["smp"], "allow_no_way_back": True}, False, 0, False),
        ({"entry": ["smp", "manual"]}, False, 0, False),
        ({"entry": ["gpio"]}, False, 0, False),
    ],
)
def test_an_upload_needs_a_way_back(tmp_path, recovery, direct, number, refused):
    path = tmp_path / "app.signed.bin"
    path.write_bytes(app_image())
    image = load(path).image
    config = BoardConfig.model_validate({"board": "sim", "sim": {}, "recovery": recovery})
    profile = replace(config.bootloader.resolve(), direct_upload=direct)
    step = Step("app", image, number)
    if refused:
        with pytest.raises(ConfigError, match="allow_no_way_back"):
            check_way_back(step, config, profile)
    else:
        check_way_back(step, config, profile)
