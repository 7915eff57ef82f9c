import pytest

from pipelines.generation import samplers
from pipelines.metadata import parse_any
from pipelines.metadata.fields import Draft
from pipelines.metadata.names import _AS_WRITTEN, _SAMPLERS, _SCHEDULES, rename

# As the tools' own lists have them.
COMFYUI = ("euler", "euler_ancestral", "heun", "dpm_2", "dpm_2_ancestral", "lms", "dpm_fast", "dpm_adaptive",
           "dpmpp_2s_ancestral", "dpmpp_sde", "dpmpp_sde_gpu", "dpmpp_2m", "dpmpp_2m_sde", "dpmpp_2m_sde_gpu",
           "dpmpp_3m_sde", "dpmpp_3m_sde_gpu", "ddpm", "lcm", "ipndm", "ipndm_v", "deis", "ddim", "uni_pc",
           "uni_pc_bh2", "heunpp2", "euler_cfg_pp", "res_multistep")
COMFYUI_SCHEDULES = ("normal", "karras", "exponential", "sgm_uniform", "simple", "ddim_uniform", "beta",
                     "linear_quadratic", "kl_optimal")
INVOKEAI = ("ddim", "ddpm", "deis", "lms", "lms_k", "pndm", "heun", "heun_k", "euler", "euler_k", "euler_a", "kdpm_2",
            "kdpm_2_a", "dpmpp_2s", "dpmpp_2s_k", "dpmpp_2m", "dpmpp_2m_k", "dpmpp_2m_sde", "dpmpp_2m_sde_k",
            "dpmpp_3m", "dpmpp_sde", "dpmpp_sde_k", "unipc", "lcm", "tcd", "k_lms", "k_euler_a", "k_dpm_2_a", "plms")
NOVELAI = ("k_euler", "k_euler_ancestral", "k_dpmpp_2s_ancestral", "k_dpmpp_2m", "k_dpmpp_2m_sde", "k_dpmpp_sde",
           "ddim_v3", "ddim", "plms", "k_dpm_2", "k_dpm_fast")
WEBUI = ("DPM++ 2M", "DPM++ SDE", "DPM++ 2M SDE", "DPM++ 2M SDE Heun", "DPM++ 2S a", "DPM++ 3M SDE", "Euler a", "Euler",
         "LMS", "Heun", "DPM2", "DPM2 a", "DPM fast", "DPM adaptive", "Restart", "DDIM", "DDIM CFG++", "PLMS", "UniPC",
         "LCM", "IPNDM", "DEIS", "DDPM", "HeunPP2")
WEBUI_SCHEDULES = ("Automatic", "Uniform", "Karras", "Exponential", "Polyexponential", "SGM Uniform", "KL Optimal",
                   "Align Your Steps", "Simple", "Normal", "DDIM", "Beta", "Turbo", "Align Your Steps GITS")
NEW = [schedule for schedule in samplers.SCHEDULES if not samplers.is_earlier(schedule)]


def renamed(sampler, schedule=None):
    pairs = {"Sampler": sampler} | ({"Schedule type": schedule} if schedule else {})
    draft = Draft(pairs=pairs)
    rename(draft)
    return draft


def test_every_name_in_the_tables_is_one_of_ours():
    ours = {*samplers.SAMPLERS, *NEW}
    named = {name for table in (_SAMPLERS, _SCHEDULES) for name in table.values() if name} | _AS_WRITTEN
    assert ours == named


@pytest.mark.parametrize("name", [*samplers.SAMPLERS, *NEW])
def test_a_name_of_ours_is_read_as_itself(name):
    key = "Sampler" if name in samplers.SAMPLERS else "Schedule type"
    draft = Draft(pairs={key: name})
    rename(draft)
    assert draft.pairs == {key: name}


@pytest.mark.parametrize("theirs", sorted({*COMFYUI, *INVOKEAI, *NOVELAI, *WEBUI}))
def test_every_name_of_every_tool_becomes_what_the_engine_can_run_or_a_note(theirs):
    for schedule in (None, *COMFYUI_SCHEDULES, *WEBUI_SCHEDULES, "native"):
        draft = renamed(theirs, schedule)
        assert not draft.unknown
        if "Sampler" in draft.pairs:
            samplers.check(draft.pairs["Sampler"], draft.pairs.get("Schedule type", "Automatic"))
        else:
            assert any(note.startswith("Sampler: ") and "no equivalent" in note for note in draft.notes)


@pytest.mark.parametrize(("theirs", "ours"), [
    ("dpmpp_2m_sde_gpu", "DPM++ 2M SDE"), ("k_euler_ancestral", "Euler a"), ("euler_a", "Euler a"), ("euler", "Euler"),
    ("kdpm_2_a", "DPM2 a"), ("dpm_2_ancestral", "DPM2 a"), ("uni_pc_bh2", "uni_pc_bh2"), ("unipc", "UniPC"),
    ("ipndm", "ipndm"), ("IPNDM", "IPNDM"), ("DPM++ 2S a", "DPM++ 2S a"), ("k_dpm_fast", "DPM fast"), ("pndm", "PLMS"),
    ("ddim_v3", "DDIM"), ("DPM++ 3M SDE", "DPM++ 3M SDE"), ("k_lms", "LMS"), ("dpm_2", "DPM2")])
def test_samplers_are_known_by_their_other_names(theirs, ours):
    assert renamed(theirs).pairs == {"Sampler": ours}


@pytest.mark.parametrize(("theirs", "ours"), [
    ("normal", "Normal"), ("simple", "Simple"), ("beta", "beta"), ("Beta", "Beta"),
    ("trailing", "Turbo"),
    ("sgm_uniform", "SGM Uniform"), ("ddim_uniform", "DDIM"),
    ("karras", "Karras"), ("native", "Automatic")])
def test_schedules_are_known_by_their_other_names(theirs, ours):
    assert renamed("euler", theirs).pairs["Schedule type"] == ours


@pytest.mark.parametrize(("theirs", "sampler", "schedule"), [
    ("dpmpp_2m_k", "DPM++ 2M", "Karras"), ("DPM++ 2M Karras", "DPM++ 2M", "Karras"),
    ("DPM++ 2M Trailing", "DPM++ 2M", "SGM Uniform"), ("euler_k", "Euler", "Karras")])
def test_a_schedule_behind_the_samplers_name_is_split_off(theirs, sampler, schedule):
    assert renamed(theirs).pairs == {"Sampler": sampler, "Schedule type": schedule}


def test_a_name_that_nobody_knows_is_listed_and_not_dropped():
    found = parse_any("x\nSteps: 20, Sampler: My Sampler, Schedule type: My Schedule, Seed: 1")
    assert found.parsed.unknown == {"Sampler": "My Sampler", "Schedule type": "My Schedule"}
    assert "sampler" not in found.parsed.fields
    assert parse_any("x\nSteps: 20, Sampler: Euler Max, Seed: 1").parsed.notes == (
        "Sampler: 'Euler Max' has no equivalent here.",)
