"""One parameter of a request, declared once, and requests made from values by name."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, Field, ValidationError
from pydantic.fields import FieldInfo

from ..errors import RequestError

Made = TypeVar("Made", bound=BaseModel)
SHOWN_INPUT = 40  # characters of a wrong value that an error repeats


def param(default: object, label: str, *, help: str, step: float | None = None, infotext: str | None = None,
          a1111: str | None = None, choices: tuple[str, ...] | None = None, **bounds: Any) -> Any:
    """Declare one parameter. bounds: pydantic's ge, le, multiple_of, max_length ..."""
    extra = {"step": step, "infotext": infotext, "a1111": a1111, "choices": choices}
    return Field(default, title=label, description=help,
                 json_schema_extra=extra,  # type: ignore[arg-type]  # choices is a tuple, which becomes a JSON list too
                 **bounds)


def extra_of(info: FieldInfo) -> dict[str, Any]:
    """What `param` kept beside pydantic's own facts: step, infotext, a1111, choices."""
    extra = info.json_schema_extra
    return extra if isinstance(extra, dict) else {}


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
        return RequestError(f"{name[:SHOWN_INPUT]}: there is no such parameter.", name[:SHOWN_INPUT])
    if fault["type"] == "string_too_long":
        most = fault["ctx"]["max_length"]
        return RequestError(f"{info.title}: {len(fault['input'])} characters are too many. At most {most}.", name)
    shown = repr(fault["input"])
    shown = shown if len(shown) <= SHOWN_INPUT else f"{shown[:SHOWN_INPUT]}..."
    return RequestError(f"{info.title}: {shown} is not possible. {fault['msg']}.", name)
