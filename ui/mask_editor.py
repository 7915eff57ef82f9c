"""The mask brush. Only the alpha of what is painted is used; the picture itself is the stored original."""

from __future__ import annotations

from typing import Any

import gradio as gr
from PIL import Image

PAINT = "#e5397a"  # seen on white, on black and on most pictures
PAINT_ALPHA = 0.6


class MaskEditor(gr.ImageEditor):
    """ImageEditor with a cap on layers and without its unbounded blob endpoint."""

    is_template = True  # the page keeps using the stock widget
    MAX_LAYERS = 4

    def preprocess(self, payload: Any) -> Any:
        """Read the drawing; refuses one that the page itself would never send."""
        if payload is not None and (payload.id or len(payload.layers) > self.MAX_LAYERS):
            raise gr.Error("That drawing cannot be used.", print_exception=False)
        return super().preprocess(payload)

    def accept_blobs(self, data: Any) -> None:
        """Refuse: drawings arrive as files. Not marked as a server function, so the route does not exist."""
        raise NotImplementedError


def mask_editor(task: str) -> MaskEditor:
    """Build the editor with a brush and an eraser and nothing else."""
    return MaskEditor(
        label="Picture and mask", elem_id=f"{task}-source", elem_classes=["source", "mask-editor"], type="pil",
        height=520, sources=["upload"], buttons=["fullscreen"],
        image_mode="RGBA",  # any mode without alpha turns the whole picture into mask
        format="png",  # the default webp is lossy when Python sends a picture in
        layers=False, transforms=(), fixed_canvas=False,
        brush=gr.Brush(default_size="auto", colors=[(PAINT, PAINT_ALPHA)], color_mode="fixed"),
        eraser=gr.Eraser(default_size="auto"),
        placeholder="Drop, paste or click to choose a picture, then paint what shall be drawn again",
    )


def drawing(background: str, mask: Image.Image | None = None) -> dict[str, Any]:
    """The editor's value. background: path of the small copy. mask: L, white = painted, any size."""
    if mask is None:
        return {"background": background, "layers": [], "composite": None}
    with Image.open(background) as picture:
        size = picture.size
    layer = Image.new("RGBA", size, PAINT)
    layer.putalpha(mask.convert("L").resize(size, Image.Resampling.BILINEAR).point(lambda v: round(v * PAINT_ALPHA)))
    return {"background": background, "layers": [layer], "composite": None}
