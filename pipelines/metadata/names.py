"""What other tools call samplers and schedules, and ours for them.

Names are compared without blanks, underscores and letter case, with + as p: "DPM++ 2M", "dpmpp_2m" and "k_dpmpp_2m"
are one, unless a name stands as it is in _AS_WRITTEN. To add a name, add a row; None means that the tool's solver is
known and nothing here is like it.
"""

from __future__ import annotations

from ..errors import quoted
from ..requests import SHOWN_INPUT
from .fields import Draft

# As AUTOMATIC1111 writes them behind a sampler's name; longest first: "SGM Uniform" is not "Uniform".
_WEBUI_SCHEDULES = ("Align Your Steps GITS", "Align Your Steps 11", "Align Your Steps 32", "Align Your Steps",
                    "Polyexponential", "SGM Uniform", "Exponential", "KL Optimal", "Automatic", "Uniform", "Karras",
                    "Simple", "Normal", "Turbo", "Beta", "DDIM")

_SAMPLERS: dict[str, str | None] = {
    "euler": "Euler", "eulera": "Euler a", "eulerancestral": "Euler a", "heun": "Heun", "lms": "LMS", "lmsd": "LMS",
    "dpm2": "DPM2", "kdpm2": "DPM2", "dpm2a": "DPM2 a", "dpm2ancestral": "DPM2 a", "kdpm2a": "DPM2 a",
    "dpmpp2m": "DPM++ 2M", "dpmpp2": "DPM++ 2M", "dpmpp2msde": "DPM++ 2M SDE", "dpmpp2msdeheun": "DPM++ 2M SDE Heun",
    "dpmpp3msde": "DPM++ 3M SDE", "dpmppsde": "DPM++ SDE", "unipc": "UniPC", "unipcbh2": "uni_pc_bh2", "deis": "DEIS",
    "ddim": "DDIM", "ddimv3": "DDIM", "ddimcfgpp": "DDIM CFG++", "plms": "PLMS", "pndm": "PLMS", "ddpm": "DDPM",
    "lcm": "LCM", "tcd": "TCD", "dpmfast": "DPM fast", "dpmadaptive": "DPM adaptive", "restart": "Restart",
    "dpmpp2sa": "DPM++ 2S a", "dpmpp2sancestral": "DPM++ 2S a", "heunpp2": "HeunPP2", "ipndm": "IPNDM",
    "ipndmv": "IPNDM_V", "eulercfgpp": "euler_cfg_pp", "eulerancestralcfgpp": "euler_ancestral_cfg_pp",
    "dpmpp2mcfgpp": "dpmpp_2m_cfg_pp", "dpmpp2sancestralcfgpp": "dpmpp_2s_ancestral_cfg_pp",
    "resmultistep": "res_multistep", "resmultistepancestral": "res_multistep_ancestral",
    "resmultistepcfgpp": "res_multistep_cfg_pp", "resmultistepancestralcfgpp": "res_multistep_ancestral_cfg_pp",
    "gradientestimation": "gradient_estimation", "gradientestimationcfgpp": "gradient_estimation_cfg_pp",
    "ersde": "er_sde", "seeds2": "seeds_2", "seeds3": "seeds_3", "sasolver": "sa_solver",
    "sasolverpece": "sa_solver_pece",
    **dict.fromkeys((
        "dpmpp2s", "dpmpp2ancestral", "dpmpp1s", "dpmpp3m", "eulerasubstep", "dpmppsdesubstep", "eulermax", "euleredm",
        "dpmpp2medm", "dpmsolverstability", "unipcsnr", "unipctu", "unipctq", "unipcsnr2", "unipctu2"))}

_SCHEDULES: dict[str, str | None] = {
    "automatic": "Automatic", "default": "Automatic", "native": "Automatic", "karras": "Karras",
    "exponential": "Exponential", "beta": "Beta", "betas": "Beta", "uniform": "Uniform", "normal": "Normal",
    "linspace": "Uniform", "sgmuniform": "SGM Uniform", "simple": "Simple", "trailing": "Turbo", "turbo": "Turbo",
    "ddim": "DDIM", "ddimuniform": "DDIM", "leading": "DDIM", "polyexponential": "Polyexponential",
    "kloptimal": "KL Optimal", "alignyoursteps": "Align Your Steps", "ays": "Align Your Steps",
    "alignyourstepsgits": "Align Your Steps GITS", "gits": "Align Your Steps GITS",
    "alignyoursteps11": "Align Your Steps 11", "alignyoursteps32": "Align Your Steps 32",
    "linearquadratic": "linear_quadratic",
    **dict.fromkeys(("lcm", "tcd", "edmplaygroundv2.5", "flowmatch", "lambdas"))}

# ComfyUI's names that would be another's without their case and underscores, and mean other numbers.
_AS_WRITTEN = {"ipndm", "ipndm_v", "uni_pc", "uni_pc_bh2", "beta", "kl_optimal"}
# How other tools mark a schedule at the end of a sampler's name.
_TAILS = {"_k": "Karras", " trailing": "SGM Uniform", " ays": "Align Your Steps"}
_BETWEEN = " _-/,;:|(+"  # what stands between a sampler and a schedule written as one name


def schedule_behind(sampler: str) -> tuple[str, str | None]:
    """Split "DPM++ 2M Karras", as older versions write it, into sampler and schedule."""
    tail = next((s for s in _WEBUI_SCHEDULES if sampler.casefold().endswith(f" {s.casefold()}")), None)
    return (sampler[:-len(tail)].strip(), tail) if tail else (sampler, None)


def _joined(name: str) -> tuple[str, str] | None:
    """Split a known sampler and a known schedule that are written as one name, such as "deis_sgm_uniform"."""
    name = name[:SHOWN_INPUT].strip(" )")
    for at in range(1, len(name)):
        sampler, schedule = name[:at].rstrip(_BETWEEN), name[at:].lstrip(_BETWEEN)
        apart = len(sampler) + len(schedule) < len(name)  # "Euler" and "a" are no sampler with a schedule
        if apart and _squashed(sampler) in _SAMPLERS and _squashed(schedule) in _SCHEDULES:
            return sampler, schedule
    return None


def spelled(schedule: str) -> str:
    """Return AUTOMATIC1111's spelling of a schedule, or the name itself."""
    if schedule in _AS_WRITTEN:
        return schedule
    written = _squashed(schedule)
    return next((name for name in _WEBUI_SCHEDULES if _squashed(name) == written), schedule)


def _squashed(name: str) -> str:
    name = name[:SHOWN_INPUT].casefold().strip()
    return name.removeprefix("k_").removesuffix("_gpu").translate({32: None, 95: None, 43: "p"})


def rename(draft: Draft) -> None:
    """Put our names for the samplers and schedules of a draft; what has none leaves its pairs."""
    for sampler_key, schedule_key in (("Sampler", "Schedule type"), ("Hires sampler", "Hires schedule type")):
        _split_tail(draft, sampler_key, schedule_key)
        _rename(draft, sampler_key, "Sampler", _SAMPLERS)
        _rename(draft, schedule_key, "Schedule", _SCHEDULES)


def _split_tail(draft: Draft, sampler_key: str, schedule_key: str) -> None:
    pairs = draft.pairs
    sampler = pairs.get(sampler_key, "")
    if _squashed(sampler) in _SAMPLERS:
        return
    name, schedule = schedule_behind(sampler)
    if tail := next((tail for tail in _TAILS if sampler.casefold().endswith(tail)), None):
        name, schedule = sampler[:-len(tail)], _TAILS[tail]
    if not schedule or _squashed(name) not in _SAMPLERS:
        name, schedule = _joined(sampler) or (name, None)
    if not schedule:
        return
    pairs[sampler_key] = name
    if _squashed(pairs.get(schedule_key, "automatic")) == "automatic":
        pairs[schedule_key] = schedule
    elif _squashed(pairs[schedule_key]) != _squashed(schedule):
        draft.notes.append(f"Schedule: the sampler's name {quoted(sampler)} says another one than "
                           f"{quoted(pairs[schedule_key])}, which is taken.")


def _rename(draft: Draft, key: str, title: str, table: dict[str, str | None]) -> None:
    """Put our name, or take out one that is unknown or without an equivalent."""
    name = draft.pairs.get(key)
    if name is None or name.startswith("Use same"):
        return
    ours = name if name in _AS_WRITTEN else table.get(_squashed(name))
    if ours:
        draft.pairs[key] = ours
        return
    del draft.pairs[key]
    if _squashed(name) in table:
        draft.notes.append(f"{title}: {quoted(name)} has no equivalent here.")
    else:
        draft.unknown[key] = name
