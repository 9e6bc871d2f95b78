"""Control lines in a board configuration: how the host drives one pin of the target."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["CommandLine", "GpioLine", "LineConfig", "SerialLine", "Table"]


class Table(BaseModel):
    """A table of the file: unknown keys are refused, and nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class SerialLine(Table):
    """RTS or DTR of a port that does nothing else. `active` is the level at the target's pin.

    What inverts in between (a transistor) is not known of: say the opposite then.
    """

    driver: Literal["serial"]
    port: str
    line: Literal["rts", "dtr"]
    active: Literal["low", "high"] = "low"

    @model_validator(mode="after")
    def _port_has_lines(self) -> SerialLine:
        if self.port.startswith("socket://"):
            raise ValueError(f"{self.port} has no control lines; use rfc2217:// instead of socket://")
        return self


class GpioLine(Table):
    """A line of a GPIO chip of the host, by libgpiod 2. `active` is the level at the target's pin.

    Open drain pulls the pin low or leaves it alone, so it never feeds a board without power and never fights a button;
    it can only be active low.
    """

    driver: Literal["gpiod"]
    chip: str
    """A path (``/dev/gpiochip0``) or a label."""
    line: int | str
    """An offset or a name."""
    active: Literal["low", "high"] = "low"
    drive: Literal["open-drain", "push-pull"] = "open-drain"

    @model_validator(mode="after")
    def _open_drain_pulls_low(self) -> GpioLine:
        if self.drive == "open-drain" and self.active == "high":
            raise ValueError('an open-drain line cannot drive a pin high: active = "high" needs drive = "push-pull"')
        return self


class CommandLine(Table):
    """A line that external commands drive: argument lists, run without a shell."""

    driver: Literal["command"]
    assert_: tuple[str, ...] = Field(alias="assert", min_length=1)
    release: tuple[str, ...] = Field(min_length=1)


LineConfig = Annotated[SerialLine | GpioLine | CommandLine, Field(discriminator="driver")]
