"""Samplers by the names people know, as data: which solver each is, and which levels it walks by itself.

AUTOMATIC1111's spelling means AUTOMATIC1111's sampler and lower case ComfyUI's; both are there where they differ. To
add one, add a row, and what other tools call it in metadata/names.py. Imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..settings import EARLIER, EARLIER_MARK
from . import library_schedulers


@dataclass(frozen=True)
class Sampler:
    """One name.

    solver: "module.function" in diffusion/solvers. options: its arguments. model_options: of its arguments, those that
    depend on the model's levels. automatic: the schedule that "Automatic" stands for; None takes the spacing that the
    checkpoint's own config names, else Uniform. group: where it stands in a list. help: what it is good for.
    twice: whether a step counts as two for a prompt that changes with the steps. order: model calls of a step, in the
    middle of a run. stochastic: draws fresh noise. brownian: takes it from one path. discards: the last level but one
    is left out, of one level more. lowest: "Automatic" ends at the model's lowest level and not at 0; so many levels
    are added for it. unit: its own levels start from noise of variance 1 + sigma^2. paired: is sent x0 with and without
    the prompt. guidance_share: what the guidance scale is multiplied by. adaptive: how many calls it takes is not known
    beforehand. fixed_levels: of a schedule, only the number of steps counts.
    """

    solver: str
    group: str
    help: str
    automatic: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    model_options: tuple[str, ...] = ()
    order: int = 1
    twice: bool = False
    stochastic: bool = False
    brownian: bool = False
    discards: bool = False
    lowest: int | None = None
    unit: bool = False
    paired: bool = False
    guidance_share: float = 1.0
    adaptive: bool = False
    fixed_levels: bool = False


_TWICE = {"order": 2, "twice": True}
_FRESH = {"stochastic": True}
_PATH = {"stochastic": True, "brownian": True}
_OWN = {"lowest": 0, "unit": True}  # levels of timesteps, as the first samplers of Stable Diffusion had them
EVERYDAY, FRESH, MORE, FEW, COMFY, GUIDED = ("Everyday", "With fresh noise", "More solvers", "Few steps", "ComfyUI's",
                                             "CFG++")

SAMPLERS: dict[str, Sampler] = {
    "Euler a": Sampler("single_step.euler_ancestral", EVERYDAY, "Soft and lively; more steps give another picture.",
                       **_FRESH),
    "Euler": Sampler("single_step.euler", EVERYDAY, "Plain and dependable; good for 20 to 30 steps."),
    "DPM++ 2M": Sampler("dpmpp.dpmpp_2m", EVERYDAY, "Sharp in 20 steps at the price of Euler.", "Karras"),
    "DPM++ 2M SDE": Sampler("dpmpp.dpmpp_2m_sde", EVERYDAY, "Rich texture; wants 25 steps or more.", "Exponential",
                            **_PATH),
    "DPM++ 2M SDE Heun": Sampler("dpmpp.dpmpp_2m_sde", FRESH, "DPM++ 2M SDE, a little sharper.", "Exponential",
                                 {"heun": True}, **_PATH),
    "DPM++ 3M SDE": Sampler("dpmpp.dpmpp_3m_sde", FRESH, "Fine texture; wants 30 steps or more.", "Exponential",
                            discards=True, **_PATH),
    "DPM++ SDE": Sampler("dpmpp.dpmpp_sde", FRESH, "Good in 10 to 15 steps, each twice as long.", "Karras", **_TWICE,
                         **_PATH),
    "DPM++ 2S a": Sampler("dpmpp.dpmpp_2s_ancestral", FRESH, "Euler a with more detail, at twice the price.", "Karras",
                          **_TWICE, **_FRESH),
    "UniPC": Sampler("exponential.unipc", EVERYDAY, "Good in 10 to 15 steps.", options={"unit_end": True},
                     lowest=1, unit=True),
    "Heun": Sampler("single_step.heun", MORE, "Euler, more exactly, at twice the price.", **_TWICE),
    "DPM2": Sampler("single_step.dpm_2", MORE, "Exact, at twice the price.", "Karras", discards=True, **_TWICE),
    "DPM2 a": Sampler("single_step.dpm_2_ancestral", FRESH, "DPM2 with fresh noise.", "Karras", discards=True, **_TWICE,
                      **_FRESH),
    "LMS": Sampler("adams.lms", MORE, "Uses earlier steps; good for 40 or more."),
    "DEIS": Sampler("adams.deis", MORE, "Good in 10 to 20 steps."),
    "DDIM": Sampler("single_step.ddim", EVERYDAY, "The first of the fast ones; steady in image to image.", "DDIM",
                    **_OWN),
    "PLMS": Sampler("adams.plms", MORE, "The first default of Stable Diffusion.", "DDIM", **_OWN),
    "DDPM": Sampler("single_step.euler_ancestral", FRESH, "How the model was trained to step; wants 50 or more.",
                    **_FRESH),
    "LCM": Sampler("few_step.lcm", FEW, "For LCM models and LoRAs: 4 to 8 steps, guidance 1 to 2.", "LCM", **_FRESH),
    "TCD": Sampler("few_step.tcd", FEW, "For TCD and Hyper LoRAs: 4 to 8 steps.", "TCD", model_options=("below",),
                   unit=True, **_FRESH),
    "DPM fast": Sampler("dpm.dpm_fast", FRESH, "Many orders in few steps; uneven.", options={"eta": 1.0},
                        fixed_levels=True, lowest=1, **_FRESH),
    "DPM adaptive": Sampler("dpm.dpm_adaptive", FRESH, "Takes as many steps as it needs; Steps has no effect.",
                            options={"eta": 1.0}, adaptive=True, fixed_levels=True, lowest=1, **_FRESH),
    "Restart": Sampler("single_step.restart", FRESH, "Goes back up and walks a part again; good from 20 steps on.",
                       "Karras", **_TWICE, **_FRESH),
    "HeunPP2": Sampler("single_step.heunpp2", MORE, "Looks two levels ahead, at three times the price.", order=3),
    "IPNDM": Sampler("adams.ipndm", MORE, "Uses three earlier steps; good in 10 to 20."),
    "IPNDM_V": Sampler("adams.ipndm_v", MORE, "IPNDM for steps of any length."),
    "res_multistep": Sampler("exponential.res_multistep", COMFY, "Sharp in few steps; made for newer models."),
    "res_multistep_ancestral": Sampler("exponential.res_multistep", COMFY, "res_multistep with fresh noise.",
                                       options={"eta": 1.0}, **_FRESH),
    "er_sde": Sampler("exponential.er_sde", COMFY, "Fresh noise that fades out; clean texture.", **_FRESH),
    "seeds_2": Sampler("exponential.seeds_2", COMFY, "Exact with fresh noise, at twice the price.", order=2, **_FRESH),
    "seeds_3": Sampler("exponential.seeds_3", COMFY, "Still more exact, at three times the price.", order=3, **_FRESH),
    "sa_solver": Sampler("exponential.sa_solver", COMFY, "Fresh noise in the middle of the run alone.",
                         model_options=("tau",), **_FRESH),
    "sa_solver_pece": Sampler("exponential.sa_solver", COMFY, "sa_solver that asks twice.",
                              options={"asks_again": True}, model_options=("tau",), order=2, **_FRESH),
    "gradient_estimation": Sampler("adams.gradient_estimation", COMFY, "Euler that overshoots a little; sharper."),
    "ipndm": Sampler("adams.ipndm", COMFY, "IPNDM that ends at the predicted picture.", options={"ends_at_x0": True}),
    "ipndm_v": Sampler("adams.ipndm_v", COMFY, "IPNDM_V that ends at the predicted picture.",
                       options={"ends_at_x0": True}),
    "uni_pc": Sampler("exponential.unipc", COMFY, "UniPC along any schedule.", options={"ends_at": 0.001},
                      discards=True),
    "uni_pc_bh2": Sampler("exponential.unipc", COMFY, "UniPC in its second form, for strong guidance.",
                          options={"ends_at": 0.001, "variant": "bh2"}, discards=True),
    "DDIM CFG++": Sampler("guided.ddim_cfg_pp", GUIDED, "DDIM that keeps the unguided noise: fewer burnt colours.",
                          "DDIM", paired=True, guidance_share=1 / 12.5, **_OWN),
    "euler_cfg_pp": Sampler("guided.euler_cfg_pp", GUIDED, "Euler with CFG++; guidance 1 to 2.", paired=True),
    "euler_ancestral_cfg_pp": Sampler("guided.euler_ancestral_cfg_pp", GUIDED, "Euler a with CFG++; guidance 1 to 2.",
                                      paired=True, **_FRESH),
    "dpmpp_2m_cfg_pp": Sampler("guided.dpmpp_2m_cfg_pp", GUIDED, "DPM++ 2M with CFG++; guidance 1 to 2.", paired=True),
    "dpmpp_2s_ancestral_cfg_pp": Sampler("guided.dpmpp_2s_ancestral_cfg_pp", GUIDED, "DPM++ 2S a with CFG++.",
                                         paired=True, **_TWICE, **_FRESH),
    "res_multistep_cfg_pp": Sampler("guided.res_multistep_cfg_pp", GUIDED, "res_multistep with CFG++.", paired=True),
    "res_multistep_ancestral_cfg_pp": Sampler("guided.res_multistep_cfg_pp", GUIDED, "The same with fresh noise.",
                                              options={"eta": 1.0}, paired=True, **_FRESH),
    "gradient_estimation_cfg_pp": Sampler("guided.gradient_estimation_cfg_pp", GUIDED, "Overshooting Euler with CFG++.",
                                          paired=True),
}

# Schedule -> what it is good for.
SCHEDULES: dict[str, str] = {
    "Automatic": "What the sampler usually takes, or what the checkpoint asks for.",
    "Karras": "Small steps where detail arises; the usual one of DPM++.",
    "Exponential": "Even steps in the logarithm of the noise; much detail.",
    "Beta": "Small steps at both ends, in the noise itself.",
    "Uniform": "Even steps in the model's own time.",
    "SGM Uniform": "Uniform that never asks the cleanest step; for Lightning models.",
    "DDIM": "Even steps that leave out the noisiest.",
    "Polyexponential": "Exponential, bent by rho.",
    "KL Optimal": "Even steps in the arc tangent of the noise; ends a little above 0.",
    "Align Your Steps": "Tuned for SD 1.5 and SDXL; good at 10 steps.",
    "Align Your Steps GITS": "Where the way bends least; good at 4 to 10 steps.",
    "Align Your Steps 11": "Align Your Steps as it was published, for 10 steps.",
    "Align Your Steps 32": "Align Your Steps down to less noise, for 30 steps.",
    "Simple": "Every so many of the model's own levels.",
    "Normal": "Uniform, under ComfyUI's name.",
    "Turbo": "Whole steps from the noisiest; for Turbo models.",
    "beta": "ComfyUI's Beta: small steps at both ends, in the model's time.",
    "kl_optimal": "ComfyUI's KL Optimal, which ends at 0.",
    "linear_quadratic": "Half the steps in the first noise; for video models.",
    **{name + EARLIER_MARK: f"As Atelier {EARLIER} meant sampler and schedule; for pictures of that version."
       for name in library_schedulers.SCHEDULES},
}
