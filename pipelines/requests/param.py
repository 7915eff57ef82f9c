"""One parameter of a request, declared once, and requests made from values by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypedDict, TypeVar, cast

from pydantic import BaseModel, Field, ValidationError
from pydantic.fields import FieldInfo

from ..errors import RequestError, quoted

Made = TypeVar("Made", bound=BaseModel)
SHOWN_INPUT = 40  # characters of a wrong value that an error repeats

Kind = Literal["value", "prompt", "seed", "picture", "mask", "model", "vae", "sampler", "schedule", "upscaler",
               "hires_upscaler", "path", "resolved"]
Need = Literal["own_loop", "negative_prompt", "strength"]


class Extra(TypedDict):
    """What a declaration says beside pydantic's own facts; the defaults are those of `param`.

    step: of the control.
    kind: what the value stands for; "resolved" is made from others when a request becomes concrete.
    infotext: its key in a picture's text. infotext_aliases: keys of other tools that mean it.
    words: value -> word that stands for it in that text.
    a1111: its name in AUTOMATIC1111's HTTP API.
    by_model: each model has a value of its own.
    needs: what a family must provide (Family.provides), or None for what every family follows.
    has_neutral: its default asks for nothing.
    may_be_empty: None stays None in a concrete request.
    depends_on: the field that must differ from its default before this one says anything.
    timed: how long a picture takes depends on it.
    axis_cost: of one change in a grid, 0 nothing to 4 another checkpoint; None where it cannot be an axis.
    preset: is kept in a saved preset.
    may_change: of a training run, when it goes on.
    """

    step: float | None
    kind: Kind
    infotext: str | None
    infotext_aliases: tuple[str, ...]
    words: Mapping[Any, str]
    a1111: str | None
    by_model: bool
    needs: Need | None
    has_neutral: bool
    may_be_empty: bool
    depends_on: str | None
    timed: bool
    axis_cost: int | None
    preset: bool
    may_change: bool


def param(default: Any, label: str, *, help: str, step: float | None = None, kind: Kind = "value",
          infotext: str | None = None, infotext_aliases: tuple[str, ...] = (), words: Mapping[Any, str] | None = None,
          a1111: str | None = None, by_model: bool = False, needs: Need | None = "own_loop", has_neutral: bool = True,
          may_be_empty: bool = False, depends_on: str | None = None, timed: bool = False, axis_cost: int | None = 0,
          preset: bool = True, may_change: bool = False, **bounds: Any) -> Any:
    """Declare one parameter. bounds: pydantic's ge, le, multiple_of, max_length ...; the others see Extra."""
    extra = Extra(step=step, kind=kind, infotext=infotext, infotext_aliases=infotext_aliases, words=words or {},
                  a1111=a1111, by_model=by_model, needs=needs, has_neutral=has_neutral,
                  may_be_empty=may_be_empty, depends_on=depends_on, timed=timed, axis_cost=axis_cost, preset=preset,
                  may_change=may_change)
    return Field(default, title=label, description=help, json_schema_extra=cast(dict[str, Any], extra), **bounds)


def extra_of(info: FieldInfo) -> Extra:
    """What `param` kept beside pydantic's own facts."""
    return cast(Extra, info.json_schema_extra)


def fields_of(cls: type[BaseModel], **wanted: Any) -> tuple[str, ...]:
    """Names of the fields whose declaration says this, in the order of the class: fields_of(Inpaint, kind="mask")."""
    return tuple(name for name, info in cls.model_fields.items()
                 if all(cast(dict[str, Any], extra_of(info))[key] == value for key, value in wanted.items()))


def open_seeds(request: BaseModel) -> tuple[str, ...]:
    """Seeds of a request that are still to be drawn; one that has no effect is not."""
    return tuple(name for name in fields_of(type(request), kind="seed")
                 if getattr(request, name) == -1 and _has_effect(request, name))


def _has_effect(request: BaseModel, name: str) -> bool:
    """Whether the field that this one depends on differs from its default."""
    fields = type(request).model_fields
    other = extra_of(fields[name])["depends_on"]
    return other is None or getattr(request, other) != fields[other].default


def a1111_fields(cls: type[BaseModel]) -> dict[str, str]:
    """AUTOMATIC1111's name of a field in its HTTP API -> our name."""
    return {a1111: name for name, info in cls.model_fields.items() if (a1111 := extra_of(info)["a1111"])}


def make(cls: type[Made], **values: Any) -> Made:
    """Build a request, or raise RequestError naming field, value and limit of the first fault."""
    try:
        return cls(**values)
    except ValidationError as error:
        raise _readable(cls, error) from None


def changed(request: Made, **values: Any) -> Made:
    """A copy with other values, checked (pydantic's own model_copy does not check)."""
    return make(type(request), **{**request.model_dump(), **values})


def _readable(cls: type[BaseModel], error: ValidationError) -> RequestError:
    fault = error.errors(include_url=False)[0]
    name = str(fault["loc"][0]) if fault["loc"] else ""
    info = cls.model_fields.get(name)
    if info is None:
        if ours := a1111_fields(cls).get(name):
            return RequestError(f"{name}: there is no such parameter. Here it is {ours}.", name)
        return RequestError(f"{name[:SHOWN_INPUT]}: there is no such parameter.", name[:SHOWN_INPUT])
    if fault["type"] == "string_too_long":
        most = fault["ctx"]["max_length"]
        return RequestError(f"{info.title}: {len(fault['input'])} characters are too many. At most {most}.", name)
    shown = quoted(fault["input"])
    return RequestError(f"{info.title}: {shown} is not possible. {fault['msg']}.", name)
