"""What a page of the lab says of itself: its words with links to the papers, and the lines of the engine that matter.

The lines are read from the engine's files as they are, without importing them: that would import torch.
"""

from __future__ import annotations

import ast
import textwrap
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

ENGINE = Path(__file__).parents[3] / "pipelines"
PAPERS = {
    "Classifier-Free Diffusion Guidance": "2207.12598",
    "Common Diffusion Noise Schedules and Sample Steps are Flawed": "2305.08891",
    "Denoising Diffusion Implicit Models": "2010.02502",
    "Denoising Diffusion Probabilistic Models": "2006.11239",
    "Diffusion Models Beat GANs on Image Synthesis": "2105.05233",
    "8-bit Optimizers via Block-wise Quantization": "2110.02861",
    "Efficient Diffusion Training via Min-SNR Weighting Strategy": "2303.09556",
    "Elucidating the Design Space of Diffusion-Based Generative Models": "2206.00364",
    "High-Resolution Image Synthesis with Latent Diffusion Models": "2112.10752",
    "ILVR: Conditioning Method for Denoising Diffusion Probabilistic Models": "2108.02938",
    "Improved Denoising Diffusion Probabilistic Models": "2102.09672",
    "Learning Transferable Visual Models From Natural Language Supervision": "2103.00020",
    "LoRA: Low-Rank Adaptation of Large Language Models": "2106.09685",
    "Progressive Distillation for Fast Sampling of Diffusion Models": "2202.00512",
    "Training Deep Nets with Sublinear Memory Cost": "1604.06174",
    "U-Net: Convolutional Networks for Biomedical Image Segmentation": "1505.04597",
    "What the DAAM: Interpreting Stable Diffusion Using Cross Attention": "2210.04885",
}
MOST_LINES = 40


@dataclass(frozen=True)
class Opens:
    """The real tab for what a page shows. fields: of the page -> of the tab. picture: the field that goes along."""

    tab: str
    label: str
    fields: dict[str, str] = field(default_factory=dict)
    picture: str = ""


@dataclass(frozen=True)
class Look:
    """One page of the lab.

    name: its request's, in PAGES. about: what is seen, with the papers by title in quotes. code: the lines that
    matter, as "module.name" of pipelines, such as "lab.sampling.ddim". front: fields above Run; the others follow
    below, those in `more` folded away. values: what differs from the fields' defaults. choices: field -> method of the
    studio's lab shelf that lists what may be chosen. plots: title -> name of its x axis. tables: titles. wide: its
    pictures are sheets and animations, shown one at a time. seeded: whether anything in it is random.
    """

    name: str
    label: str
    about: str
    code: tuple[str, ...]
    front: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    values: dict[str, Any] = field(default_factory=dict)
    choices: dict[str, str] = field(default_factory=dict)
    plots: dict[str, str] = field(default_factory=dict)
    tables: tuple[str, ...] = ()
    wide: bool = False
    seeded: bool = True
    opens: Opens | None = None


def linked(about: str) -> str:
    """The words with every paper's title as a link to it."""
    text = " ".join(about.split())
    for title, number in PAPERS.items():
        text = text.replace(f'"{title}"', f"[{title}](https://arxiv.org/abs/{number})")
    return text


def code_of(names: tuple[str, ...]) -> str:
    """The source of functions and classes, without their docstrings."""
    return "\n\n".join(f"# {_file(name).relative_to(ENGINE.parent).as_posix()}\n{_source(name)}" for name in names)


def _file(name: str) -> Path:
    """Of "lab.guidance.guided.steer" the file of lab.guidance."""
    parts = name.split(".")
    return next(path for end in range(len(parts), 0, -1)
                if (path := ENGINE.joinpath(*parts[:end]).with_suffix(".py")).is_file())


@cache
def _source(name: str) -> str:
    file = _file(name)
    inside = name.split(".")[len(file.relative_to(ENGINE).with_suffix("").parts):]
    text = file.read_text("utf-8")
    node: Any = ast.parse(text)
    for part in inside:
        node = next(child for child in node.body if getattr(child, "name", "") == part)
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    lines = text.splitlines()[first - 1:node.end_lineno]
    if ast.get_docstring(node) is not None:
        quoted = node.body[0]
        del lines[quoted.lineno - first:quoted.end_lineno - first + 1]
    while len(lines) > 1 and not lines[-1].strip():
        lines.pop()
    return textwrap.dedent("\n".join(lines[:MOST_LINES]))
