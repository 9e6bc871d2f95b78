"""What a bootloader's devicetree says about the board: recovery pin, UART, retained boot mode, flash, partitions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

from pytest_nrfdfu.image.devicetree import Devicetree, Node, Reference
from pytest_nrfdfu.image.kconfig import Config

__all__ = [
    "ButtonFacts",
    "DtsPartition",
    "RetentionFacts",
    "UartFacts",
    "boot_mode",
    "button",
    "flash_sizes",
    "partition",
    "uart",
]

_ACTIVE_LOW = 1 << 0
_PULL_UP = 1 << 4
_PULL_DOWN = 1 << 5
"""Flags of a GPIO specifier (Zephyr, include/zephyr/dt-bindings/gpio/gpio.h)."""
_CDC_ACM = "zephyr,cdc-acm-uart"
_GPIO_PORT = re.compile(r"GPIO_([0-9])")


@dataclass(frozen=True, slots=True)
class ButtonFacts:
    """The recovery pin."""

    pin: str
    """``P0.23``; a pin of something else than the chip's own ports is called after that: ``tca9538.1``."""
    active: Literal["low", "high"]
    """The level at the pin that asks for recovery."""
    pull: Literal["up", "down"] | None = None
    """The pull resistor that the bootloader turns on."""


@dataclass(frozen=True, slots=True)
class UartFacts:
    """Where the bootloader speaks SMP."""

    node: str
    """The node's label, such as ``uart0``."""
    baudrate: int | None
    """``current-speed``; None for USB, where it has no meaning."""
    flow_control: bool
    """``hw-flow-control``: RTS and CTS are used."""
    usb: bool = False
    """A CDC ACM port of the chip's own USB, not a UART."""
    vendor_id: int | None = None
    product_id: int | None = None


@dataclass(frozen=True, slots=True)
class RetentionFacts:
    """The memory that keeps the boot mode over a reset (Zephyr, subsys/retention/retention.c)."""

    node: str
    register: int | None
    """Address of its first byte, as the bootloader sees it; on an nRF5340 0x5000551c is GPREGRET[0]."""
    size: int
    """With prefix and checksum, in bytes."""
    prefix: bytes = b""
    """What must stand in front of the mode for it to count."""
    checksum: int = 0
    """Size of the checksum behind the mode, in bytes; 0: none."""


class DtsPartition(NamedTuple):
    """A partition of the devicetree. `memory` is the label of its flash, None for the chip's own."""

    address: int
    size: int
    memory: str | None


def button(tree: Devicetree | None, config: Config) -> ButtonFacts | None:
    """The recovery pin: the alias mcuboot-button0, or the older options CONFIG_BOOT_SERIAL_DETECT_*."""
    node = tree.alias("mcuboot-button0") if tree else None
    if tree is None or node is None:
        return _button_of_options(config)
    cells = node.cells("gpios")
    if len(cells) < 3 or not isinstance(cells[0], Reference):
        return None
    controller, pin, flags = tree.find(cells[0]), cells[1], cells[2]
    if controller is None or not isinstance(pin, int) or not isinstance(flags, int):
        return None
    port = controller.number("port") if "nordic,nrf-gpio" in controller.compatible else None
    return ButtonFacts(
        f"{controller.label}.{pin}" if port is None else f"P{port}.{pin:02}",
        "low" if flags & _ACTIVE_LOW else "high",
        "up" if flags & _PULL_UP else "down" if flags & _PULL_DOWN else None,
    )


def _button_of_options(config: Config) -> ButtonFacts | None:
    """MCUboot before 2022 named the pin in Kconfig (boot/zephyr/Kconfig.serial_recovery, "DEPRECATED")."""
    pin = config.get("CONFIG_BOOT_SERIAL_DETECT_PIN")
    port = _GPIO_PORT.fullmatch(str(config.get("CONFIG_BOOT_SERIAL_DETECT_PORT", "")))
    if port is None or isinstance(pin, bool) or not isinstance(pin, int) or pin < 0:
        return None
    level = config.get("CONFIG_BOOT_SERIAL_DETECT_PIN_VAL", 0)
    return ButtonFacts(f"P{port[1]}.{pin:02}", "high" if level == 1 else "low")


def uart(tree: Devicetree, config: Config) -> UartFacts | None:
    """Where serial recovery is spoken, by the rule of MCUboot's boot/zephyr/serial_adapter.c.

    With CONFIG_BOOT_SERIAL_CDC_ACM the only CDC ACM port; otherwise the chosen zephyr,uart-mcumgr, and without it
    zephyr,console.
    """
    node: Node | None
    if config.get("CONFIG_BOOT_SERIAL_CDC_ACM") is True:
        node = next(tree.compatible_with(_CDC_ACM), None)
    else:
        node = tree.chosen("zephyr,uart-mcumgr") or tree.chosen("zephyr,console")
    if node is None:
        return None
    if _CDC_ACM in node.compatible:
        return UartFacts(
            node.label,
            None,
            flow_control=False,
            usb=True,
            vendor_id=_first_number(config, "CONFIG_BOOT_SERIAL_CDC_ACM_VID", "CONFIG_USB_DEVICE_VID"),
            product_id=_first_number(config, "CONFIG_BOOT_SERIAL_CDC_ACM_PID", "CONFIG_USB_DEVICE_PID"),
        )
    return UartFacts(node.label, node.number("current-speed"), flow_control="hw-flow-control" in node.properties)


def _first_number(config: Config, *options: str) -> int | None:
    values = (config.get(option) for option in options)
    return next((value for value in values if isinstance(value, int) and not isinstance(value, bool)), None)


def boot_mode(tree: Devicetree) -> RetentionFacts | None:
    """The retention area that zephyr,boot-mode chooses; None without one."""
    node = tree.chosen("zephyr,boot-mode")
    if node is None or node.reg is None or not node.okay:
        return None
    offset, size = node.reg
    # The area lies in a register or in retained memory, whose node, or the one around it, has the address.
    above = (parent.address for parent in node.up() if parent is not node)
    base = next((address for address in above if address is not None), None)
    return RetentionFacts(
        node.label,
        None if base is None else base + offset,
        size,
        node.octets("prefix"),
        node.number("checksum") or 0,
    )


def flash_sizes(tree: Devicetree) -> tuple[int | None, int | None]:
    """Erase page and write block of the chosen zephyr,flash, in bytes."""
    flash = tree.chosen("zephyr,flash")
    if flash is None:
        return None, None
    return flash.number("erase-block-size"), flash.number("write-block-size")


def partition(tree: Devicetree, label: str) -> DtsPartition | None:
    """The partition with a label such as ``slot0_partition``; its address is that within its flash."""
    node = tree.find(label)
    if node is None or node.reg is None:
        return None
    own = tree.chosen("zephyr,flash")
    around = [parent for parent in node.up() if parent is not node]
    memory = next((parent for parent in around if "partitions" not in parent.name), None)
    inside = own is None or own in around or memory is None
    return DtsPartition(*node.reg, None if inside or memory is None else memory.label)
