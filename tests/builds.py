"""Builds for tests, as Zephyr and the nRF Connect SDK leave them: files, zip packages and build directories.

The images are real Zephyr firmware for both cores, signed by imgtool (see `firmware`). Layouts and names are those of
the nRF Connect SDK ("Output build files"; scripts/bootloader/generate_zip.py and cmake/sysbuild/zip.cmake for the
package) and of Zephyr (doc/build/sysbuild). Every writer returns the path to hand to `--build`.
"""

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import firmware
from firmware import Key, sign

NETWORK_ADDRESS = 0x0100_8800
"""Where b0n starts the network core's application (nRF Connect SDK, Partition Manager: CPUNET_PM_APP_ADDRESS)."""

MCUBOOT_CONFIG: Mapping[str, str | int | bool] = {
    "CONFIG_BOARD": "nrf5340dk",
    "CONFIG_SOC": "nrf5340",
    "CONFIG_SOC_NRF5340_CPUAPP": True,
    "CONFIG_MCUBOOT": True,
    "CONFIG_MCUBOOT_SERIAL": True,
    "CONFIG_BOOT_SERIAL_UART": True,
    "CONFIG_BOOT_SERIAL_ENTRANCE_GPIO": True,
    "CONFIG_BOOT_SERIAL_DETECT_DELAY": 0,
    "CONFIG_BOOT_MAX_LINE_INPUT_LEN": 128,
    "CONFIG_BOOT_LINE_BUFS": 8,
    "CONFIG_BOOT_SERIAL_MAX_RECEIVE_SIZE": 1024,
    "CONFIG_BOOT_ERASE_PROGRESSIVELY": True,
    "CONFIG_BOOT_SERIAL_IMG_GRP_HASH": True,
    "CONFIG_BOOT_SERIAL_IMG_GRP_IMAGE_STATE": False,
    "CONFIG_BOOT_MGMT_ECHO": False,
    "CONFIG_MCUBOOT_SERIAL_DIRECT_IMAGE_UPLOAD": False,
    "CONFIG_BOOT_SERIAL_BOOT_MODE": False,
    "CONFIG_BOOT_SERIAL_WAIT_FOR_DFU": False,
    "CONFIG_BOOT_SERIAL_PIN_RESET": False,
    "CONFIG_BOOT_SERIAL_NO_APPLICATION": False,
    "CONFIG_ZEPHYR_NRF_MODULE": True,
    "CONFIG_BOOT_SIGNATURE_TYPE_RSA": True,
    "CONFIG_BOOT_SIGNATURE_TYPE_RSA_LEN": 2048,
    "CONFIG_BOOT_SWAP_USING_MOVE": True,
    "CONFIG_UPDATEABLE_IMAGE_NUMBER": 1,
}
"""A bootloader with recovery over the DK's UART, entered by button 1: one image, no direct upload."""

APP_CONFIG: Mapping[str, str | int | bool] = {
    "CONFIG_BOARD": "nrf5340dk",
    "CONFIG_BOARD_TARGET": "nrf5340dk/nrf5340/cpuapp",
    "CONFIG_SOC": "nrf5340",
    "CONFIG_SOC_NRF5340_CPUAPP": True,
    "CONFIG_KERNEL_BIN_NAME": "zephyr",
    "CONFIG_BOOTLOADER_MCUBOOT": True,
    "CONFIG_ROM_START_OFFSET": 0x200,
    "CONFIG_FLASH_LOAD_OFFSET": firmware.SLOT_ADDRESS,
    "CONFIG_UART_CONSOLE": True,
}
"""An application for the DK that MCUboot starts."""

DTS = """/dts-v1/;
/ {
	#address-cells = < 0x1 >;
	#size-cells = < 0x1 >;
	chosen {
		zephyr,console = &uart0;
		zephyr,uart-mcumgr = &uart0;
		zephyr,flash = &flash0;
		zephyr,code-partition = &boot_partition;
	};
	aliases {
		mcuboot-button0 = &button0;
	};
	soc {
		#address-cells = < 0x1 >;
		#size-cells = < 0x1 >;
		ranges;
		peripheral@50000000 {
			#address-cells = < 0x1 >;
			#size-cells = < 0x1 >;
			ranges = < 0x0 0x50000000 0x10000000 >;
			flash_controller: flash-controller@39000 {
				compatible = "nordic,nrf53-flash-controller";
				#address-cells = < 0x1 >;
				#size-cells = < 0x1 >;
				flash0: flash@0 {
					compatible = "soc-nv-flash";
					erase-block-size = < 0x1000 >;
					write-block-size = < 0x4 >;
					reg = < 0x0 0x100000 >;
					partitions {
						compatible = "fixed-partitions";
						#address-cells = < 0x1 >;
						#size-cells = < 0x1 >;
						boot_partition: partition@0 {
							label = "mcuboot";
							reg = < 0x0 0x10000 >;
						};
						slot0_partition: partition@10000 {
							label = "image-0";
							reg = < 0x10000 0x70000 >;
						};
						slot1_partition: partition@80000 {
							label = "image-1";
							reg = < 0x80000 0x70000 >;
						};
					};
				};
			};
			uart0: uart@8000 {
				compatible = "nordic,nrf-uarte";
				reg = < 0x8000 0x1000 >;
				status = "okay";
				current-speed = < 0x1c200 >;
			};
			gpio0: gpio@842500 {
				compatible = "nordic,nrf-gpio";
				gpio-controller;
				reg = < 0x842500 0x300 >;
				port = < 0x0 >;
			};
		};
	};
	buttons {
		compatible = "gpio-keys";
		button0: button_0 {
			gpios = < &gpio0 0x17 0x11 >;
			label = "Push button 1";
		};
	};
};
"""
"""The DK's devicetree as a build writes it, cut to what matters for an update."""


# --- Images ---


def app(version: str = "1.2.3", *, key: Key | None = None, **how: Any) -> bytes:
    """The real application, signed for the DK's slot 0. `how` goes to `firmware.sign`."""
    return sign(firmware.real_firmware(), version, key=key, **how)


def net(version: str = "1.2.3", *, key: Key | None = None, **how: Any) -> bytes:
    """The real network-core firmware, signed. It is linked at 0x01000000."""
    return sign(firmware.real_network_firmware(), version, key=key, **how)


# --- Single files ---


def hex_text(*parts: tuple[int, bytes]) -> str:
    """Intel HEX of `parts`: an address and the bytes from there on."""
    import intelhex

    content = intelhex.IntelHex()
    for address, data in parts:
        content.frombytes(data, address)
    text = io.StringIO()
    content.write_hex_file(text)
    return text.getvalue()


def bin_file(path: Path, image: bytes | None = None) -> Path:
    """A signed .bin at `path`; the application by default."""
    return _write(path, app() if image is None else image)


def hex_file(path: Path, image: bytes | None = None, address: int = firmware.SLOT_ADDRESS) -> Path:
    """A signed .hex at `path`, whose first byte lies at `address`."""
    return _write(path, hex_text((address, app() if image is None else image)).encode())


# --- dfu_application.zip ---


def manifest_file(file: str, data: bytes, *, number: int = 0, **fields: Any) -> dict[str, Any]:
    """One entry of a manifest, with the fields that cmake/sysbuild/zip.cmake passes on. None leaves a field out."""
    network = number == 1
    entry = {
        "type": "application",
        "board": "nrf5340dk/nrf5340/cpunet" if network else "nrf5340dk",
        "soc": "nrf5340",
        "load_address": NETWORK_ADDRESS if network else firmware.SLOT_ADDRESS + firmware.HEADER_SIZE,
        "image_index": str(number),
        "slot_index_primary": str(2 * number + 1),
        "slot_index_secondary": str(2 * number + 2),
        "version" if network else "version_MCUBOOT": "1" if network else "1.2.3+0",
        "size": len(data),
        "file": file,
        "modtime": 1744812225,
    }
    return {key: value for key, value in (entry | fields).items() if value is not None}


def manifest(*files: Mapping[str, Any], version: Any = 1, **fields: Any) -> dict[str, Any]:
    """A manifest of `files`; None leaves a field out."""
    top = {"format-version": version, "time": 1744812240, "files": [*files], "name": "app"}
    return {key: value for key, value in (top | fields).items() if value is not None}


def zip_file(path: Path, members: Mapping[str, bytes | str], method: int = zipfile.ZIP_STORED) -> Path:
    """An archive of `members`, by name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def package(path: Path, images: Mapping[str, bytes] | None = None, *, version: int = 1) -> Path:
    """A package with `images` by member name, numbered in their order: the application first, then the network core.

    By default both cores, with the names of a sysbuild build. ``{"app_update.bin": ...,
    "net_core_app_update.bin": ...}`` and ``version=0`` make one of an older SDK.
    """
    images = {"app.signed.bin": app(), "ipc_radio.bin": net()} if images is None else images
    files = [manifest_file(name, data, number=number) for number, (name, data) in enumerate(images.items())]
    return zip_file(path, {**images, "manifest.json": json.dumps(manifest(*files, version=version), indent=4)})


# --- Build directories ---


def config_text(values: Mapping[str, str | int | bool]) -> str:
    """A .config of `values`: False is an option that is not set; numbers above 9 are hexadecimal where they are so."""
    lines = []
    for name, value in values.items():
        if value is False:
            lines.append(f"# {name} is not set")
        elif value is True:
            lines.append(f"{name}=y")
        elif isinstance(value, str):
            lines.append(f'{name}="{value}"')
        else:
            lines.append(f"{name}={hex(value) if name.endswith('OFFSET') else value}")
    return "\n".join(lines) + "\n"


def domain(
    directory: Path,
    files: Mapping[str, bytes],
    *,
    config: Mapping[str, str | int | bool] = APP_CONFIG,
    dts: str | None = DTS,
) -> Path:
    """The build directory of one domain: ``zephyr/`` with .config, zephyr.dts and `files`."""
    output = directory / "zephyr"
    _write(output / ".config", config_text(config).encode())
    if dts is not None:
        _write(output / "zephyr.dts", dts.encode())
    for name, data in files.items():
        _write(output / name, data)
    return directory


def sysbuild(
    directory: Path,
    *,
    images: Mapping[str, bytes] | None = None,
    network: bytes | None = None,
    name: str = "app",
    network_name: str = "ipc_radio",
    config: Mapping[str, str | int | bool] | None = None,
    mcuboot: Mapping[str, str | int | bool] | None = None,
    dts: str | None = DTS,
    top: Mapping[str, bytes | str] | None = None,
) -> Path:
    """A west build directory made with sysbuild.

    `images` are the files in the application's ``zephyr/``, by default a zephyr.signed.bin. With `network` there is
    signed_by_mcuboot_and_b0_`network_name`.bin too. `config` and `mcuboot` are laid over `APP_CONFIG` and
    `MCUBOOT_CONFIG`; `dts` is the bootloader's devicetree; `top` are further files at the top, such as partitions.yml.
    """
    images = {"zephyr.signed.bin": app()} if images is None else images
    domain(directory / name, images, config={**APP_CONFIG, **(config or {})}, dts=dts)
    domain(directory / "mcuboot", {}, config={**MCUBOOT_CONFIG, **(mcuboot or {})}, dts=dts)
    domains = [name, "mcuboot"]
    if network is not None:
        net_config = {"CONFIG_BOARD_TARGET": "nrf5340dk/nrf5340/cpunet", "CONFIG_SOC_NRF5340_CPUNET": True}
        domain(directory / network_name, {}, config=net_config, dts=None)
        domain(directory / "b0n", {}, config=net_config, dts=None)
        domains += [network_name, "b0n"]
        _write(directory / f"signed_by_mcuboot_and_b0_{network_name}.bin", network)
    _write(directory / "domains.yaml", domains_yaml(name, domains).encode())
    _write(directory / "build_info.yml", build_info(name, domains).encode())
    _write(directory / "zephyr" / ".config", b'SB_CONFIG_BOARD="nrf5340dk"\nSB_CONFIG_BOOTLOADER_MCUBOOT=y\n')
    for file, data in (top or {}).items():
        _write(directory / file, data if isinstance(data, bytes) else data.encode())
    return directory


def domains_yaml(default: str, names: list[str], root: str = "/home/user/app/build") -> str:
    """domains.yaml with the paths of the machine that built it, which are seldom those of the bench."""
    domains = "".join(f"  - name: {name}\n    build_dir: {root}/{name}\n" for name in names)
    return f"default: {default}\nbuild_dir: {root}\ndomains:\n{domains}flash_order:\n  - mcuboot\n  - {default}\n"


def build_info(default: str, names: list[str]) -> str:
    """build_info.yml by scripts/schemas/build-schema.yml of Zephyr."""
    kinds = {default: "MAIN", "mcuboot": "BOOTLOADER"}
    images = "".join(
        f"   - name: '{name}'\n     source-dir: '/home/user/{name}'\n     type: '{kinds.get(name, 'APPLICATION')}'\n"
        for name in names
    )
    return (
        "cmake:\n  application:\n    source-dir: '/home/user/app'\n  board:\n    name: 'nrf5340dk'\n"
        f"    qualifiers: 'nrf5340/cpuapp'\n    revision: ''\n  images:\n{images}  sysbuild: true\n"
        "  zephyr:\n    version: '4.1.0'\n    zephyr-base: '/home/user/zephyr'\nversion: '0.1.0'\n"
        "west:\n  command: 'west build'\n  version: '1.3.0'\n"
    )


def child_images(directory: Path, *, network: bytes | None = None, image: bytes | None = None) -> Path:
    """A build directory of the nRF Connect SDK before sysbuild (up to 2.6): everything in ``zephyr/``."""
    files = {"app_update.bin": app() if image is None else image}
    if network is not None:
        files["net_core_app_update.bin"] = network
    domain(directory, files)
    domain(directory / "mcuboot", {}, config=MCUBOOT_CONFIG)
    return directory


def plain(directory: Path, image: bytes | None = None) -> Path:
    """A build directory of Zephyr without sysbuild: the application alone."""
    return domain(directory, {"zephyr.signed.bin": app() if image is None else image})


def _write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path
