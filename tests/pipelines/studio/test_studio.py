"""From a request to files on disk, on real tiny models: defaults, records, grids, several pages, failures."""

from __future__ import annotations

import re
import threading

import numpy as np
import pytest
from PIL import Image

from pipelines import metadata
from pipelines.errors import ModelError, OutOfMemory, RequestError
from pipelines.events import Loading, Notice, Saved
from pipelines.requests import MAX_PROMPT, Img2Img, Inpaint, Txt2Img, make
from pipelines.requests.caller import Caller
from pipelines.settings import load
from pipelines.studio.studio import Studio

QUICK = dict(prompt="a red cat", steps=2, width=64, height=64, seed=5)


def test_the_prompt_alone_is_enough_and_everything_becomes_concrete(studio):
    request = studio.resolver.resolve(make(Txt2Img, prompt="a cat"))
    assert None not in (getattr(request, name) for name in studio.resolver.defaults())
    assert 0 <= request.seed < 2**32 and request.model == studio.collection.default_card().name
    assert request.width == request.height == studio.collection.default_card().native_size


def test_a_picture_is_saved_with_the_text_that_makes_it_again(studio):
    done = studio.submit(make(Txt2Img, **QUICK)).wait(60)
    (record,) = done.records
    assert record.path.is_file() and metadata.read(record.path) == record.infotext
    again = make(Txt2Img, **metadata.parse(record.infotext).fields)
    (second,) = studio.submit(again).wait(60).records
    assert second.path != record.path
    assert Image.open(second.path).tobytes() == Image.open(record.path).tobytes()


def test_the_first_job_says_that_it_loads_and_the_second_does_not(studio):
    jobs = [studio.submit(make(Txt2Img, **QUICK)) for _ in range(2)]
    for job in jobs:
        job.wait(60)
    assert [any(isinstance(event, Loading) for event in job.events) for job in jobs] == [True, False]


def test_a_batch_gets_a_grid_and_each_picture_its_own_seed(studio):
    done = studio.submit(make(Txt2Img, **QUICK, batch_size=2, batch_count=2)).wait(60)
    assert [record.seed for record in done.records] == [5, 6, 7, 8, 5]
    assert [record.is_grid for record in done.records] == [False] * 4 + [True]
    assert [metadata.parse(record.infotext).fields["seed"] for record in done.records[:4]] == [5, 6, 7, 8]


def test_lines_of_a_prompt_make_one_labelled_grid(studio):
    request = make(Txt2Img, **{**QUICK, "prompt": "a cat\na house", "prompt_lines": True})
    done = studio.submit(request).wait(60)
    assert [metadata.parse(record.infotext).fields["prompt"] for record in done.records[:2]] == ["a cat", "a house"]
    assert done.records[2].is_grid and done.records[2].height > 64  # room for the labels


def test_choices_are_drawn_by_the_seed_and_stand_in_the_infotext(studio):
    asked = make(Txt2Img, **{**QUICK, "prompt": "a {red|blue|green} {cat|dog}", "dynamic": "random", "batch_count": 8})
    first, second = studio.resolver.resolve(asked), studio.resolver.resolve(asked)
    assert first == second and first.dynamic == "off" and len(set(first.prompts)) > 2
    assert all(set(line.split()) <= {"a", "red", "blue", "green", "cat", "dog"} for line in first.prompts)
    single = studio.submit(make(Txt2Img, **{**asked.model_dump(), "batch_count": 1})).wait(60).records[0]
    assert "{" not in single.infotext


def test_each_picture_says_its_own_prompts_and_what_was_not_read_of_them(studio):
    asked = make(Txt2Img, **{**QUICK, "prompt": "a {red|green} cat # off: <lora:loud:1>\n# and this",
                             "negative_prompt": "__none__ {dark|grey}", "hires_scale": 1.25,
                             "hires_prompt": "a {dog|house}", "hires_strength": 0.2,
                             "dynamic": "random", "batch_count": 3, "guidance_scale": 2.0})
    resolved = studio.resolver.resolve(asked)
    job = studio.submit(asked)
    records = job.wait(60).records
    said = [metadata.parse(record.infotext).fields for record in records[:3]]
    assert tuple((one["prompt"], one["negative_prompt"], one["hires_prompt"]) for one in said) == tuple(
        text[:3] for text in resolved.texts)
    assert not any("loud" in record.infotext or "#" in record.infotext for record in records) and records[3].is_grid
    assert [event.text for event in job.events if isinstance(event, Notice)] == [
        "Hires strength: 0.2 of 2 steps is less than one step, so one step was made.",
        "__none__ was drawn as typed: Wildcards and choices is off, or there is no file of that name."]


def test_choices_of_a_long_prompt_are_limited_one_by_one_and_not_together(studio):
    asked = make(Txt2Img, **{**QUICK, "prompt": "a {red|blue} cat" + ", on a mat" * 220, "dynamic": "random",
                             "batch_count": 2, "hires_scale": 1.25, "hires_steps": 1})
    made = studio.submit(asked).wait(60).records
    assert [record.is_grid for record in made] == [False, False, True]
    assert len(made[2].infotext) > MAX_PROMPT


def test_all_combinations_are_made_once_each(studio):
    asked = make(Txt2Img, **{**QUICK, "prompt": "a {red|blue} {cat|dog|fish}", "dynamic": "all combinations"})
    assert len(set(studio.resolver.resolve(asked).prompts)) == 6 and studio.resolver.resolve(asked).image_count == 6
    with pytest.raises(RequestError, match="more than 256 pictures are too many"):
        studio.resolver.resolve(make(Txt2Img, **{**asked.model_dump(), "prompt": "{a|b}" * 9}))


def test_wildcards_come_from_files_and_one_that_is_not_there_is_named(studio):
    folder = studio.settings.data_dir / "wildcards"
    folder.mkdir(parents=True)
    (folder / "pet.txt").write_text("cat\ndog\n")
    asked = make(Txt2Img, **{**QUICK, "prompt": "a __pet__", "dynamic": "random"})
    assert studio.resolver.resolve(asked).prompt in ("a cat", "a dog")


def test_emphasis_changes_the_picture_and_can_be_switched_off(studio):
    def image(**values):
        record = studio.submit(make(Txt2Img, **{**QUICK, "prompt": "a (red:1.8) cat", **values})).wait(60).records[0]
        return Image.open(record.path).tobytes()

    plain = image(prompt="a red cat")
    assert image() != plain and image(emphasis="Ignore") == plain


def test_image_to_image_takes_the_pictures_shape_at_the_models_area(studio):
    image = studio.images.add(Image.new("RGB", (300, 150), "red"))
    request = studio.resolver.resolve(make(Img2Img, image=image.id, prompt="x"))
    assert (request.width, request.height) == (88, 64)  # 64 is the least


def test_keep_works_at_the_pictures_own_size_and_refuses_what_is_too_large(studio):
    image = studio.images.add(Image.new("RGB", (301, 150), "red"))
    asked = make(Img2Img, image=image.id, prompt="x", resize_mode="keep", width=64, height=64)
    request = studio.resolver.resolve(asked)
    assert (request.width, request.height) == (296, 144)
    large = studio.images.add(Image.new("RGB", (2100, 80), "red"))
    with pytest.raises(RequestError, match=r"Width \(px\): 2096 is not possible. .* 2048"):
        studio.resolver.resolve(make(Img2Img, image=large.id, resize_mode="keep"))


def test_outpainting_works_at_the_shape_of_the_enlarged_picture(studio):
    image = studio.images.add(Image.new("RGB", (128, 128), "red"))
    request = studio.resolver.resolve(make(Inpaint, image=image.id, outpaint_right=384))
    assert (request.width, request.height) == (128, 64)


def test_inpainting_through_the_studio_keeps_the_rest(studio):
    rng = np.random.default_rng(0)
    source = Image.fromarray(rng.integers(0, 256, (70, 90, 4), np.uint8), "RGBA")
    painted = Image.new("L", source.size)
    painted.paste(255, (30, 20, 50, 40))
    request = make(Inpaint, **QUICK, image=studio.images.add(source).id, mask=studio.images.add(painted).id,
                   resize_mode="stretch")
    (record,) = studio.submit(request).wait(60).records
    result = np.asarray(Image.open(record.path))
    assert result.shape == (70, 90, 4)
    assert (result[:, 70:] == np.asarray(source)[:, 70:]).all() and (result[30, 40] != np.asarray(source)[30, 40]).any()


@pytest.mark.parametrize(("values", "message"), [
    (dict(sampler="Euler b"), "Sampler: 'Euler b' is unknown"),
    (dict(sampler="DDIM", schedule="Carras"), "Schedule: 'Carras' is unknown"),
    (dict(batch_size=16, width=2048, height=2048), "Batch size: 16 is not possible at 2048x2048 px. At most 4."),
    (dict(prompt="\n".join("ab" * 20), prompt_lines=True, batch_count=16), "640 pictures are too many"),
])
def test_what_cannot_run_is_refused_at_once(studio, values, message):
    with pytest.raises(RequestError, match=message.replace("(", r"\(")):
        studio.submit(make(Txt2Img, **{**QUICK, **values}))


def test_a_model_that_does_not_fit_is_said_and_the_next_job_works(studio, monkeypatch):
    import torch

    from pipelines.models import loading

    def full(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patched, pytest.raises(OutOfMemory, match="Not enough memory to load"):
        patched.setattr(loading, "load", full)
        studio.submit(make(Txt2Img, **QUICK)).wait(60)
    assert studio.submit(make(Txt2Img, **QUICK)).wait(60).records


def test_unknown_model_is_refused_by_name(studio):
    with pytest.raises(ModelError, match="'no-such-model' is not here"):
        studio.submit(make(Txt2Img, **QUICK, model="no-such-model"))


def test_image_to_image_without_a_picture_says_so(studio):
    with pytest.raises(RequestError, match="Picture: none was given"):
        studio.submit(make(Img2Img, **QUICK))


@pytest.fixture
def lora(studio):
    """Write a LoRA with kohya's names for one layer of the tiny model; returns a function (name, width) -> path."""
    import torch
    from safetensors.torch import save_file

    def write(name, width=32):
        folder = studio.settings.data_dir / "loras"
        folder.mkdir(parents=True, exist_ok=True)
        layer = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_v"
        generator = torch.Generator().manual_seed(1)
        save_file({f"{layer}.lora_down.weight": torch.randn(4, width, generator=generator),
                   f"{layer}.lora_up.weight": torch.randn(64, 4, generator=generator),
                   f"{layer}.alpha": torch.tensor(4.0)}, folder / f"{name}.safetensors")
        return folder / f"{name}.safetensors"

    return write


def test_a_lora_works_the_moment_it_is_saved_and_leaves_no_trace(studio, lora):
    def image(prompt):
        return Image.open(studio.submit(make(Txt2Img, **{**QUICK, "prompt": prompt})).wait(60).records[0].path)

    plain = image("a red cat").tobytes()
    lora("ink")
    assert [card.name for card in studio.collection.loras()] == ["ink"]
    assert image("a red cat <lora:ink:1>").tobytes() != plain
    assert re.search(r"Lora hashes: \"?ink: [0-9a-f]{12}", studio.results.today()[0].infotext)
    assert image("a red cat <lora:ink:0>").tobytes() == plain
    for weight in (0.3, 0.6):
        job = studio.submit(make(Txt2Img, **{**QUICK, "prompt": f"a red cat <lora:ink:{weight}>"}))
        job.wait(60)
        assert not any(isinstance(event, Loading) for event in job.events)  # the model itself is never loaded again
    assert image("a red cat").tobytes() == plain


def test_what_a_lora_holds_and_what_its_tag_says_without_effect_is_among_the_notices(studio, lora):
    from safetensors.torch import load_file, save_file

    path = lora("ink")
    tensors = load_file(path)
    save_file({**tensors, "bundle_emb.sks.clip_l": tensors[next(iter(tensors))].clone()}, path)
    job = studio.submit(make(Txt2Img, **{**QUICK, "prompt": "a red cat <lora:ink:1:lbw=OUTALL>"}))
    job.wait(60)
    assert [event.text for event in job.events if isinstance(event, Notice)] == [
        "ink: 1 of 1 layers matched, rank 4", "ink: its embeddings are not read from a LoRA file: sks.",
        "ink: 'lbw=OUTALL' in its tag is not read: it has one strength for all blocks."]


def test_a_model_whose_loading_is_stopped_is_loaded_by_the_next_job(studio, monkeypatch):
    from pipelines.models import loading

    load_folder, submitted = loading._from_folder, threading.Event()

    def stopped(*args):
        assert submitted.wait(60)
        job.stop()
        return load_folder(*args)

    monkeypatch.setattr(loading, "_from_folder", stopped)
    job = studio.submit(make(Txt2Img, **QUICK))
    submitted.set()
    assert job.wait(60).stopped and job.wait(60).records == ()
    monkeypatch.undo()
    assert studio.submit(make(Txt2Img, **QUICK)).wait(60).records


def test_loras_that_are_merged_for_a_run_draw_the_same_and_leave_no_trace(studio, lora, tmp_path, sd_folder):
    lora("ink")
    merging = Studio(load(["--data-dir", str(studio.settings.data_dir), "--model", str(sd_folder), "--merge-loras"],
                          {}))
    prompts = ("a red cat", "a red cat <lora:ink:1>", "a red cat <lora:ink:0.5>", "a red cat")
    try:
        beside, within = ([np.asarray(Image.open(each.submit(make(Txt2Img, **{**QUICK, "prompt": prompt})).wait(60)
                                                 .records[0].path)).astype(int) for prompt in prompts]
                          for each in (studio, merging))
    finally:
        merging.close()
    assert (within[0] == within[3]).all() and (within[0] == beside[0]).all()
    assert (within[1] != within[0]).any() and (within[1] != within[2]).any()
    assert max(abs(one - other).max() for one, other in zip(beside, within, strict=True)) <= 2  # rounded elsewhere


def test_a_lora_of_the_hires_prompt_acts_in_the_second_pass_alone(studio, lora):
    from pipelines.metadata import parse

    def image(prompt, hires_prompt):
        # A second pass of weaker strength is one step of little noise, in which a LoRA moves no grey level.
        asked = make(Txt2Img, **{**QUICK, "prompt": prompt, "hires_prompt": hires_prompt, "hires_scale": 1.5,
                                 "hires_strength": 1.0})
        return Image.open(studio.submit(asked).wait(60).records[0].path).tobytes()

    lora("ink")
    plain = image("a red cat", "")
    only_second = image("a red cat", "<lora:ink:1>")
    assert re.search(r"Lora hashes: \"?ink: [0-9a-f]{12}", studio.results.today()[0].infotext)
    assert parse(studio.results.today()[0].infotext).fields["hires_prompt"] == "<lora:ink:1>"
    only_first = image("a red cat <lora:ink:1>", "a red cat")
    both = image("a red cat <lora:ink:1>", "")
    assert len({plain, only_second, only_first, both}) == 4
    assert image("a red cat <lora:ink:1>", "a red cat <lora:ink:1>") == both
    assert image("a red cat", "a red cat <lora:ink:1>") == only_second
    assert image("a red cat", "a red cat") == plain


def test_a_lora_of_the_negative_prompt_is_said_to_do_nothing(studio, lora):
    lora("ink")
    job = studio.submit(make(Txt2Img, **{**QUICK, "negative_prompt": "dog <lora:ink:1>", "batch_count": 2}))
    job.wait(60)
    assert [event.text for event in job.events if isinstance(event, Notice)] == [
        "<lora:ink:1> was left out: a LoRA works from the prompt, not from the negative prompt."]


def test_an_unknown_lora_is_said_and_left_out_and_a_wrong_one_is_refused(studio, lora):
    job = studio.submit(make(Txt2Img, **{**QUICK, "prompt": "a red cat <lora:inc:1>"}))
    job.wait(60)
    assert any(isinstance(event, Notice) and "'inc' is not here" in event.text for event in job.events)
    lora("wide", width=48)
    with pytest.raises(ModelError, match="wide"):
        studio.submit(make(Txt2Img, **{**QUICK, "prompt": "a red cat <lora:wide:1>"})).wait(60)
    studio.submit(make(Txt2Img, **QUICK)).wait(60)


def test_pages_at_the_same_time_get_what_each_gets_alone(studio):
    wanted = [make(Txt2Img, **{**QUICK, "seed": i, "sampler": sampler})
              for i, sampler in enumerate(["Euler a", "DPM++ 2M", "Heun"])]
    alone = [Image.open(studio.submit(one).wait(60).records[0].path).tobytes() for one in wanted]
    results: dict[int, bytes] = {}

    def ask(i):
        job = studio.submit(wanted[i], Caller(page=f"page{i}"))
        for _ in job.follow():
            pass
        results[i] = Image.open(job.wait().records[0].path).tobytes()

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [results[i] for i in range(3)] == alone


def test_todays_pictures_are_listed_after_a_restart_and_only_to_their_owner(studio):
    first = studio.submit(make(Txt2Img, **QUICK), Caller(owner="anna")).wait(60).records[0]
    second = studio.submit(make(Txt2Img, **QUICK), Caller(owner="ben")).wait(60).records[0]
    studio.close()
    again = Studio(studio.settings)
    try:
        assert [record.path for record in again.results.today()] == [second.path, first.path]
        (mine,) = again.results.today("anna")
        assert (mine.path, mine.infotext, mine.seed) == (first.path, first.infotext, 5)
    finally:
        again.close()


def test_a_damaged_index_hides_only_the_damaged_lines(studio):
    record = studio.submit(make(Txt2Img, **QUICK)).wait(60).records[0]
    index = record.path.with_name("index.jsonl")
    outside = '{"file": "../../../etc/passwd", "owner": "", "infotext": "", "seed": 1, "width": 1, "height": 1, '
    index.write_text('{"file": \n[1]\n' + outside + '"task": "t"}\n' + index.read_text())
    assert [one.path for one in studio.results.today()] == [record.path]


def test_a_picture_that_cannot_be_saved_is_shown_and_said(studio):
    studio.settings.data_dir.mkdir(exist_ok=True)
    (studio.settings.data_dir / "outputs").write_text("a file where the folder should be")
    job = studio.submit(make(Txt2Img, **QUICK))
    (record,) = job.wait(60).records
    assert record.path is None and record.image.size == (64, 64)
    assert any(isinstance(event, Notice) and "could not be saved" in event.text for event in job.events)
    assert any(isinstance(event, Saved) for event in job.events)


def test_without_embedding_the_file_holds_no_text_but_the_list_does(tmp_path, sd_folder):
    studio = Studio(load(["--data-dir", str(tmp_path), "--model", str(sd_folder)], {"ATELIER_EMBED_METADATA": "false"}))
    try:
        record = studio.submit(make(Txt2Img, **QUICK)).wait(60).records[0]
        assert metadata.read(record.path) is None and not Image.open(record.path).info
        assert "a red cat" in studio.results.today()[0].infotext
    finally:
        studio.close()


def test_tokens_are_counted_in_chunks_and_without_syntax(studio):
    few = studio.prompts.tokens("a red cat")
    assert (few.count, few.limit, few.kept, few.cut) == (3, 75, "a red cat", "")
    many = studio.prompts.tokens("(cat:1.2) " * 80)
    assert (many.count, many.limit, many.cut) == (80, 150, "")


def test_token_counts_equal_the_tokenizer_of_transformers(studio, sd_folder):
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(sd_folder / "tokenizer")
    for text in ("a red cat", "", "  A   CAT\n\tand 12 dogs!!", "naïve café", "日本の猫 🐈", "don't stop: 1.3!",
                 "x" * 300):
        expected = len(tokenizer(text).input_ids) - 2
        assert studio.prompts.tokens(text).count == expected, text
