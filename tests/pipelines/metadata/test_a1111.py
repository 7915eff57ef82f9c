import io
import os
import random
import struct
import tracemalloc
import zlib

import pytest
from PIL import ExifTags, Image, PngImagePlugin

from pipelines import metadata
from pipelines.errors import RequestError
from pipelines.metadata import MAX_TEXT, all_text, infotext, parse, png_bytes, read, save, save_animation, save_png
from pipelines.requests import MAX_PROMPT, TASKS, Img2Img, Inpaint, Txt2Img, Upscale, extra_of, make
from tests.effort import LITTLE, cpu_s, effort, passes

from .odd import ODD

CONCRETE = {"sampler": "Euler a", "schedule": "Karras", "steps": 20, "guidance_scale": 7.0, "width": 512,
            "height": 768, "seed": 965400086, "model": "tiny"}
WEBUI = """masterpiece, 1girl, (smile:1.2),
garden, <lora:flowers:0.8>
Negative prompt: lowres, (bad hands:1.4),
blurry: very
Steps: 28, Sampler: DPM++ 2M Karras, CFG scale: 7.5, Seed: 3172948283, Size: 512x768, Model hash: 7f96a1a9ca, \
Model: any:thing, Denoising strength: 0.45, Clip skip: 2, Hires upscale: 1.5, Lora hashes: "flowers: 1a2b3c4d5e6f, \
other: 000000000000", Version: v1.6.0""".replace("any:thing", '"any:thing"')


def tiny(mode="RGB"):
    return Image.new(mode, (8, 6), "red" if mode != "L" else 128)


def picture(tmp_path, chunks: bytes, name="x.png"):
    """A PNG with raw chunks put behind its header."""
    file = io.BytesIO()
    tiny().save(file, "PNG")
    data = file.getvalue()
    path = tmp_path / name
    path.write_bytes(data[:33] + chunks + data[33:])
    return path


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


# writing

def test_a_request_is_written_as_automatic1111_writes_it():
    request = make(Txt2Img, prompt="a red apple,\nwhite background", negative_prompt="blurry", clip_skip=2, **CONCRETE)
    assert infotext(request, extra={"Model hash": "1234567890"}, version="Atelier 9.8.7") == (
        "a red apple,\nwhite background\n"
        "Negative prompt: blurry\n"
        "Steps: 20, Sampler: Euler a, Schedule type: Karras, CFG scale: 7, Seed: 965400086, Size: 512x768, "
        "Model hash: 1234567890, Model: tiny, Clip skip: 2, RNG: CPU, Version: Atelier 9.8.7")


def test_inpainting_is_written_in_their_words_and_defaults_are_left_away():
    request = make(Inpaint, prompt="x", **CONCRETE)
    assert infotext(request, version="Atelier 1").endswith("Model: tiny, Denoising strength: 0.75, Mask blur: 4, "
                                                   "RNG: CPU, Version: Atelier 1")
    request = make(Inpaint, prompt="x", mask_invert=True, inpaint_area="Only masked", masked_content="latent noise",
                   mask_grow=-3, outpaint_left=64, **CONCRETE)
    assert infotext(request, version="Atelier 1").endswith(
        "Denoising strength: 0.75, Mask mode: Inpaint not masked, Mask blur: 4, Inpaint area: Only masked, "
        "Masked area padding: 32, Masked content: latent noise, RNG: CPU, Mask grow: -3, Outpaint left: 64, "
        "Version: Atelier 1")


def test_an_empty_prompt_leaves_no_empty_line():
    assert infotext(make(Txt2Img, **CONCRETE)).startswith("Steps: 20, ")
    assert infotext(make(Txt2Img, negative_prompt="n", **CONCRETE)).startswith("Negative prompt: n\nSteps: 20, ")


def test_values_that_would_break_the_line_are_quoted_like_json():
    extra = {"Lora hashes": "a: 12, b: 34", "Note": "猫\nhat", "Seed": None, "Model": "v1.5"}
    text = infotext(make(Txt2Img, **CONCRETE), extra=extra, version="Atelier 1")
    assert text.endswith('Model: v1.5, RNG: CPU, Lora hashes: "a: 12, b: 34", Note: "猫\\nhat", Version: Atelier 1')
    assert "Seed" not in text


def test_the_number_of_pictures_is_not_written():
    assert "atch" not in infotext(make(Txt2Img, prompt="x", batch_size=4, batch_count=2, **CONCRETE))


# the way back

def test_every_field_that_shapes_one_picture_is_carried():
    kept_elsewhere = {"prompt", "image", "mask"}  # the text itself, and the files
    spelled_out_before = {"styles", "prompt_lines", "texts", "dynamic", "batch_size", "batch_count"}
    for cls in TASKS.values():
        left_out = {name for name, info in cls.model_fields.items() if not extra_of(info)["infotext"]}
        said_by_the_scale = {"width", "height"} if cls is Upscale else set()
        assert left_out - kept_elsewhere - spelled_out_before == said_by_the_scale


def test_the_way_of_resizing_is_written_only_where_it_is_not_the_tasks_own():
    for cls, own in ((Img2Img, "crop"), (Inpaint, "stretch")):
        assert "Resize mode" not in infotext(make(cls, resize_mode=own, **CONCRETE))
        for mode in {"crop", "stretch", "fill", "keep"} - {own}:
            text = infotext(make(cls, resize_mode=mode, **CONCRETE))
            assert f"Resize mode: {mode}" in text and parse(text).for_task(cls)["resize_mode"] == mode


def test_a_prompt_of_the_second_pass_may_be_as_long_as_any_prompt():
    request = make(Txt2Img, hires_scale=2.0, hires_prompt="a, b: c\n" * 500, **CONCRETE)
    parsed = parse(infotext(request))
    assert make(Txt2Img, **parsed.for_task(Txt2Img)) == request and not parsed.notes


def test_the_way_through_a_png_file_changes_nothing(tmp_path):
    request = make(Txt2Img, prompt="猫, 👩‍🎨 and \"quotes\"\nline two", negative_prompt="é", **CONCRETE)
    save_png(tiny(), tmp_path / "x.png", infotext(request))
    assert make(Txt2Img, **parse(read(tmp_path / "x.png")).for_task(Txt2Img)) == request


# texts of others

def test_a_text_of_the_web_ui_is_understood():
    parsed = parse(WEBUI)
    assert parsed.fields == {
        "prompt": "masterpiece, 1girl, (smile:1.2),\ngarden, <lora:flowers:0.8>",
        "negative_prompt": "lowres, (bad hands:1.4),\nblurry: very", "steps": 28, "sampler": "DPM++ 2M",
        "schedule": "Karras", "guidance_scale": 7.5, "seed": 3172948283, "width": 512, "height": 768,
        "model": "any:thing", "strength": 0.45, "hires_strength": 0.45, "hires_scale": 1.5, "clip_skip": 2}
    assert parsed.unknown == {"Model hash": "7f96a1a9ca", "Version": "v1.6.0",
                              "Lora hashes": "flowers: 1a2b3c4d5e6f, other: 000000000000"}
    assert parsed.notes == ()


@pytest.mark.parametrize(("written", "sampler", "schedule"), [
    ("Sampler: DPM++ 2M Karras", "DPM++ 2M", "Karras"),
    ("Sampler: DPM++ 2M SDE Heun Exponential", "DPM++ 2M SDE Heun", "Exponential"),
    ("Sampler: Euler SGM Uniform", "Euler", "SGM Uniform"),
    ("Sampler: Euler a", "Euler a", None),
    ("Sampler: DDIM", "DDIM", None),
    ("Sampler: DPM++ 2M, Schedule type: Automatic", "DPM++ 2M", "Automatic"),
    ("Sampler: Euler, Schedule type: sgm_uniform", "Euler", "SGM Uniform"),
    ("Sampler: Euler, Schedule type: karras", "Euler", "Karras"),
    ("Sampler: My Karras, Schedule type: Beta", "My Karras", "Beta")])
def test_sampler_and_schedule_are_told_apart(written, sampler, schedule):
    fields = parse(f"x\nSteps: 20, {written}, Seed: 1").fields
    assert (fields["sampler"], fields.get("schedule")) == (sampler, schedule)


def test_inpainting_words_become_our_fields():
    fields = parse("x\nSteps: 20, Seed: 1, Mask mode: Inpaint not masked, Mask blur: 0, Inpaint area: Only masked, "
                   "Masked area padding: 40, Masked content: latent nothing, Soft inpainting enabled: True").fields
    assert fields["mask_invert"] is True and fields["soft_mask"] is True
    assert (fields["mask_blur"], fields["masked_padding"]) == (0, 40)
    assert (fields["inpaint_area"], fields["masked_content"]) == ("Only masked", "latent nothing")


def test_inline_json_of_civitai_is_lifted_out_whole():
    resources = '[{"type":"checkpoint","modelVersionId":128,"modelName":"A, b: c","Steps: 99":"x"},{"weight":0.8}]'
    parsed = parse(f"x\nSteps: 25, Sampler: Euler a, Seed: 3, Civitai resources: {resources}, "
                   'Civitai metadata: {"remixOfId": 5, "a": {"b": "c, Seed: 9"}}, Clip skip: 2')
    assert parsed.unknown == {"Civitai resources": resources,
                              "Civitai metadata": '{"remixOfId": 5, "a": {"b": "c, Seed: 9"}}'}
    assert (parsed.fields["steps"], parsed.fields["seed"], parsed.fields["clip_skip"]) == (25, 3, 2)


def test_a_text_without_settings_is_all_prompt():
    assert parse("a cat, (dog:1.2), hat: red, shoe: blue, tie: green").fields == {
        "prompt": "a cat, (dog:1.2), hat: red, shoe: blue, tie: green", "negative_prompt": ""}


def test_what_stands_below_the_settings_does_not_hide_them():
    parsed = parse("x\nSteps: 20, Seed: 4, Size: 64x64\nTemplate: {a|b}")
    assert parsed.fields["seed"] == 4 and parsed.fields["prompt"] == "x" and len(parsed.notes) == 1


def test_windows_line_ends_and_blanks_around_lines_do_no_harm():
    fields = parse("  a \r\n b\r\n Negative prompt: c \r\nSteps: 20, Seed: 4, Size: 64x64\r\n\r\n").fields
    assert (fields["prompt"], fields["negative_prompt"], fields["seed"]) == ("a\nb", "c", 4)


# texts of strangers

@pytest.mark.parametrize(("pair", "title"), [
    ("Steps: NaN", "Steps"), ("Steps: 1000000000", "Steps"), ("Steps: 0", "Steps"), ("Steps: 2.5", "Steps"),
    ("Steps: 1e999", "Steps"), ("Steps: 1_0", "Steps"), ("Steps: ٣", "Steps"), ("Steps: ", "Steps"),
    ("CFG scale: inf", "Guidance scale"), ("CFG scale: -1", "Guidance scale"), ("Seed: 99999999999999999999", "Seed"),
    ("Size: 100x99999", "Width (px)"), ("Size: hugexbig", ""), ("Denoising strength: 0", "Strength"),
    ("Mask mode: sideways", "Invert mask"), ("Masked content: lama cleaner", "Masked content"),
    ("Sampler: Undefined", "Sampler"), ("Sampler: " + "x" * 10_000, "Sampler"), ("Model: " + "x" * 10_000, "Model")])
def test_values_that_cannot_be_asked_for_become_notes(pair, title):
    parsed = parse(f"x\nVersion: 1, Note: CPU, Clip skip: 2, {pair}")
    assert set(parsed.fields) == {"prompt", "negative_prompt", "clip_skip"}
    assert not title or any(note.startswith(f"{title}: ") and len(note) < 200 for note in parsed.notes)


def test_only_what_is_allowed_can_be_chosen():
    text = "x\nSteps: 20, Sampler: Euler, Seed: 1, Model: ../../secret"
    parsed = parse(text, {"model": ["tiny"], "sampler": {"Euler": 1}})
    assert "model" not in parsed.fields and parsed.fields["sampler"] == "Euler"
    assert parsed.notes == ("Model: '../../secret' is not known here.",)


def test_a_prompt_that_is_too_long_is_cut_and_said():
    parsed = parse("y" * (MAX_PROMPT + 5) + "\nSteps: 20, Seed: 1, Size: 64x64")
    assert parsed.fields["prompt"] == "y" * MAX_PROMPT and "4,005" in parsed.notes[0]
    assert make(Txt2Img, **parsed.for_task(Txt2Img)).seed == 1


@pytest.mark.parametrize("value", [None, 5, b"Steps: 1", ["x"]])
def test_what_is_no_text_gives_no_fields(value):
    assert parse(value).fields == {} and parse(value).notes


HOSTILE = {
    "nested brackets": "Steps: 20, Seed: 1, Size: 64x64, A: " + "[" * 100_000,
    "nested braces": "Steps: 20, Seed: 1, Size: 64x64, A: " + '{"a":' * 100_000,
    "nested prompt": "(" * 100_000,
    "brackets in every value": "a: [" * 100_000 + ", Steps: 1",
    "open brackets": "Steps: 1, " + "b: [1,[" * 50_000,
    "open quotes": 'Steps: "\\", ' * 50_000,
    "backslashes": 'Steps: 1, Seed: 1, Size: "' + "\\" * 200_000,
    "one word": "Steps: 1, " + "w" * 3_000_000,
    "words": "Steps: 1, Seed: 2, " + "word " * 600_000,
    "blanks": "Steps: 1, Seed: 2, " + " " * 3_000_000 + "x",
    "colons": ":" * 3_000_000,
    "commas": "," * 3_000_000,
    "lines": "\n" * 3_000_000,
    "many negatives": "Negative prompt:\n" * 200_000,
    "many lines of settings": "Steps: 1, Seed: 1\n" * 100_000,
    "many pairs": ", ".join(f"k{i}: {i}" for i in range(300_000)),
    "many digits": "Steps: " + "9" * 90_000 + ", Seed: 1, Size: " + "1" * 5_000 + "x8",
    "digits in brackets": "Steps: 1, Seed: 1, Size: 64x64, A: [" + "9" * 50_000 + "]",
    "surrogates": "\ud800" * 100_000 + "\nSteps: 1, Seed: 1, Model: \udfff",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_texts_are_read_with_little_work(name):
    parsed, work = effort(lambda: parse(HOSTILE[name]))
    assert work < LITTLE
    assert len(HOSTILE[name]) <= MAX_TEXT or f"first {MAX_TEXT:,}" in parsed.notes[0]
    assert sum(map(len, parsed.unknown.values())) < 2 * MAX_TEXT
    assert all(len(note) < 300 for note in parsed.notes)


def test_reading_takes_time_in_proportion_to_the_length():
    rng = random.Random(3)
    alphabet = ["Steps", "Seed", ": ", ", ", '"', "\\", "[", "]", "{", "}", "\n", " ", "1", "x", "Size: 64x64, ", "é"]
    texts = ["".join(rng.choices(alphabet, k=5_000)) for _ in range(200)]
    slowest_s = max(cpu_s(lambda text=text: parse(text))[1] for text in texts)
    assert passes(slowest_s) < LITTLE / 2


def test_random_texts_never_raise_and_give_only_what_a_request_takes():
    rng = random.Random(5)
    keys = [extra_of(info)["infotext"] for info in Inpaint.model_fields.values() if extra_of(info)["infotext"]]
    for _ in range(500):
        pairs = [f"{rng.choice([*keys, 'Size', 'K'])}: {rng.choice(['1', 'NaN', '-5', 'True', '64x64', '1e3', *ODD])}"
                 for _ in range(8)]
        prompt = "".join(rng.choices(ODD, k=5))
        parsed = parse(f"{prompt}\nSteps: 1, Seed: 2, Size: 8x8, {', '.join(pairs)}")
        assert make(Inpaint, **parsed.for_task(Inpaint))


# files

@pytest.mark.parametrize("text", ["plain", "latin é", "猫 👩‍🎨", "two\nlines", "x" * 20_000])
@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.JPEG", "x.webp"])
def test_text_comes_back_from_every_kind_of_file(tmp_path, name, text):
    save(tiny(), tmp_path / name, text)
    assert read(tmp_path / name) == text
    with Image.open(tmp_path / name) as image:
        assert read(image) == text
        assert image.size == (8, 6)


@pytest.mark.parametrize("text", ["latin é, Seed: 1", "猫 👩‍🎨\nSteps: 2, Seed: 1", "Seed: 1" + "x" * 20_000])
@pytest.mark.parametrize("name", ["x.webp", "x.gif"])
def test_text_comes_back_from_an_animation_whose_pictures_nobody_decodes(tmp_path, name, text):
    frames = [Image.effect_noise((40, 24), 80), Image.new("RGB", (40, 24), "red")]
    save_animation(frames, (100, 900), tmp_path / name, text)
    assert read(tmp_path / name) == text
    with Image.open(tmp_path / name) as image:
        assert (image.n_frames, image.size, image.info["loop"]) == (2, (40, 24), 0)
    save_animation(frames, (100, 900), tmp_path / name, None)
    assert all_text(tmp_path / name) == {}


def test_a_gif_of_another_program_says_its_comment_and_no_prompt(tmp_path):
    tiny().save(tmp_path / "x.gif", comment=b"made with love")
    assert all_text(tmp_path / "x.gif") == {"comment": "made with love"} and read(tmp_path / "x.gif") is None


def test_a_comment_behind_the_pictures_of_a_gif_is_found_and_half_a_file_is_refused(tmp_path):
    Image.effect_noise((64, 64), 80).save(tmp_path / "x.gif")
    data = (tmp_path / "x.gif").read_bytes()
    assert data.endswith(b";")
    (tmp_path / "x.gif").write_bytes(data[:-1] + b"!\xfe\x07Seed: 1\0;")
    assert read(tmp_path / "x.gif") == "Seed: 1"
    (tmp_path / "x.gif").write_bytes(data[:-10])
    with pytest.raises(RequestError, match="not a whole PNG, JPEG, WebP"):
        read(tmp_path / "x.gif")


def test_png_keeps_pixels_transparency_and_says_so_byte_for_byte():
    image = Image.effect_noise((16, 16), 80).convert("RGBA")
    image.putalpha(Image.effect_noise((16, 16), 80))
    with Image.open(io.BytesIO(png_bytes(image, "t"))) as back:
        assert (back.format, back.mode, back.text) == ("PNG", "RGBA", {"parameters": "t"})
        assert back.tobytes() == image.tobytes()


def test_transparent_pictures_are_laid_on_white_for_jpeg(tmp_path):
    save(Image.new("RGBA", (8, 8), (255, 0, 0, 0)), tmp_path / "x.jpg", "t")
    assert Image.open(tmp_path / "x.jpg").getpixel((4, 4)) == (255, 255, 255)


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.webp"])
def test_without_text_a_file_says_nothing_not_even_what_its_source_said(tmp_path, name):
    png = tiny()
    png.info |= {"parameters": "secret", "comment": b"secret", "xmp": b"secret", "exif": b"Exif\0\0secret"}
    save(png, tmp_path / name, None)
    data = (tmp_path / name).read_bytes()
    assert b"secret" not in data and b"tEXt" not in data and b"iTXt" not in data and b"xif" not in data
    assert read(tmp_path / name) is None and all_text(tmp_path / name) == {}
    assert png.info["parameters"] == "secret", "the picture in memory was changed"


@pytest.mark.parametrize("raw", [
    b"UNICODE\0" + "猫 Steps: 20, Seed: 1".encode("utf-16-be"),
    b"UNICODE\0" + "猫 Steps: 20, Seed: 1".encode("utf-16-le"),
    b"UNICODE\0" + b"\xff\xfe" + "猫 Steps: 20, Seed: 1".encode("utf-16-le"),
    b"UNICODE\0" + b"\xfe\xff" + "猫 Steps: 20, Seed: 1".encode("utf-16-be"),
    b"ASCII\0\0\0" + "猫 Steps: 20, Seed: 1".encode(),
    bytes(8) + "猫 Steps: 20, Seed: 1".encode() + b"\0\0",
    "猫 Steps: 20, Seed: 1".encode()])
def test_user_comments_are_read_in_every_spelling(tmp_path, raw):
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = raw
    tiny().save(tmp_path / "x.jpg", exif=exif)
    assert read(tmp_path / "x.jpg") == "猫 Steps: 20, Seed: 1"


@pytest.mark.parametrize(("kind", "data"), [
    (b"tEXt", b"parameters\0" + "caf\xe9".encode("latin-1")),
    (b"zTXt", b"parameters\0\0" + zlib.compress("caf\xe9".encode("latin-1"))),
    (b"iTXt", b"parameters\0\0\0en\0\0" + "caf\xe9".encode()),
    (b"iTXt", b"parameters\0\1\0\0\0" + zlib.compress("caf\xe9".encode()))])
def test_all_three_png_text_chunks_are_read(tmp_path, kind, data):
    assert read(picture(tmp_path, chunk(kind, data))) == "caf\xe9"


def test_text_behind_the_pixels_is_found(tmp_path):
    data = png_bytes(tiny(), None)
    (tmp_path / "x.png").write_bytes(data[:-12] + chunk(b"tEXt", b"parameters\0late") + data[-12:])
    assert read(tmp_path / "x.png") == "late"


def test_every_text_is_shown_by_its_name_and_cut(tmp_path):
    chunks = b"".join(chunk(b"tEXt", b"key%d\0%s" % (i, b"v" * 30_000)) for i in range(80))
    shown = all_text(picture(tmp_path, chunks))
    assert len(shown) == metadata.MAX_CHUNKS and len(shown["key0"]) == metadata.MAX_SHOWN
    exif = Image.Exif()
    exif[ExifTags.Base.Software] = "Some program"
    tiny().save(tmp_path / "x.jpg", exif=exif, comment=b"hello")
    assert all_text(tmp_path / "x.jpg") == {"comment": "hello", "Software": "Some program"}


def test_a_zipped_text_of_a_hundred_megabytes_is_refused_before_it_is_unpacked(tmp_path):
    packer = zlib.compressobj()
    packed = b"".join(packer.compress(bytes(1_000_000)) for _ in range(100)) + packer.flush()
    path = picture(tmp_path, chunk(b"zTXt", b"parameters\0\0" + packed))
    for look in (read, all_text):
        tracemalloc.start()
        try:
            with pytest.raises(RequestError, match="larger than 1 MB"):
                look(path)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert most < 10_000_000


@pytest.mark.parametrize("data", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n", b"GIF89a" + bytes(50), b"%!PS-Adobe"])
def test_other_files_are_refused_in_plain_words(tmp_path, data):
    (tmp_path / "x.png").write_bytes(data)
    with pytest.raises(RequestError, match="not a whole PNG, JPEG, WebP") as caught:
        read(tmp_path / "x.png")
    assert str(tmp_path) not in str(caught.value)


def test_the_text_of_a_picture_of_too_many_pixels_is_read_and_nothing_decoded(tmp_path):
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    path = tmp_path / "x.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"")
                     + chunk(b"tEXt", b"parameters\0Seed: 1") + chunk(b"IEND", b""))
    assert read(path) == "Seed: 1"


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0", b"junk" * 50,
                                  b"Exif\0\0II*\0\x08\0\0\0\x01\0\x69\x87\x04\0\x01\0\0\0\x08\0\0\0"])
def test_a_damaged_exif_block_counts_as_none(tmp_path, exif):
    tiny().save(tmp_path / "x.jpg", exif=exif)
    assert read(tmp_path / "x.jpg") is None


def test_a_truncated_picture_still_gives_its_text(tmp_path):
    data = png_bytes(Image.effect_noise((64, 64), 80), "found")
    (tmp_path / "x.png").write_bytes(data[:len(data) // 2])
    assert read(Image.open(tmp_path / "x.png")) == "found"


def test_saving_replaces_whole_files_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "x.png"
    save_png(tiny(), path, "one")
    save_png(tiny(), path, "two")
    assert read(path) == "two" and os.listdir(tmp_path) == ["x.png"]


def test_a_failed_save_leaves_the_old_file_and_no_rubbish(tmp_path):
    (tmp_path / "x.png").mkdir()  # replacing a folder by a file fails at the very last moment
    with pytest.raises(OSError, match=r"."):
        save_png(tiny(), tmp_path / "x.png", "t")
    assert os.listdir(tmp_path) == ["x.png"]
    with pytest.raises(FileNotFoundError):
        save_png(tiny(), tmp_path / "missing" / "x.png", "t")


def test_other_file_types_are_refused_by_name(tmp_path):
    with pytest.raises(RequestError, match=r"'\.tiff' is not possible"):
        save(tiny(), tmp_path / "x.tiff", "t")
    assert os.listdir(tmp_path) == []


def test_text_that_no_jpeg_can_hold_is_left_out_and_the_picture_saved(tmp_path):
    save(tiny(), tmp_path / "x.jpg", "x" * 80_000)
    assert read(tmp_path / "x.jpg") is None and Image.open(tmp_path / "x.jpg").size == (8, 6)


def test_the_largest_request_fits_into_a_jpeg(tmp_path):
    request = make(Txt2Img, prompt="👩" * MAX_PROMPT, negative_prompt="猫" * MAX_PROMPT, **CONCRETE)
    save(tiny(), tmp_path / "x.jpg", infotext(request))
    assert make(Txt2Img, **parse(read(tmp_path / "x.jpg")).for_task(Txt2Img)) == request


def test_pillows_own_reader_sees_the_text_under_the_name_others_look_for():
    with Image.open(io.BytesIO(png_bytes(tiny(), "猫"))) as image:
        assert isinstance(image, PngImagePlugin.PngImageFile) and image.info["parameters"] == "猫"


@pytest.mark.parametrize("seed", [2**64 - 1, 2**53 + 1, 1099511627783])
def test_a_seed_of_64_bits_stands_whole_in_the_text(seed):
    request = make(Txt2Img, prompt="a", seed=seed, variation_seed=seed, variation_strength=0.5, sampler="Euler",
                   schedule="Automatic", steps=20, guidance_scale=7.0, width=64, height=64)
    text = infotext(request)
    assert f"Seed: {seed}," in text
    assert [parse(text).fields[name] for name in ("seed", "variation_seed")] == [seed, seed]


def test_prompts_of_pictures_of_the_first_version_change_after_whole_steps():
    old = "[a:b:0.5]\nSteps: 20, Sampler: Heun, Version: Atelier 0.1.0"
    again = make(Txt2Img, **parse(old).fields)
    assert again.prompt_steps == "Whole steps" and parse(infotext(again)).fields["prompt_steps"] == "Whole steps"
    assert "prompt_steps" not in parse(old.replace("0.1.0", "0.2.0")).fields


def test_where_noise_is_drawn_is_always_said_and_silence_means_a_card():
    assert ", RNG: CPU, " in infotext(make(Txt2Img, **CONCRETE))
    given = {"noise_source": "NV", "noise_delta": 31337, "seed_resize_width": 512, "seed_resize_height": 384}
    text = infotext(make(Txt2Img, **CONCRETE, **given))
    assert "RNG: NV, ENSD: 31337, Seed resize from: 512x384" in text
    found = parse(text).for_task(Txt2Img)
    assert {name: found[name] for name in given} == given
    theirs = "x\nSteps: 20, Sampler: Euler a, Seed: 1, Size: 512x512{}, Version: v1.10.1"
    for said, kind in (("", "NV"), (", RNG: CPU", "CPU"), (", RNG: GPU", "GPU")):
        assert parse(theirs.format(said)).for_task(Txt2Img)["noise_source"] == kind
    ours = "x\nSteps: 20, Sampler: Euler a, Seed: 1, Size: 512x512, Version: Atelier 0.1.0"
    assert parse(ours).for_task(Txt2Img)["noise_source"] == "CPU"
