"""The mask brush. Only the alpha of what is painted is used; the picture itself is the stored original."""

from __future__ import annotations

import gradio as gr
from PIL import Image

from pipelines.errors import RequestError
from pipelines.images.mask import MAX_LAYERS, from_editor

PAINT = "#e5397a"  # seen on white, on black and on most pictures
PAINT_ALPHA = 0.6
MAX_LAYER_SIDE_PX = 2048  # the small copy has at most 1024


class MaskEditor(gr.ImageEditor):
    """ImageEditor without its unbounded blob endpoint."""

    is_template = True  # the page keeps using the stock widget

    def accept_blobs(self, data: object) -> None:
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
        placeholder="Drop, paste or click\nto choose a picture",
    )


def layer_files(task: str) -> gr.File:
    """Build the hidden carrier of what is painted.

    The editor itself is never the input of an event that reaches the server: Gradio 6 would from then on ask it for
    its picture, and so upload it, whenever anything on the page reports progress.
    """
    return gr.File(label="Painted", file_count="multiple", type="filepath", visible="hidden", elem_id=f"{task}-layers")


# Runs in the page before the event: the editor's value, of which only the layers go on.
LAYERS_ONLY = "(drawing) => [drawing?.layers ?? []]"


def painted_mask(files: list[str] | None, size: tuple[int, int]) -> Image.Image:
    """Read the mask from the editor's layers: L, 255 where it is painted, size as asked.

    The brush is see-through, so its alpha is scaled up to full; edges of strokes stay graded. Raises RequestError for
    files that the page itself would never send.
    """
    layers = files or []
    if len(layers) > MAX_LAYERS:
        raise RequestError(f"Mask: {len(layers)} layers are too many; the limit is {MAX_LAYERS}.", "mask")
    mask = from_editor([_layer(path) for path in layers], size)
    return mask.point([min(255, round(level / PAINT_ALPHA)) for level in range(256)])


def _layer(path: str) -> Image.Image:
    try:
        with Image.open(path, formats=("PNG",)) as image:
            if max(image.size) <= MAX_LAYER_SIDE_PX:
                return image.convert("RGBA")
    except (OSError, SyntaxError, ValueError):
        pass
    raise RequestError("Mask: the drawing cannot be read. Please paint it again.", "mask")


def tinted(picture: Image.Image, mask: Image.Image) -> Image.Image:
    """Show a kept mask in the picture as if it were painted: RGB. mask: L, any size.

    It becomes part of what the editor shows, because layers that are sent to the editor are lost while it loads the
    picture. So the eraser does not reach it.
    """
    alpha = mask.convert("L").resize(picture.size, Image.Resampling.BILINEAR)
    return Image.composite(Image.new("RGB", picture.size, PAINT), picture.convert("RGB"),
                           alpha.point([round(level * PAINT_ALPHA) for level in range(256)]))
