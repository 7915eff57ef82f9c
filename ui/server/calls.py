"""What an event takes, looked at before Gradio does: a wrong type is one readable sentence, and no traceback.

Gradio's components compare and index whatever comes, and fail in their own code. Here the kind of each value is
compared with that of its component; what a value may be in detail is checked where it is used.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import gradio as gr
from gradio.blocks import Block, BlockFunction
from gradio.components.api_component import Api
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .refused import Refused

CALL = re.compile(r"/gradio_api/(?:call|run)/(?:v2/)?([^/]+)")
RUN = "/gradio_api/run/"
SAID = b'{"error":"'  # how an answer begins that has words for a person; an accident has null there
JOIN = "/gradio_api/queue/join"
MAX_HASH = 200  # characters of the name that a page gives its session
SHOWN_NAME = 60


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_plain(value: object) -> bool:
    return isinstance(value, str | int | float | bool)


def is_list_of_plain(value: object) -> bool:
    return isinstance(value, list) and all(map(is_plain, value))


def is_file(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("path"), str)


def is_files(value: object) -> bool:
    return is_file(value) or isinstance(value, list) and all(map(is_file, value))


def is_edited(value: object) -> bool:
    """Whether it is what an image editor sends."""
    if not isinstance(value, dict):
        return False
    layers = value.get("layers") or []
    if not isinstance(layers, list):
        return False
    return all(picture is None or is_file(picture) for picture in (value.get("background"), value.get("composite"),
                                                                   *layers))


def is_table(value: object) -> bool:
    """Whether it is what a table sends: rows of cells, and the names of the columns."""
    if not isinstance(value, dict):
        return False
    rows, headers = value.get("data"), value.get("headers")
    return (isinstance(headers, list) and isinstance(rows, list) and all(isinstance(row, list) for row in rows))


Kind = tuple[tuple[type, ...], Callable[[object], bool], str]
KINDS: tuple[Kind, ...] = (  # the first that fits counts; None stands for no value
    ((gr.Slider, gr.Number), is_number, "a number"),
    ((gr.Checkbox,), lambda value: isinstance(value, bool | int), "true or false"),
    ((gr.ImageEditor,), is_edited, "a picture with its layers"),
    ((gr.Image,), is_file, "an uploaded picture"),
    ((gr.File, gr.UploadButton), is_files, "an uploaded file"),
    ((gr.Dataframe,), is_table, "a table"),
    ((gr.Textbox, gr.Code, gr.ColorPicker, gr.Radio, gr.Markdown, gr.HTML, gr.Button), is_plain, "a text"),
)
NEVER_EMPTY = (gr.Slider,)


@dataclass(frozen=True)
class Calls:
    """The events of a page. demo: the launched Blocks."""

    demo: gr.Blocks

    def check(self, path: str, given: object) -> bool:
        """Raise Refused for a call that names no event, or whose values are of other kinds than its inputs.

        A text that is missing becomes an empty one, which is what every handler knows; returns whether one did.
        """
        named = CALL.fullmatch(path)
        if not named and path != JOIN:
            return False
        if not isinstance(given, dict):
            raise Refused(400, "The request must be a JSON object.")
        self._check_rest(given)
        event = self._event(named[1] if named else None, given)
        if event is None:
            raise Refused(404, "There is no such event.")
        told = given.get("event_data")  # anything, such as the text of a box: only a selection is read
        if _takes_selection(event) and not (isinstance(told, dict) and {"index", "value"} <= told.keys()):
            raise Refused(422, "event_data: an index and a value are needed.")
        if named and "/v2/" in path:
            return False  # names its values; Gradio looks for each
        data = given.get("data")
        if not isinstance(data, list):
            raise Refused(422, "data: a list of values is needed.")
        inputs = [part for part in event.inputs if not part.skip_api] if named else list(event.inputs)
        if len(data) < len(inputs) or named and len(data) not in (len(inputs), len(event.inputs)):
            raise Refused(422, f"data: {len(inputs)} values are needed, and {len(data)} were sent.")
        if len(data) == len(event.inputs):
            inputs = list(event.inputs)
        is_filled = False
        for number, (part, value) in enumerate(zip(inputs, data, strict=False)):
            fault = _fault(part, value, is_due=(part._id, "upload") in event.targets)
            if fault:
                raise Refused(422, f"{_name(event, part, number)}: {fault} is needed.")
            if value is None and isinstance(part, gr.Textbox):
                data[number], is_filled = "", True
        return is_filled

    def _check_rest(self, given: Mapping[str, object]) -> None:
        """What surrounds the values."""
        session, index = given.get("session_hash"), given.get("fn_index")
        if session is not None and not (isinstance(session, str) and 0 < len(session) <= MAX_HASH):
            raise Refused(422, f"session_hash: a text of at most {MAX_HASH} characters is needed.")
        if index is not None and (not isinstance(index, int) or isinstance(index, bool)):
            raise Refused(422, "fn_index: a whole number is needed.")
        if given.get("batched"):
            raise Refused(422, "batched: there are no events that take many values at once.")

    def _event(self, name: str | None, given: Mapping[str, object]) -> BlockFunction | None:
        index = given.get("fn_index")
        if isinstance(index, int):
            return self.demo.fns.get(index)
        return next((event for event in self.demo.fns.values() if name is not None and event.api_name == name), None)


def _takes_selection(event: BlockFunction) -> bool:
    parameters = inspect.signature(event.fn).parameters.values() if event.fn else ()
    return any("SelectData" in str(each.annotation) for each in parameters)


def _fault(part: Block, value: object, is_due: bool) -> str:
    """What a component's value should have been; "" when it is. is_due: the event is that a file was uploaded."""
    if isinstance(part, gr.State):  # kept here, whatever is sent
        return ""
    if isinstance(part, Api):  # else checked as the request's field that it is
        return "" if value is None or part._api_info.get("type") != "string" or is_plain(value) else "a text"
    if value is None:
        return "a number" if isinstance(part, NEVER_EMPTY) else "an uploaded file" if is_due else ""
    if isinstance(part, gr.Dropdown):
        if part.multiselect:
            return "" if is_list_of_plain(value) else "a list of texts"
        return "" if is_plain(value) else "one text"
    for classes, fits, words in KINDS:
        if isinstance(part, classes):
            return "" if fits(value) else words
    return ""


def _name(event: BlockFunction, part: Block, number: int) -> str:
    """What to call a value: its field, or the place that it has."""
    if part.elem_id:
        return part.elem_id[:SHOWN_NAME]
    names = list(inspect.signature(event.fn).parameters) if event.fn else []
    return names[number] if number < len(names) else f"Value {number + 1}"


@dataclass
class Statuses:
    """ASGI middleware that answers 400 where Gradio says 500 for a fault of the caller that it has words for."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hold the beginning of such an answer back until its words are there."""
        held: list[Message] = []

        async def telling(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 500:
                held.append(message)
                return
            if held:
                start = held.pop()
                is_said = message.get("body", b"").replace(b" ", b"", 1).startswith(SAID)
                await send({**start, "status": 400} if is_said else start)
            await send(message)

        is_call = scope["type"] == "http" and scope["path"].startswith(RUN)
        await self.app(scope, receive, telling if is_call else send)
