"""Guidance: a picture pulled towards a goal while it is made."""

from __future__ import annotations

from pipelines.demo import EXAMPLES

from ..description import Look, Opens

ABOUT = """
Anything that can be measured about a picture can steer it while it is made: at each step, ask how the predicted picture
should change to come nearer to the goal, and push a little ("Diffusion Models Beat GANs on Image Synthesis" did it with
a classifier). A reference asks for the same coarse layout ("ILVR: Conditioning Method for Denoising Diffusion
Probabilistic Models"), a text for a higher score by CLIP ("Learning Transferable Visual Models From Natural Language
Supervision"), a classifier for a class of a run that was trained here, such as digits. The gradient *through the U-Net*
is the true one and costs a backward pass a step; the short one looks at the prediction only. Each row has the same
noise, from no pull to all of it.
"""

LOOK = Look(
    "guide", "Guidance", ABOUT, ("lab.guidance.guided", "lab.guidance.towards_colour", "lab.guidance.towards_text",
                                 "lab.guidance.averaged_over_crops"),
    front=("goal", "subject", "prompt"), values={"prompt": EXAMPLES[1]["prompt"], "scale": 2.0},
    choices={"subject": "subjects", "judge": "judges"}, plots={"Weight over time": "from noise to picture"},
    tables=("What came of it",), wide=True,
    opens=Opens("txt2img", "Text to image", {name: name for name in ("prompt", "steps", "guidance_scale", "seed")}))
