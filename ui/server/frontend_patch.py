"""Gradio's own front end, with its two slowest searches made quick.

It finds a component by walking the whole page, once for each listener and for each value that is set, and the
listeners of a component by walking all of them. On a page of 1,500 components that is half of the work of opening it.
Here each search is replaced by a table of the same answers, made once: that is possible because nothing is added to
the page after it was built (there is no gr.render). A script in which the two are not as expected stays as it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import gradio
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

ASSETS = Path(gradio.__file__).parent / "templates" / "frontend" / "assets"
SCRIPT = re.compile(r"/assets/core-[\w-]+\.js")
REPLACED = {
    # find(tree, id): the node with this id, or null
    r"function (\w+)\((\w),(\w)\)\{if\(\2\.id===\3\)return \2;if\(\2\.children\)for\(let (\w) of \2\.children\)"
    r"\{let \2=\1\(\4,\3\);if\(\2\)return \2\}return null\}":
    r"const nodes=new WeakMap,heard=new WeakMap;function \1(\2,\3){let all=nodes.get(\2);if(!all){all=new Map;"
    r"const add=(\4)=>{all.set(\4.id,\4);for(const each of \4.children??[])add(each)};add(\2);nodes.set(\2,all)}"
    r"return all.get(\3)??null}",
    # find_attached_events(node, listeners): the names of the events of a node that somebody listens to
    r"find_attached_events\((\w),(\w)\)\{let (\w)=\2\.filter\([^{};]{1,80}\)\.map\(.{1,120}?\)\.filter\(Boolean\);"
    r"return \1\.props\.shared_props\.attached_events=\3,\1\}":
    r"find_attached_events(\1,\2){let \3=heard.get(\2);if(!\3){\3=new Map;for(const one of \2)"
    r"for(const[id,event]of new Map([...one.targets].reverse()))event&&\3.set(id,[...(\3.get(id)??[]),event]);"
    r"heard.set(\2,\3)}return \1.props.shared_props.attached_events=[...(\3.get(\1.id)??[])],\1}",
}


@lru_cache(maxsize=4)  # a visitor may ask for any name
def quickened(name: str) -> bytes | None:
    """A script of the front end with its searches replaced; None when there is nothing to replace."""
    file = ASSETS / name
    if not file.is_file():
        return None
    text = file.read_text("utf-8")
    for slow, quick in REPLACED.items():
        text, count = re.subn(slow, quick, text)
        if count != 1:
            return None
    return text.encode()


@dataclass
class Quick:
    """ASGI middleware that serves these scripts in the place of Gradio's."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request for such a script, and hand every other one on."""
        if scope["type"] == "http" and SCRIPT.fullmatch(scope["path"]):
            script = quickened(Path(scope["path"]).name)
            if script is not None:
                await Response(script, media_type="text/javascript")(scope, receive, send)
                return
        await self.app(scope, receive, send)
