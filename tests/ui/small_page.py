"""A page just large enough to try the server on: text, a picture, an error."""

from typing import Any

from tests.ui import web

SECRET_DETAIL = "/srv/inside/of/the/server.py"


def small_page() -> Any:
    """Build a Blocks with the endpoints /echo, /size, /who and /fail."""
    import gradio as gr

    def who(request: gr.Request) -> str:
        return request.client.host

    with gr.Blocks(title="small", analytics_enabled=False) as demo:
        text, answer, picture = gr.Textbox(), gr.Textbox(), gr.Image(type="pil", format="png")
        gr.Button().click(lambda value: value, text, answer, api_name="echo")
        gr.Button().click(lambda image: f"{image.width}x{image.height}", picture, answer, api_name="size")
        gr.Button().click(who, None, answer, api_name="who")
        gr.Button().click(_fail, None, answer, api_name="fail")
    return demo


def _fail() -> str:
    raise RuntimeError(f"the secret is in {SECRET_DETAIL}")


def call(url: str, name: str, data: list[Any], **headers: str) -> str:
    """Call an endpoint as gradio_client does; return the answer's event stream."""
    joined = web.post(f"{url}gradio_api/call/{name}", json={"data": data}, headers=headers)
    if joined.status_code != 200:
        return f"{joined.status_code} {joined.text}"
    return web.get(f"{url}gradio_api/call/{name}/{joined.json()['event_id']}", headers=headers).text


def upload(url: str, content: bytes, name: str = "a.png") -> str:
    """Upload a file; return the path that Gradio gave it."""
    return web.post(f"{url}gradio_api/upload", files={"files": (name, content)}).json()[0]


def file_data(path: str) -> dict[str, Any]:
    """Describe an uploaded file as the page does."""
    return {"path": path, "meta": {"_type": "gradio.FileData"}}
