"""request -> infotext -> request is the identity, for whatever a request can hold; and the picture is the same."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from pipelines.generation.samplers import SAMPLERS, SCHEDULES
from pipelines.metadata import infotext, parse, read
from pipelines.requests import TASKS, Txt2Img, extra_of, make

from .odd import ODD

LETTERS = st.characters(exclude_categories=["Cs"])  # half a surrogate pair is no text that a file can hold
TEXTS = st.lists(st.sampled_from(ODD) | st.text(LETTERS, max_size=12), max_size=7).map("".join)
NAMES = {"sampler": list(SAMPLERS), "schedule": list(SCHEDULES), "hires_sampler": [None, *SAMPLERS],
         "hires_schedule": [None, *SCHEDULES]}
SHORT = {"model", "vae", "upscaler", "hires_upscaler"}  # names of files, which are no longer than a file's name


def values(name: str, info) -> st.SearchStrategy:
    """Whatever a field takes, by its own declaration."""
    kind, limits = str(info.annotation), {key: getattr(mark, key) for mark in info.metadata
                                          for key in ("ge", "gt", "le", "multiple_of") if hasattr(mark, key)}
    if name in NAMES:
        return st.sampled_from(NAMES[name])
    if name in SHORT or name.endswith("prompt"):
        return TEXTS.map(lambda text: text[:200]) if name in SHORT else TEXTS
    if "Literal" in kind:
        return st.sampled_from(info.annotation.__args__)
    if "bool" in kind:
        return st.booleans()
    if "int" in kind:
        grid = limits.get("multiple_of", 1)
        return st.integers(-(-limits["ge"] // grid), limits["le"] // grid).map(lambda number: number * grid)
    return st.floats(limits.get("ge", limits.get("gt")), limits["le"], exclude_min="gt" in limits)


def carried(cls) -> dict:
    return {name: info for name, info in cls.model_fields.items() if name == "prompt" or extra_of(info)["infotext"]}


def requests(cls) -> st.SearchStrategy:
    return st.builds(lambda **found: make(cls, **found),
                     **{name: values(name, info) for name, info in carried(cls).items()})


def ambiguous(prompt: str) -> bool:
    """The format cannot tell such a line of a prompt from the start of the negative prompt."""
    return any(line.lstrip().startswith("Negative prompt:") for line in prompt.split("\n"))


@settings(max_examples=300, deadline=None, derandomize=True, database=None,
          suppress_health_check=list(HealthCheck))
@given(request=st.one_of(*map(requests, TASKS.values())), note=TEXTS)
def test_hundreds_of_random_requests_come_back_as_they_were(request, note):
    assume(not ambiguous(request.prompt))
    text = infotext(request, extra={"Model hash": "0123456789", "Note": note})
    parsed = parse(text)
    assert make(type(request), **parsed.for_task(type(request))) == request, text
    assert not parsed.notes
    assert parsed.unknown["Model hash"] == "0123456789"


@pytest.fixture(scope="module")
def studio(tmp_path_factory, sd_folder):
    from pipelines.settings import load
    from pipelines.studio.studio import Studio

    studio = Studio(load(["--data-dir", str(tmp_path_factory.mktemp("data")), "--model", str(sd_folder)], {}))
    yield studio
    studio.close()


QUICK = {"steps": 2, "width": 64, "height": 72, "seed": 11}


@pytest.mark.parametrize("changes", [
    {"prompt": "a (red:1.3) cat,\n[dog:house:0.5] AND a mouse :0.4", "negative_prompt": "blue, \"x\": y",
     "clip_skip": 2},
    {"prompt": "  猫 ", "sampler": "Euler a", "schedule": "Karras", "variation_strength": 0.31, "variation_seed": 4},
    {"hires_scale": 1.5, "hires_upscaler": "Lanczos", "hires_strength": 0.45, "hires_prompt": "b: c, d", "tiling": "x"},
    {"sampler": "DDIM", "schedule": "Automatic", "eta": 0.35, "guidance_rescale": 0.7, "guidance_start": 0.1,
     "emphasis": "No norm"},
    {"sampler": "Euler", "s_churn": 12.0, "s_noise": 1.005, "guidance_scale": 3.3333333333333335, "batch_count": 2}])
def test_the_text_of_a_picture_makes_the_same_picture_byte_for_byte(studio, changes):
    asked = make(Txt2Img, **{"prompt": "a red cat", **QUICK, **changes})
    record = studio.submit(asked).wait(60).records[0]
    again = make(Txt2Img, **parse(read(record.path)).for_task(Txt2Img))
    second = studio.submit(again).wait(60).records[0]
    assert second.path != record.path and second.path.read_bytes() == record.path.read_bytes()
