import json

import pytest
from PIL import ExifTags, Image

from pipelines.errors import RequestError
from pipelines.metadata import infotext, parse, parse_any, read_any, save_png
from pipelines.metadata.novelai import weighted
from pipelines.requests import Img2Img, Txt2Img, make

from .pictures import png, stealth, with_exif

OURS = make(Txt2Img, prompt="a red apple", negative_prompt="blurry", sampler="Euler a", schedule="Karras", steps=20,
            guidance_scale=7.0, width=512, height=768, seed=5, model="tiny")

# our own text, and AUTOMATIC1111's


def test_our_own_pictures_come_back_exactly(tmp_path):
    save_png(Image.new("RGB", (8, 8)), tmp_path / "x.png", infotext(OURS))
    found = read_any(tmp_path / "x.png")
    assert found.tool == "Atelier" and make(Txt2Img, **found.parsed.for_task(Txt2Img)) == OURS
    assert found.raw == {"parameters": infotext(OURS)}
    with Image.open(tmp_path / "x.png") as image:
        assert read_any(image) == found


def test_a_pasted_text_says_the_same_as_the_picture():
    assert parse_any(infotext(OURS)).parsed == parse(infotext(OURS))


@pytest.mark.parametrize(("version", "tool"), [
    ("v1.10.1", "AUTOMATIC1111"), ("f2.0.1v1.10.1-previous-669", "Forge"), ("neo", "Forge"), ("ComfyUI", "ComfyUI"),
    ("Atelier 9", "Atelier")])
def test_the_version_tells_the_tool(version, tool):
    assert parse_any(f"x\nSteps: 20, Sampler: Euler, Seed: 1, Version: {version}").tool == tool


def test_only_what_is_allowed_can_be_chosen():
    found = parse_any("x\nSteps: 20, Sampler: k_euler, Seed: 1, Model: secret", {"model": ["a"], "sampler": ["Euler"]})
    assert found.parsed.fields["sampler"] == "Euler" and "model" not in found.parsed.fields
    assert found.parsed.notes == ("Model: 'secret' is not known here.",)


def test_words_without_settings_are_a_prompt_by_nobody():
    found = parse_any("a cat, (dog:1.2)")
    assert found.tool == "" and found.parsed.fields == {"prompt": "a cat, (dog:1.2)", "negative_prompt": ""}


def test_a_prompt_that_begins_with_a_brace_is_a_prompt():
    assert parse_any("{a|b} cat").parsed.fields["prompt"] == "{a|b} cat"
    assert parse_any('{"a": 1} cat\nSteps: 20, Seed: 1, Size: 64x64').parsed.fields["prompt"] == '{"a": 1} cat'


def test_a_picture_without_text_says_so(tmp_path):
    found = read_any(png(tmp_path / "x.png", {}))
    assert (found.tool, found.raw, found.parsed.fields) == ("", {}, {})
    assert found.parsed.notes == ("This picture says nothing about how it was made.",)


def test_json_of_no_known_tool_is_told_and_shown(tmp_path):
    found = read_any(png(tmp_path / "x.png", {"parameters": {"a": 1}}))
    assert found.tool == "" and found.raw == {"parameters": '{"a": 1}'} and found.parsed.fields == {}
    assert "no tool that is known" in parse_any('{"a": 1}').parsed.notes[0]


@pytest.mark.parametrize("data", [b"", b"not a picture", b"GIF89a" + bytes(50)])
def test_other_files_are_refused_in_plain_words(tmp_path, data):
    (tmp_path / "x.png").write_bytes(data)
    with pytest.raises(RequestError, match="not a whole PNG, JPEG, WebP"):
        read_any(tmp_path / "x.png")


# SD.Next

def test_a_text_of_sdnext_is_understood():
    found = parse_any(
        "a cat\nNegative prompt: dog\nSteps: 30, Size: 1024x768, Sampler: DPM++ 2M, Seed: 7, CFG scale: 6, "
        "CFG rescale: 0.7, CFG end: 0.8, CLiP-skip: 2, App: SD.Next, Version: 0c7038e, "
        "Pipeline: StableDiffusionXLPipeline, Operations: txt2img; hires, Model: sd_xl, Model hash: 31e35c80fc, "
        "Variation seed: 9, Variation strength: 0.25, Hires scale: 1.5, Hires strength: 0.4, Hires steps: 12, "
        "Sampler sigma: karras, Template: raw")
    assert found.tool == "SD.Next"
    assert found.parsed.fields == {
        "prompt": "a cat", "negative_prompt": "dog", "steps": 30, "width": 1024, "height": 768, "sampler": "DPM++ 2M",
        "schedule": "Karras", "seed": 7, "guidance_scale": 6.0, "guidance_rescale": 0.7, "guidance_end": 0.8,
        "clip_skip": 2, "model": "sd_xl", "variation_seed": 9, "variation_strength": 0.25, "hires_scale": 1.5,
        "hires_strength": 0.4, "strength": 0.4, "hires_steps": 12}
    assert found.parsed.unknown.keys() == {"App", "Version", "Pipeline", "Operations", "Model hash", "Template"}
    assert found.parsed.notes == ()


def test_sdnexts_words_for_masks_and_resizing_become_ours():
    found = parse_any("x\nSteps: 20, Size: 64x64, Seed: 1, App: SD.Next, Denoising strength: 0.5, Mask invert: 1, "
                      "Mask area: True, Mask padding: 40, Resize mode: Fill, Sampler sigma: default, Mask blur: 4")
    fields = found.parsed.fields
    assert fields["mask_invert"] is True and fields["inpaint_area"] == "Only masked"
    assert (fields["masked_padding"], fields["resize_mode"]) == (40, "fill") and "schedule" not in fields
    odd = parse_any("x\nSteps: 20, Size: 64x64, Seed: 1, App: SD.Next, Resize mode: Context aware")
    assert odd.parsed.unknown["Resize mode"] == "Context aware" and "resize_mode" not in odd.parsed.fields


# Fooocus

FOOOCUS = {
    "adm_guidance": "(1.5, 0.8, 0.3)", "base_model": "juggernautXL_v8Rundiffusion", "base_model_hash": "aeb7e9e689",
    "clip_skip": 2, "full_negative_prompt": ["", "low quality"], "full_prompt": ["cinematic still a cat", "a cat"],
    "guidance_scale": 4, "lora_combined_1": "sd_xl_offset_example-lora_1.0 : 0.1",
    "loras": [["sd_xl_offset_example-lora_1.0", 0.1, "4852686128"]], "metadata_scheme": "fooocus",
    "negative_prompt": "ugly", "performance": "Speed", "prompt": "a cat", "refiner_model": "None",
    "refiner_switch": 0.5, "resolution": "(1152, 896)", "sampler": "dpmpp_2m_sde_gpu", "scheduler": "karras",
    "seed": "123456", "sharpness": 2, "steps": 30, "styles": "['Fooocus V2', 'Fooocus Sharp']",
    "vae": "Default (model)",
    "version": "Fooocus v2.5.5"}
FOOOCUS_FIELDS = {
    "prompt": "a cat <lora:sd_xl_offset_example-lora_1.0:0.1>", "negative_prompt": "ugly", "steps": 30,
    "sampler": "DPM++ 2M SDE", "schedule": "Karras", "guidance_scale": 4.0, "seed": 123456, "clip_skip": 2,
    "width": 1152, "height": 896, "model": "juggernautXL_v8Rundiffusion"}


def test_fooocus_json_in_a_png_is_understood(tmp_path):
    found = read_any(png(tmp_path / "x.png", {"parameters": FOOOCUS, "fooocus_scheme": "fooocus"}))
    assert found.tool == "Fooocus" and found.parsed.fields == FOOOCUS_FIELDS
    assert found.parsed.unknown["full_prompt"] == '["cinematic still a cat", "a cat"]'
    assert found.parsed.unknown["refiner_model"] == "None"
    assert [note[:7] for note in found.parsed.notes] == ["Styles:"]
    assert found.raw["fooocus_scheme"] == "fooocus"


@pytest.mark.parametrize("name", ["x.jpg", "x.webp"])
def test_fooocus_json_in_exif_is_understood(tmp_path, name):
    tags = {0x9286: json.dumps(FOOOCUS), 0x0131: "Fooocus v2.5.5", 0x927C: "fooocus"}
    found = read_any(with_exif(tmp_path / name, tags))
    assert found.tool == "Fooocus" and found.parsed.fields == FOOOCUS_FIELDS
    assert found.raw["MakerNote"] == "fooocus"


def test_the_labels_of_fooocus_log_page_are_understood():
    found = parse_any(json.dumps({
        "Prompt": "a cat", "Negative Prompt": "ugly", "Styles": "[]", "Performance": "Extreme Speed",
        "Resolution": "(1152, 896)", "Guidance Scale": 4, "Sharpness": 2, "Base Model": "xl.safetensors",
        "Sampler": "lcm", "Scheduler": "lcm", "Seed": "7", "LoRA 1": "sub/a.safetensors : 0.5",
        "LoRA 2": "False : b.safetensors : 1.0"}))
    assert found.tool == "Fooocus" and found.parsed.fields == {
        "prompt": "a cat <lora:a:0.5>", "negative_prompt": "ugly", "clip_skip": 1, "steps": 8, "sampler": "LCM",
        "guidance_scale": 4.0, "seed": 7, "width": 1152, "height": 896, "model": "xl"}
    assert found.parsed.unknown["lora_2"] == "False : b.safetensors : 1.0"
    assert found.parsed.notes == ("Schedule: 'lcm' has no equivalent here.",)


def test_fooocus_second_scheme_is_automatic1111s_with_names_of_its_own(tmp_path):
    text = ("cinematic still a cat\nNegative prompt: ugly, low quality\nSteps: 30, Sampler: dpmpp_3m_sde, Seed: 7, "
            "Size: 1152x896, CFG scale: 4, Sharpness: 2, ADM Guidance: \"(1.5, 0.8, 0.3)\", Model: xl, "
            "Model hash: aeb7e9e689, Performance: Speed, Scheduler: karras, VAE: Default (model), Raw prompt: a cat, "
            "Lora hashes: \"a: 4852686128, b: 123\", Lora weights: \"a: 0.1, b: 0.5\", Version: Fooocus v2.5.5")
    found = read_any(png(tmp_path / "x.png", {"parameters": text, "fooocus_scheme": "a1111"}))
    assert found.tool == "Fooocus" and found.parsed.notes == ()
    assert found.parsed.fields == {
        "prompt": "cinematic still a cat <lora:a:0.1> <lora:b:0.5>", "negative_prompt": "ugly, low quality",
        "clip_skip": 1, "steps": 30, "sampler": "DPM++ 3M SDE", "schedule": "Karras", "guidance_scale": 4.0, "seed": 7,
        "width": 1152, "height": 896, "model": "xl"}
    assert found.parsed.unknown["Raw prompt"] == "a cat"


# InvokeAI

INVOKEAI = {
    "generation_mode": "txt2img", "positive_prompt": "a cat", "negative_prompt": "dog", "width": 768, "height": 512,
    "seed": 42, "rand_device": "cpu", "cfg_scale": 7.5, "cfg_rescale_multiplier": 0, "steps": 30,
    "scheduler": "dpmpp_2m_sde_k", "clip_skip": 1, "seamless_x": True, "seamless_y": False,
    "model": {"key": "abc", "hash": "blake3:1", "name": "Dreamshaper 8", "base": "sd-1", "type": "main"},
    "loras": [{"model": {"key": "d", "name": "add_detail", "base": "sd-1", "type": "lora"}, "weight": 0.75}],
    "app_version": "5.6.0"}


def test_invokeai_metadata_is_understood(tmp_path):
    found = read_any(png(tmp_path / "x.png", {"invokeai_metadata": INVOKEAI, "invokeai_graph": {"nodes": {}}}))
    assert found.tool == "InvokeAI" and found.parsed.notes == ()
    assert found.parsed.fields == {
        "prompt": "a cat <lora:add_detail:0.75>", "negative_prompt": "dog", "width": 768, "height": 512, "seed": 42,
        "guidance_scale": 7.5, "guidance_rescale": 0.0, "steps": 30, "sampler": "DPM++ 2M SDE", "schedule": "Karras",
        "clip_skip": 2, "tiling": "x", "model": "Dreamshaper 8"}
    assert found.parsed.unknown == {"generation_mode": "txt2img", "rand_device": "cpu", "app_version": "5.6.0"}
    assert parse_any(json.dumps(INVOKEAI)).parsed == found.parsed


def test_invokeais_older_spelling_of_models_and_its_weights_are_told():
    old = {**INVOKEAI, "positive_prompt": "a cat++ and (dog)1.3", "strength": 0.5, "seamless_y": True,
           "model": {"model_name": "sd15", "base_model": "sd-1"},
           "loras": [{"lora": {"model_name": "x", "base_model": "sd-1"}, "weight": 1}, {"weight": "?"}]}
    found = parse_any(json.dumps(old)).parsed
    assert (found.fields["model"], found.fields["strength"], found.fields["tiling"]) == ("sd15", 0.5, "both")
    assert found.fields["prompt"] == "a cat++ and (dog)1.3 <lora:x:1>"
    assert found.notes[0].startswith("LoRAs: ") and found.notes[1].startswith("Prompt: InvokeAI weighs")


def test_the_old_sd_metadata_is_understood(tmp_path):
    data = {"model": "stable diffusion", "model_weights": "stable-diffusion-1.5", "model_hash": "cc6cb27103417325",
            "app_id": "invoke-ai/InvokeAI", "app_version": "2.2.3",
            "image": {"prompt": [{"prompt": "a cat [dog, bird]", "weight": 1}], "steps": 50, "cfg_scale": 7.5,
                      "threshold": 0, "height": 512, "width": 640, "seed": 9, "type": "txt2img", "sampler": "k_lms"}}
    found = read_any(png(tmp_path / "x.png", {"sd-metadata": data, "Dream": '"other" -s 1 -S 1'}))
    assert found.tool == "InvokeAI" and found.parsed.fields == {
        "prompt": "a cat", "negative_prompt": "dog, bird", "clip_skip": 1, "steps": 50, "guidance_scale": 7.5,
        "height": 512, "width": 640, "seed": 9, "sampler": "LMS", "model": "stable-diffusion-1.5"}
    assert found.parsed.unknown["threshold"] == "0"


def test_the_dream_command_line_is_understood(tmp_path):
    found = read_any(png(tmp_path / "x.png", {"Dream": '"a cat, "hat" [dog]" -s 50 -S 9 -W 640 -H 512 -C 7.5 '
                                                       "-A k_euler_a -f 0.6 -U 2"}))
    assert found.tool == "InvokeAI" and found.parsed.fields == {
        "prompt": 'a cat, "hat"', "negative_prompt": "dog", "clip_skip": 1, "steps": 50, "seed": 9, "width": 640,
        "height": 512, "guidance_scale": 7.5, "sampler": "Euler a", "strength": 0.6, "hires_strength": 0.6}
    assert found.parsed.unknown == {"-U": "2"}


# NovelAI

COMMENT = {"prompt": "1girl, {{smile}}, artist (style)", "steps": 28, "height": 1216, "width": 832, "scale": 5,
           "uc": "lowres, [bad]", "seed": 3609137272, "n_samples": 1, "sampler": "k_euler_ancestral",
           "noise_schedule": "karras", "cfg_rescale": 0.2, "strength": 0.7, "request_type": "PromptGenerateRequest"}
NOVELAI = {"Title": "NovelAI generated image", "Description": "1girl, {{smile}}, artist (style)",
           "Software": "NovelAI", "Source": "NovelAI Diffusion V3 B5A2A797", "Comment": json.dumps(COMMENT)}
NOVELAI_FIELDS = {
    "prompt": "1girl, (smile:1.1025), artist \\(style\\)", "negative_prompt": "lowres, (bad:0.9524)", "clip_skip": 1,
    "steps": 28, "height": 1216, "width": 832, "guidance_scale": 5.0, "seed": 3609137272, "sampler": "Euler a",
    "schedule": "Karras", "guidance_rescale": 0.2}


def test_novelais_chunks_are_understood(tmp_path):
    found = read_any(png(tmp_path / "x.png", NOVELAI))
    assert found.tool == "NovelAI" and found.parsed.fields == NOVELAI_FIELDS
    assert found.parsed.unknown == {"n_samples": "1", "request_type": "PromptGenerateRequest",
                                    "Source": "NovelAI Diffusion V3 B5A2A797"}
    assert parse_any(NOVELAI["Comment"]).parsed.fields == NOVELAI_FIELDS


def test_novelais_text_in_the_alpha_channel_is_found(tmp_path):
    found = read_any(stealth(tmp_path / "x.png", json.dumps(NOVELAI)))
    assert found.tool == "NovelAI" and found.parsed.fields == NOVELAI_FIELDS
    assert found.raw["Title"] == "NovelAI generated image"


def test_text_of_the_web_ui_in_the_alpha_channel_is_found(tmp_path):
    for packed in (True, False):
        found = read_any(stealth(tmp_path / "x.png", infotext(OURS), packed=packed))
        assert make(Txt2Img, **found.parsed.for_task(Txt2Img)) == OURS
        assert found.raw == {"parameters": infotext(OURS)}


def test_the_first_novelai_pictures_have_their_prompt_beside_the_comment(tmp_path):
    comment = {"steps": 28, "sampler": "ddim", "seed": 5, "strength": 0.69, "noise": 0.667, "scale": 11, "uc": "bad"}
    chunks = {"Description": "a cat", "Software": "NovelAI", "Source": "Stable Diffusion 1", "Comment": comment}
    fields = read_any(png(tmp_path / "x.png", chunks)).parsed.fields
    assert (fields["prompt"], fields["negative_prompt"], fields["sampler"]) == ("a cat", "bad", "DDIM")
    assert (fields["clip_skip"], fields["strength"]) == (2, 0.69)


def test_novelais_characters_are_appended():
    data = {**COMMENT, "v4_prompt": {"caption": {"base_caption": "two people", "char_captions": [
        {"char_caption": "girl, -0.8::feet::", "centers": []}, {"char_caption": "boy"}]}, "use_coords": False},
        "v4_negative_prompt": {"caption": {"base_caption": "bad", "char_captions": []}}}
    found = parse_any(json.dumps(data)).parsed
    assert found.fields["prompt"] == "two people\ngirl, (feet:-0.8)\nboy"
    assert found.fields["negative_prompt"] == "bad" and len(found.notes) == 2


@pytest.mark.parametrize(("theirs", "ours"), [
    ("a cat", "a cat"), ("{a}", "(a:1.05)"), ("{a, {b}} c", "(a:1.05), (b:1.1025) c"), ("[a] b", "(a:0.9524) b"),
    ("1.5::a, b:: c", "(a, b:1.5) c"), ("{1.5::a::}", "(a:1.575)"), ("(a)", "\\(a\\)"), ("}}]] a", " a"),
    ("{a", "(a:1.05)"), ("{ , }", " , "), ("\\(a\\)", "\\(a\\)")])
def test_novelais_weights_are_rewritten(theirs, ours):
    assert weighted(theirs) == ours


# Civitai

RESOURCES = [{"type": "checkpoint", "modelVersionId": 290640, "modelName": "Pony, V6: XL", "modelVersionName": "V6"},
             {"type": "lora", "weight": 0.8, "modelVersionId": 5, "modelName": "Detail Tweaker"},
             {"type": "embed", "modelName": "x"}]


def test_civitais_resources_give_model_and_loras():
    found = parse_any("a cat\nSteps: 25, Sampler: Undefined, CFG scale: 3.5, Seed: 3, Size: 832x1216, Clip skip: 2, "
                      f"Civitai resources: {json.dumps(RESOURCES)}, Civitai metadata: {{\"remixOfId\": 5}}")
    assert found.tool == "Civitai" and found.parsed.fields == {
        "prompt": "a cat <lora:Detail Tweaker:0.8>", "negative_prompt": "", "clip_skip": 2, "steps": 25,
        "guidance_scale": 3.5, "seed": 3, "width": 832, "height": 1216, "model": "Pony, V6: XL"}
    assert found.parsed.unknown.keys() == {"Civitai resources", "Civitai metadata"}
    assert len(found.parsed.notes) == 1 and "title" in found.parsed.notes[0]


def test_settings_copied_from_civitais_interface_are_understood():
    found = parse_any(json.dumps({"prompt": "a cat", "negativePrompt": "dog", "cfgScale": 7, "steps": 25, "seed": 3,
                                  "sampler": "DPM++ 2M Karras", "Size": "832x1216", "clipSkip": 2, "Model": "x",
                                  "resources": RESOURCES[1:2]}))
    assert found.tool == "Civitai" and found.parsed.fields == {
        "prompt": "a cat <lora:Detail Tweaker:0.8>", "negative_prompt": "dog", "clip_skip": 2, "steps": 25,
        "guidance_scale": 7.0, "seed": 3, "width": 832, "height": 1216, "model": "x", "sampler": "DPM++ 2M",
        "schedule": "Karras"}


def test_the_settings_beside_civitais_graph_come_first(tmp_path):
    extra = {"prompt": "a cat", "negativePrompt": "dog", "steps": 25, "cfgScale": 7, "sampler": "Euler a", "seed": 3}
    graph = {"3": {"class_type": "KSampler", "inputs": {"seed": 1}}, "extra": {"airs": []},
             "extraMetadata": json.dumps(extra)}
    raw = b"UNICODE\0" + json.dumps(graph).encode("utf-16-be")
    found = read_any(with_exif(tmp_path / "x.jpg", {}, {ExifTags.Base.UserComment: raw}))
    assert found.tool == "Civitai"
    assert (found.parsed.fields["sampler"], found.parsed.fields["seed"]) == ("Euler a", 3)


# Draw Things and Easy Diffusion

def test_draw_things_packet_is_understood(tmp_path):
    data = {"c": "a \"cat\" & hat", "uc": "dog", "model": "sd_v1.5_f16.ckpt", "sampler": "DPM++ 2M Karras", "scale": 7,
            "seed": 5, "seed_mode": "Scale Alike", "size": "512x768", "steps": 20, "strength": 1,
            "lora": [{"model": "x_lora_f16.ckpt", "weight": 0.6}]}
    text = json.dumps(data).replace("&", "&amp;").replace('"', "&quot;")
    packet = ('<x:xmpmeta><rdf:Description><xmp:CreatorTool>Draw Things</xmp:CreatorTool><exif:UserComment><rdf:Alt>'
              f'<rdf:li xml:lang="x-default">{text}</rdf:li></rdf:Alt></exif:UserComment></rdf:Description>')
    found = read_any(png(tmp_path / "x.png", {"XML:com.adobe.xmp": packet}))
    assert found.tool == "Draw Things" and found.parsed.fields == {
        "prompt": 'a "cat" & hat <lora:x_lora_f16:0.6>', "negative_prompt": "dog", "clip_skip": 1, "steps": 20,
        "sampler": "DPM++ 2M", "schedule": "Karras", "guidance_scale": 7.0, "seed": 5, "width": 512, "height": 768,
        "model": "sd_v1.5_f16", "strength": 1.0, "hires_strength": 1.0}
    Image.new("RGB", (8, 8)).save(tmp_path / "x.jpg", xmp=packet.encode())
    assert read_any(tmp_path / "x.jpg").parsed == found.parsed


def test_easy_diffusions_chunks_and_json_are_understood(tmp_path):
    settings = {"prompt": "a cat", "negative_prompt": "dog", "seed": 5, "num_inference_steps": 25, "width": 512,
                "use_stable_diffusion_model": "models/sd-v1-5.safetensors", "height": 640, "guidance_scale": 7.5,
                "sampler_name": "euler_a", "clip_skip": True, "tiling": "xy", "use_vae_model": "None",
                "use_lora_model": ["a", "b"], "lora_alpha": [0.5, 1]}
    fields = {"prompt": "a cat <lora:a:0.5> <lora:b:1>", "negative_prompt": "dog", "clip_skip": 2, "steps": 25,
              "width": 512, "height": 640, "seed": 5, "guidance_scale": 7.5, "sampler": "Euler a", "tiling": "both",
              "model": "sd-v1-5"}
    found = parse_any(json.dumps(settings))
    assert found.tool == "Easy Diffusion" and found.parsed.fields == fields
    assert found.parsed.unknown == {"use_vae_model": "None"}
    chunks = {key: str(value) for key, value in settings.items()
              } | {"use_lora_model": "a", "lora_alpha": "0.5"}
    assert read_any(png(tmp_path / "x.png", chunks)).parsed.fields == {**fields, "prompt": "a cat <lora:a:0.5>"}


# What none can say

@pytest.mark.parametrize(("changes", "note"), [
    ({"seed": 2**65}, "Seed: "), ({"steps": 1000}, "Steps: "), ({"steps": "many"}, "Steps: "),
    ({"cfg_scale": {"a": 1}}, "Guidance scale: "), ({"width": 100.5}, "Width (px): "),
    ({"height": [1]}, "Height (px): "),
    ({"steps": True}, "Steps: "), ({"cfg_scale": float("nan")}, "Guidance scale: ")])
def test_values_that_cannot_be_asked_for_become_notes(changes, note):
    found = parse_any(json.dumps({**INVOKEAI, **changes})).parsed
    assert len(found.notes) == 1 and found.notes[0].startswith(note)
    assert make(Img2Img, **found.for_task(Img2Img))
