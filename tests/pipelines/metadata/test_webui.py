"""AUTOMATIC1111's text as other writers leave it: line breaks, odd quotes, templates, names, hires by size."""

import json
import struct
import zlib

import pytest
from PIL import Image

from pipelines.metadata import parse_any, png_bytes, read, read_any
from pipelines.metadata.literal import literal
from pipelines.prompts import grammar

from .pictures import png, with_exif

HEAD = "a tin robot\nNegative prompt: blur\nSteps: 12, Sampler: Euler a, CFG scale: 6, Seed: 77, Size: 128x192, "
FIELDS = {"prompt": "a tin robot", "negative_prompt": "blur", "steps": 12, "sampler": "Euler a", "seed": 77,
          "guidance_scale": 6.0, "width": 128, "height": 192, "clip_skip": 1}


def parsed(text):
    return parse_any(text).parsed


@pytest.mark.parametrize(("rest", "unknown"), [
    ('Template: "a {tin|brass} robot,\nrust, moss", Version: v1.5.1', {"Template": "a {tin|brass} robot,\nrust, moss"}),
    ('Template: "a robot,\nSteps: 99, Seed: 1, Size: 8x8", Version: v1', {
        "Template": "a robot,\nSteps: 99, Seed: 1, Size: 8x8"}),
    ("Version: v1\nTemplate: a {tin|brass} robot, style: comic, seed: 5, size: big\nNegative Template: blur", {
        "Template": "a {tin|brass} robot, style: comic, seed: 5, size: big", "Negative Template": "blur"}),
    ("Version: v1\nTemplate: a robot,\nseed: 5, size: big", {"Template": "a robot,", "seed": "5, size: big"}),
    (r'ADetailer prompt: "a fox \(animal\), Steps: 99, Seed: 1", ADetailer model: face.pt', {
        "ADetailer prompt": r"a fox \(animal\), Steps: 99, Seed: 1", "ADetailer model": "face.pt"}),
    ('ADetailer prompt: "a "big", fox, Steps: 99", Version: v1', {"ADetailer prompt": 'a "big", fox, Steps: 99'}),
    (r'Path: "C:\models\a, b", Version: v1', {"Path": r"C:\models\a, b"}),
    ('Note: "never closed, Version: v1', {"Note": '"never closed', "Version": "v1"}),
    ("Note: a, b, Version: v1", {"Note": "a", "Without a name": "b"}),
    ("Seed: 77, Note: 1, Note: 2", {"Note": "2", "Without a name": "Note: 1"})])
def test_the_settings_are_read_and_every_other_value_is_listed(rest, unknown):
    found = parsed(HEAD + rest)
    assert found.fields == FIELDS
    assert unknown.items() <= found.unknown.items()


@pytest.mark.parametrize("text", [
    HEAD.replace("\n", "\r\n") + "Version: v1\r\n", HEAD.replace(", ", ",\n"),
    HEAD.replace(", ", "\n").removesuffix("\n"), HEAD.replace("\n", " ") + "Version: v1",
    f"{HEAD}Version: v1\n\n\n", f"\n{HEAD}Version: v1"])
def test_line_breaks_that_were_added_or_lost_do_no_harm(text):
    assert parsed(text).fields == FIELDS


def test_a_line_of_words_with_colons_is_a_prompt():
    text = "Subject: a red apple, Style: noto, Size: huge"
    assert parsed(text).fields == {"prompt": text, "negative_prompt": ""}
    text = "Steps: 3, walk up\na hill"
    assert parsed(text).fields["prompt"] == text


# names

@pytest.mark.parametrize(("written", "sampler", "schedule"), [
    ("deis_sgm_uniform", "DEIS", "SGM Uniform"), ("dpmpp_2m_sde_gpu_karras", "DPM++ 2M SDE", "Karras"),
    ("euler_ancestral_normal", "Euler a", "Normal"), ("ddim_ddim_uniform", "DDIM", "DDIM"),
    ("Euler SGMUniform", "Euler", "SGM Uniform"), ("DPM++ 2M (Karras)", "DPM++ 2M", "Karras"),
    ("uni_pc_bh2_simple", "uni_pc_bh2", "Simple")])
def test_a_schedule_behind_any_known_sampler_is_split_off(written, sampler, schedule):
    fields = parsed(f"x\nSteps: 20, Sampler: {written}, Seed: 1, Version: ComfyUI").fields
    assert (fields["sampler"], fields["schedule"]) == (sampler, schedule)


def test_a_schedule_in_the_samplers_name_counts_more_than_automatic_and_less_than_a_chosen_one():
    text = "x\nSteps: 20, Sampler: DPM++ 2M Karras, Schedule type: {}, Seed: 1"
    assert parsed(text.format("Automatic")).fields["schedule"] == "Karras"
    found = parsed(text.format("Beta"))
    assert found.fields["schedule"] == "Beta" and "Karras" in found.notes[0]


def test_files_are_named_without_folder_and_ending_and_allowed_names_are_met_in_any_spelling():
    text = "x\nSteps: 20, Seed: 1, Model: a/toy.safetensors, VAE: b\\Soft.pt, Hires upscaler: sub/4X-Big.pth"
    found = parse_any(text, {"vae": ("soft",), "hires_upscaler": ("Latent", "4x-Big")}).parsed
    assert (found.fields["model"], found.fields["vae"], found.fields["hires_upscaler"]) == ("toy", "soft", "4x-Big")


# hires by size

@pytest.mark.parametrize(("size", "said", "first", "scale"), [
    ("128x128", "Hires resize: 256x256", (128, 128), 2.0), ("512x512", "Hires resize: 1000x0", (512, 512), 1.9532),
    ("512x768", "Hires resize: 0x1152", (512, 768), 1.5), ("1024x1024", "First pass size: 512x512", (512, 512), 2.0),
    ("1024x1024", "First pass size: 0x0", (512, 512), 2.0), ("128x192", "Hires size: 192x288", (128, 192), 1.5)])
def test_hires_by_size_becomes_a_scale(size, said, first, scale):
    found = parsed(f"x\nSteps: 20, Seed: 1, Size: {size}, Denoising strength: 0.45, {said}, Version: v1")
    fields = found.fields
    assert (fields["width"], fields["height"], fields["hires_scale"], fields["hires_strength"]) == (*first, scale, 0.45)
    assert not found.notes and found.unknown.keys() == {"Version"}


def test_hires_of_another_shape_is_told_and_a_size_of_zero_is_listed():
    found = parsed("x\nSteps: 20, Seed: 1, Size: 128x128, Hires resize: 256x192, Version: v1")
    assert found.fields["hires_scale"] == 2.0 and "another shape" in found.notes[0]
    found = parsed("x\nSteps: 20, Seed: 1, Size: 128x128, Hires upscale: 1.5, Hires resize: 0x0, Version: v1")
    assert found.fields["hires_scale"] == 1.5 and found.unknown["Hires resize"] == "0x0"


# what is not done here

@pytest.mark.parametrize("pair", [
    "Hypernet: inkwork", "Refiner: xl_refiner [7440042bbd]", "Token merging ratio: 0.5",
    "Styles: comic", "Face restoration: CodeFormer", "ADetailer model: face.pt", "ControlNet 0: canny",
    "Hires checkpoint: other"])
def test_features_that_are_not_here_are_named_in_words(pair):
    key, _, value = pair.partition(": ")
    found = parsed(f"{HEAD}{pair}, Refiner switch at: 0.8, Token merging ratio hr: 0, Version: v1.10.1")
    (note,) = found.notes
    assert note.startswith(f"{key} ({value}): ")
    assert found.unknown[key] == value


def test_early_steps_without_guidance_are_taken_over():
    assert parsed(f"{HEAD}Skip Early CFG: 0.2").fields["guidance_start"] == 0.2


def test_resources_of_civitai_that_have_no_name_are_told_by_number():
    resources = [{"type": "checkpoint", "modelVersionId": 290640}, {"type": "lora", "weight": 0.4, "modelVersionId": 4},
                 {"type": "ImageJobNetworkParams { Strength = 0.3, Type = lora }", "weight": 0.3, "modelVersionId": 9},
                 {"air": "urn:air:sd1:lora:civitai:82098@87153", "weight": 1}]
    found = parsed(f"{HEAD}Civitai resources: {json.dumps(resources)}, Civitai metadata: {{}}")
    assert found.fields == FIELDS and len(found.notes) == 4
    numbers = ("290640", "4, ", "9, ", "82098@87153")
    assert all(number in note for number, note in zip(numbers, found.notes, strict=True))


# encodings

@pytest.mark.parametrize("text", ["Fuchs, 狐, grün", "grün", "Ã¼", "plain"])
def test_utf8_in_a_chunk_for_latin1_is_read_and_our_own_texts_come_back(tmp_path, text):
    data = b"parameters\0" + text.encode()
    raw = struct.pack(">I", len(data)) + b"tEXt" + data + struct.pack(">I", zlib.crc32(b"tEXt" + data))
    whole = png(tmp_path / "x.png", {}).read_bytes()
    (tmp_path / "x.png").write_bytes(whole[:33] + raw + whole[33:])
    assert read(tmp_path / "x.png") == text
    (tmp_path / "y.png").write_bytes(png_bytes(Image.new("RGB", (8, 8)), text))
    assert read(tmp_path / "y.png") == text


def test_utf8_in_a_tag_for_one_byte_a_character_is_read(tmp_path):
    words = "grün 狐".encode()
    path = with_exif(tmp_path / "x.jpg", {0x010e: "x" * len(words)})
    path.write_bytes(path.read_bytes().replace(b"x" * len(words), words))
    assert read_any(path).raw["ImageDescription"] == "grün 狐"


def test_a_text_that_is_merely_unknown_is_not_called_nothing(tmp_path):
    found = read_any(png(tmp_path / "x.png", {"parameters": {"a": 1}}))
    assert found.nothing == found.parsed.notes[0] == "This picture carries texts, but of no tool that is known here."
    assert "says nothing" in read_any(png(tmp_path / "y.png", {"Software": "x"})).nothing


# words that mean nothing elsewhere

@pytest.mark.parametrize(("theirs", "read_as"), [
    ("a [red:blue:0.5] boat, [old], 3 AND 4, #2 hull", "a [red:blue:0.5] boat, [old], 3 AND 4, #2 hull"),
    ("BREAK, a|b, \\(x\\), c:\\d", "BREAK, a|b, (x), c:\\d"), ("embedding:sub/ink.pt, embedding:b", "ink, b")])
def test_literal_words_are_read_as_they_stand(theirs, read_as):
    (part,) = grammar.parse(literal(theirs)).parts
    assert "".join(node.text for node in part.children) == read_as


def test_round_brackets_and_tags_stay():
    assert literal("(embedding:ink:1.2) <lora:a [b] #1:0.5>") == "(ink:1.2) <lora:a [b] #1:0.5>"
