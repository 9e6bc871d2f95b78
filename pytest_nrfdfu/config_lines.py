"""Control lines in a board configuration: how the host drives one pin of the target."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from pytest_nrfdfu.config_numbers import check_kind

__all__ = ["CommandLine", "GpioLine", "LineConfig", "SerialLine", "Table"]


class _Strict(BaseModel):
    """Unknown keys are refused, every number is finite, and nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False)


class Table(_Strict):
    """A table of the file, whose numbers are numbers: not ``true``, and not a text."""

    @field_validator("*", mode="before")
    @classmethod
    def _numbers_are_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        check_kind(cls.model_fields[info.field_name or ""].annotation, value)
        return value


class SerialLine(_Strict):
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


class GpioLine(_Strict):
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

    @field_validator("line", mode="before")
    @classmethod
    def _offset_or_name(cls, value: Any) -> Any:
        check_kind(int | str, value)
        if isinstance(value, int) and value < 0:
            raise ValueError(f"an offset from 0 on, or a name, is needed, not {value}")
        return value

    @model_validator(mode="after")
    def _open_drain_pulls_low(self) -> GpioLine:
        if self.drive == "open-drain" and self.active == "high":
            raise ValueError('an open-drain line cannot drive a pin high: active = "high" needs drive = "push-pull"')
        return self


class CommandLine(_Strict):
    """A line that external commands drive: argument lists, run without a shell."""

    driver: Literal["command"]
    assert_: tuple[str, ...] = Field(alias="assert", min_length=1)
    release: tuple[str, ...] = Field(min_length=1)


LineConfig = Annotated[SerialLine | GpioLine | CommandLine, Field(discriminator="driver")]
