"""Sample: pictures from a run, by DDPM or DDIM, written out from the equations."""

from __future__ import annotations

from ..description import Look, Opens

ABOUT = """
Drawing is training backwards. DDPM takes every step back and adds a little fresh noise after each ("Denoising Diffusion
Probabilistic Models"); DDIM walks the same trained model in a few long strides, with as much fresh noise as *eta* says
("Denoising Diffusion Implicit Models"). A class is one vector, so two can be blended: 3:0.5,8:0.5 asks for something
between 3 and 8. The guidance scale draws once with and once without the class and goes further in that direction
("Classifier-Free Diffusion Guidance"). *Contest* lets both samplers draw and a classifier judge.
"""

LOOK = Look(
    "sample", "Sample", ABOUT, ("lab.sampling.ddpm", "lab.sampling.ddim", "lab.sampling.mixed_context"),
    front=("run_name", "label"), values={"label": "3:0.5,8:0.5"}, choices={"run_name": "runs"},
    tables=("DDPM against DDIM",), wide=True,
    opens=Opens("txt2img", "Text to image", {"steps": "steps", "guidance_scale": "guidance_scale", "eta": "eta",
                                             "seed": "seed"}))
