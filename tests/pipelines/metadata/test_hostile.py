"""What a stranger can put into a picture or the clipboard: nothing hangs, nothing raises, all is told."""

import json
import random
import struct
import zlib

import pytest
from PIL import ExifTags, Image

from pipelines.errors import RequestError
from pipelines.metadata import MAX_SHOWN, parse_any, read_any
from pipelines.metadata.fields import MAX_PAIRS, MAX_VALUE
from pipelines.metadata.texts import MAX_JSON
from pipelines.requests import TASKS, make
from tests.effort import LITTLE, effort

from .pictures import png, stealth, with_exif
from .test_comfyui import graph, second
from .test_foreign import COMMENT, FOOOCUS, INVOKEAI, NOVELAI, RESOURCES

DEEP = 100_000
GRAPH = 20_000  # nodes: twice as many as are looked at


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


def deep(kind, name, start, **more):
    """A chain of GRAPH nodes, each fed by the next; the last by the first, which makes it a cycle."""
    return start | {f"d{i}": node(kind, **{name: [f"d{(i + 1) % GRAPH}", 0]}, **more) for i in range(GRAPH)}


def sampler(**inputs):
    kind, values = second(latent_image=["5", 0])
    return {**graph(), "3": node(kind, **{**values, **inputs})}


GRAPHS = {
    "itself": lambda: {"1": node("KSampler", steps=["1", 0], positive=["1", 0], model=["1", 0], latent_image=["1", 0])},
    "deep pictures": lambda: deep("Odd", "image", {"9": node("SaveImage", images=["d0", 0])}),
    "deep latents": lambda: deep("Odd", "samples", sampler(latent_image=["d0", 0])),
    "deep models": lambda: deep("Odd", "model", sampler(model=["d0", 0])),
    "deep conditioning": lambda: deep("Odd", "conditioning", sampler(positive=["d0", 0], negative=["d5", 0])),
    "deep texts": lambda: deep("Odd", "text", {**sampler(), "6": node("CLIPTextEncode", text=["d0", 0])}),
    "deep numbers": lambda: deep("Odd", "value", sampler(seed=["d0", 0], steps=["d1", 0], cfg=["d2", 0])),
    "deep sigmas": lambda: deep("Odd", "sigmas", sampler(sigmas=["d0", 0])),
    "deep encoders": lambda: deep("CLIPSetLastLayer", "clip", {**sampler(), "6": node(
        "CLIPTextEncode", text="x", clip=["d0", 0])}),
    "samplers behind samplers": lambda: {f"d{i}": node("K", steps=1, positive=["6", 0], latent_image=[f"d{i + 1}", 0])
                                         for i in range(GRAPH)},
    "doubling texts": lambda: {**sampler(), "6": node("CLIPTextEncode", text=["d0", 0]), **{
        f"d{i}": node("Concat", text_a=[f"d{i + 1}", 0], text_b=[f"d{i + 1}", 0]) for i in range(64)},
        "d64": node("String", string="word " * 100_000)},
    "many encoders": lambda: {**sampler(positive=["c", 0]), "c": node("Combine", **{
        f"c{i}": [f"e{i}", 0] for i in range(GRAPH)}), "t": node("String", string="x" * 1_000_000),
        **{f"e{i}": node("CLIPTextEncode", text=["t", 0]) for i in range(GRAPH)}},
    "many outputs": lambda: {f"s{i}": node("SaveImage", images=["v", 0]) for i in range(GRAPH)} | {
        "v": node("Odd", image=["v", 0])},
    "many loras": lambda: {**sampler(model=["l", 0]), "l": node("Stack", **{
        f"lora_{i}": "a.pt" for i in range(GRAPH)}, **{f"strength_{i}": 1 for i in range(GRAPH)})},
    "many nodes": lambda: {str(i): node("Odd", a=i, b="x") for i in range(GRAPH)},
}
TEXTS = {
    "hundred megabytes": lambda: "word " * 20_000_000,
    "hundred megabytes of json": lambda: '{"prompt": "' + "word " * 20_000_000 + '"}',
    "brackets": lambda: '{"a": ' + "[" * DEEP,
    "closed brackets": lambda: '{"a": ' + "[" * DEEP + "]" * DEEP + "}",
    "braces": lambda: '{"a":' * DEEP,
    "brackets just within reach": lambda: json.dumps(INVOKEAI)[:-1] + ', "a": ' + "[" * 900 + "]" * 900 + "}",
    "many digits": lambda: '{"positive_prompt": "x", "app_version": 1, "seed": ' + "9" * 1_000_000 + "}",
    "not a number": lambda: json.dumps({**INVOKEAI, "steps": float("nan"), "cfg_scale": float("inf"), "seed": -1e999}),
    "many keys": lambda: json.dumps({**INVOKEAI, **{f"k{i}": i for i in range(300_000)}}),
    "long keys": lambda: json.dumps({**INVOKEAI, **{"k" * 100_000 + str(i): i for i in range(50)}}),
    "long values": lambda: json.dumps({**INVOKEAI, "steps": "9" * 5_000_000, "scheduler": "k" * 2_000_000}),
    "many loras": lambda: json.dumps({**INVOKEAI, "loras": INVOKEAI["loras"] * 40_000}),
    "many resources": lambda: "x\nSteps: 20, Seed: 1, Size: 64x64, Civitai resources: " + json.dumps(RESOURCES * 500),
    "brackets of novelai": lambda: json.dumps({**COMMENT, "prompt": "{[" * 500_000 + "::" * 500_000}),
    "numbers of novelai": lambda: json.dumps({**COMMENT, "prompt": "1" * 1_000_000 + "1.5::" * 200_000}),
    "parentheses": lambda: json.dumps({**COMMENT, "prompt": "\\(" * 500_000}),
    "squares of invokeai": lambda: json.dumps({"image": {"prompt": "[" * 1_000_000 + "]"}, "model_weights": "x"}),
    "surrogates": lambda: json.dumps({**INVOKEAI, "positive_prompt": "\ud800" * 50_000, "scheduler": "\ud800"}),
    "tags of xmp": lambda: "exif:UserComment <exif:UserComment>" + "<" * 2_000_000 + "</exif:UserComment>",
    **{f"graph: {name}": lambda make=make: json.dumps(make()) for name, make in GRAPHS.items()},
}


def check(found):
    assert all(isinstance(value, str) and len(value) <= MAX_VALUE + 3 for value in found.parsed.unknown.values())
    assert len(found.parsed.unknown) <= MAX_PAIRS and all(len(note) < 400 for note in found.parsed.notes)
    assert all(len(value) <= MAX_SHOWN for value in found.raw.values())
    for cls in TASKS.values():
        assert make(cls, **found.parsed.for_task(cls))


# What is read of some, for all that lies behind it.
NOTED = {"graph: many nodes": f"first {MAX_PAIRS}", "graph: deep texts": "too many nodes"}
FOUND = {"graph: deep latents": {"prompt": "a cat", "model": "v1-5-pruned", "steps": 14}}


@pytest.mark.parametrize("name", TEXTS)
def test_hostile_texts_are_read_with_little_work(name):
    text = TEXTS[name]()
    found, work = effort(lambda: parse_any(text))
    assert work < LITTLE
    check(found)
    assert len(text) <= MAX_JSON or found.parsed.notes
    assert NOTED.get(name, "") in "\n".join(found.parsed.notes)
    assert FOUND.get(name, {}).items() <= found.parsed.fields.items()


ODD = [None, True, False, 0, -1, 1e400, float("nan"), 2**70, 0.5, "", "x", "NaN", "True", "-", " : ", "[]", "{", "{}",
       [], [1], ["3", 0], ["3", "0"], [["3", 0]], [None], {}, {"name": 5}, {"a": [1, {"b": None}]}, "\ud800", "\0",
       "a\nb", "<lora:a:1>", "K" * 3_000]
SAMPLES = {
    "comfyui": graph({"80": ("LatentUpscaleBy", {"upscale_method": "bicubic", "scale_by": 1.5, "samples": ["3", 0]}),
                      "81": second(latent_image=["80", 0]), "8": {"samples": ["81", 0]},
                      "3": {"model": ["10", 0]},
                      "10": ("LoraLoader", {"lora_name": "a.pt", "strength_model": 1, "strength_clip": 1,
                                            "model": ["4", 0], "lora_1": {"on": True, "lora": "b", "strength": 1}})}),
    "invokeai": INVOKEAI, "fooocus": FOOOCUS, "novelai": NOVELAI, "novelai comment": {
        **COMMENT, "v4_prompt": {"caption": {"base_caption": "x", "char_captions": [{"char_caption": "y"}]}}},
    "old invokeai": {"model_weights": "sd", "image": {"prompt": [{"prompt": "a [b]"}], "steps": 5, "sampler": "k_lms"}},
    "civitai": {"prompt": "x", "negativePrompt": "y", "cfgScale": 7, "steps": 5, "Size": "64x64",
                "resources": RESOURCES},
    "draw things": {"c": "x", "uc": "y", "size": "64x64", "model": "a.ckpt", "lora": [{"model": "b", "weight": 1}]},
    "easy diffusion": {"prompt": "x", "num_inference_steps": 5, "use_lora_model": ["a"], "lora_alpha": [1],
                       "tiling": "x", "clip_skip": True, "use_stable_diffusion_model": "a/b.ckpt"},
    "workflow": {"nodes": [{"id": 1, "type": "A", "widgets_values": [1]}], "links": [[1, 2, 3]]}}


def spoiled(value, rng):
    """A copy with some of its values, at any depth, put wrong, left out or exchanged."""
    if rng.random() < 0.08:
        return rng.choice(ODD)
    if isinstance(value, dict):
        return {rng.choice([key, key, key, "prompt"]) if rng.random() < 0.03 else key: spoiled(one, rng)
                for key, one in value.items() if rng.random() > 0.04}
    return [spoiled(one, rng) for one in value] if isinstance(value, list) else value


def test_wrong_types_everywhere_never_raise_and_give_only_what_a_request_takes():
    rng, tools = random.Random(11), set()
    for _ in range(1_500):
        sample = spoiled(SAMPLES[rng.choice(list(SAMPLES))], rng)
        found = parse_any(json.dumps(sample))
        check(found)
        tools.add(found.tool)
    assert tools >= {"ComfyUI", "InvokeAI", "Fooocus", "NovelAI", "Civitai", "Draw Things", "Easy Diffusion", ""}


def test_random_texts_in_any_chunk_never_raise(tmp_path):
    rng = random.Random(12)
    names = ["parameters", "prompt", "workflow", "Comment", "Description", "Software", "Dream", "sd-metadata",
             "invokeai_metadata", "fooocus_scheme", "XML:com.adobe.xmp", "num_inference_steps", "extraMetadata"]
    for _ in range(300):
        chunks = {}
        for name in rng.sample(names, 4):
            value = spoiled(SAMPLES[rng.choice(list(SAMPLES))], rng)
            text = rng.choice([json.dumps(value), '"x" -s 5 -S', "a\nSteps: 1, Seed: 2, Size: x", "NovelAI"])
            chunks[name] = text[:rng.choice([len(text), 50, 3])].encode("utf-8", "replace").decode()
        check(read_any(png(tmp_path / "x.png", chunks)))


@pytest.mark.parametrize("value", [None, 5, b"{}", ["x"], {}])
def test_what_is_no_text_gives_no_fields(value):
    assert parse_any(value).parsed.fields == {} and parse_any(value).parsed.notes


def test_a_picture_with_megabytes_of_text_is_read_or_refused_with_little_work(tmp_path):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    def said():
        try:
            return read_any(tmp_path / "y.png").parsed.notes[0]
        except RequestError as error:
            return str(error)

    plain = png(tmp_path / "x.png", {}).read_bytes()
    for size, words in ((30_000_000, "30,000,009 characters"), (100_000_000, "Picture: ")):
        data = chunk(b"tEXt", b'prompt\0{"a": "' + b"x" * size + b'"}')
        (tmp_path / "y.png").write_bytes(plain[:33] + data + plain[33:])
        answer, work = effort(said)
        assert words in answer and work < LITTLE


@pytest.mark.parametrize("length", [0, 8, 2**31, 2**32 - 1])
def test_hidden_text_of_any_said_length_is_harmless(tmp_path, length):
    image = Image.open(stealth(tmp_path / "x.png", "x" * 100, packed=length % 2 == 0))
    pixels = image.load()
    for at in range(32):
        x, y = divmod(120 + at, image.height)
        pixels[x, y] = (*pixels[x, y][:3], 254 | length >> 31 - at & 1)
    image.save(tmp_path / "y.png")
    check(read_any(tmp_path / "y.png"))


def test_hidden_text_that_unpacks_to_megabytes_is_cut(tmp_path):
    found = read_any(stealth(tmp_path / "x.png", '{"a": "' + " " * 30_000_000 + '"}', size=(512, 512)))
    assert found.tool == "" and len(found.raw["parameters"]) == MAX_SHOWN


def test_a_noisy_or_damaged_alpha_channel_hides_nothing(tmp_path):
    noise = Image.effect_noise((64, 64), 80)
    image = Image.merge("RGBA", [noise] * 4)
    image.save(tmp_path / "x.png")
    assert read_any(tmp_path / "x.png").raw == {}
    data = (tmp_path / "x.png").read_bytes()
    (tmp_path / "y.png").write_bytes(data[:len(data) // 2])
    assert read_any(tmp_path / "y.png").raw == {}


def test_a_long_comment_in_a_webp_file_is_read_whole(tmp_path):
    text = json.dumps({**graph(), "note": "x" * 300_000})
    found = read_any(with_exif(tmp_path / "x.webp", {}, {ExifTags.Base.UserComment: b"ASCII\0\0\0" + text.encode()}))
    assert found.tool == "ComfyUI" and found.parsed.fields["steps"] == 20
