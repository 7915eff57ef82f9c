"""Every kind of odd file gets its verdict, none ends the look, none is changed."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.errors import RequestError
from pipelines.training.dataset import captions, crops
from pipelines.training.dataset.picture import open_picture
from pipelines.training.dataset.survey import split, survey
from pipelines.training.request import from_table


def noise(size: tuple[int, int], seed: int, channels: int = 3) -> Image.Image:
    shape = (12, 12, channels) if channels > 1 else (12, 12)
    small = Image.fromarray(np.random.default_rng(seed).integers(0, 255, shape, np.uint8))
    return small.resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One file of every kind, with what should be said of it in its name."""
    place = tmp_path / "odd"
    (place / "__MACOSX").mkdir(parents=True)
    (place / "deeper").mkdir()
    good = noise((128, 128), 0)
    good.save(place / "good.png")
    good.save(place / "the same.png")
    Image.fromarray(np.asarray(good) // 2 * 2).save(place / "zz nearly the same.jpg", quality=95)
    noise((128, 128), 1).save(place / "deeper" / "deep.webp")
    noise((20, 200), 2).save(place / "narrow.png")
    noise((70, 80), 3).save(place / "small.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    noise((160, 128), 4).save(place / "turned.jpg", exif=exif)
    rgba = noise((128, 128), 5).convert("RGBA")
    rgba.putalpha(noise((128, 128), 6, 1))
    rgba.save(place / "clear.png")
    noise((128, 128), 7).convert("CMYK").save(place / "print.jpg")
    Image.fromarray(np.random.default_rng(8).integers(0, 65535, (128, 128), np.uint16)).save(place / "deep16.png")
    noise((128, 128), 9).save(place / "film.webp", save_all=True, append_images=[noise((128, 128), 10)], duration=100)
    noise((128, 128), 11).save(place / "film.gif")
    buffer = io.BytesIO()
    noise((128, 128), 12).save(buffer, "PNG")
    (place / "cut off.png").write_bytes(buffer.getvalue()[:2000])
    (place / "empty.png").touch()
    (place / "text.png").write_text("not a picture")
    (place / "latin.png").write_bytes(buffer.getvalue())
    (place / "latin.txt").write_bytes("café".encode("latin-1"))
    noise((128, 128), 13).save(place / "long.png")
    (place / "long.txt").write_text("word " * 100)
    noise((128, 128), 14).save(place / "blank.png")
    (place / "blank.caption").touch()
    for junk in ("Thumbs.db", "._good.png", "__MACOSX/good.png", ".hidden.png"):
        (place / junk).write_bytes(buffer.getvalue())
    (place / "good.txt").write_text("a good  picture\n")
    (place / "metadata.jsonl").write_text(json.dumps({"file_name": "small.png", "text": "from the table"}) + "\n{bad\n")
    return place


EXPECTED = {
    "good.png": ("ok", ""), "the same.png": ("left out", "the same file as good.png"),
    "zz nearly the same.jpg": ("ok", "looks like good.png"), "deeper/deep.webp": ("ok", "no caption"),
    "narrow.png": ("left out", "too small: 20 x 200"), "small.png": ("mended", "enlarged"),
    "turned.jpg": ("mended", "turned"), "clear.png": ("mended", "transparent"), "print.jpg": ("mended", "CMYK"),
    "deep16.png": ("mended", "16-bit"), "film.webp": ("mended", "animated"), "film.gif": ("ok", "no caption"),
    "cut off.png": ("left out", "damaged"), "empty.png": ("left out", "not a picture"),
    "text.png": ("left out", "not a picture"), "latin.png": ("mended", "not UTF-8"),
    "long.png": ("ok", "100 tokens"), "blank.png": ("ok", "the caption is empty"),
}


def test_every_kind_of_file_gets_its_verdict(folder):
    before = {path: hashlib.sha256(path.read_bytes()).digest() for path in folder.rglob("*") if path.is_file()}
    seen = survey(folder, resolution=128, count_tokens=lambda text: len(text.split()))
    assert seen.notes == ("metadata.jsonl: 1 of its lines cannot be read, the first: 2.",)
    found = {one.name: one for one in seen}
    assert found.keys() == EXPECTED.keys()
    for name, (verdict, reason) in EXPECTED.items():
        assert found[name].verdict == verdict, (name, found[name])
        assert reason in "; ".join(found[name].reasons), (name, found[name].reasons)
    assert found["good.png"].caption == "a good picture"
    assert found["latin.png"].caption == "café"
    assert found["small.png"].caption == "from the table"
    assert (found["turned.jpg"].width, found["turned.jpg"].height) == (128, 160)
    assert before == {path: hashlib.sha256(path.read_bytes()).digest() for path in folder.rglob("*") if path.is_file()}


def test_no_good_picture_is_an_error_that_says_why(tmp_path):
    with pytest.raises(RequestError, match="no such folder"):
        survey(tmp_path / "absent", resolution=64)
    with pytest.raises(RequestError, match="no picture"):
        survey(tmp_path, resolution=64)
    (tmp_path / "bad.png").write_text("x")
    with pytest.raises(RequestError, match="none of the 1 pictures can be used. The first, bad.png: .*not a picture"):
        survey(tmp_path, resolution=64)


def test_linked_pictures_and_folders_are_read_as_the_hub_keeps_its_snapshots(tmp_path):
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "0123"
    (blobs / "more").mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for seed, name in enumerate(("b0", "b1", "more/b2.png")):
        noise((128, 128), seed).save(blobs / name, "PNG")
    (blobs / "b3").write_text("a cat")
    for name, target in (("0.png", "b0"), ("1.png", "b1"), ("0.txt", "b3"), ("deeper", "more")):
        (snapshot / name).symlink_to(Path("..", "..", "blobs", target))
    found = survey(snapshot, resolution=64)
    assert {one.name: one.caption for one in found} == {"0.png": "a cat", "1.png": "", "deeper/b2.png": ""}
    assert all(one.used for one in found) and found.notes == ()


def test_links_that_cannot_be_followed_are_named(tmp_path):
    place = tmp_path / "set"
    (place / "one").mkdir(parents=True)
    noise((128, 128), 0).save(place / "own.png")
    (place / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (place / "gone.txt").symlink_to(tmp_path / "nowhere.txt")
    (place / "again").symlink_to(place / "one")
    (place / "one" / "loop").symlink_to(place)
    (place / "up").symlink_to(tmp_path)
    (place / "itself.png").symlink_to("itself.png")
    os.mkfifo(place / "pipe.png")
    found = survey(place, resolution=64)
    assert {one.name: (one.verdict, one.reasons) for one in found} == {
        "own.png": ("ok", ("no caption",)), "gone.png": ("left out", ("a link that leads nowhere",)),
        "itself.png": ("left out", ("a link that leads nowhere",)), "pipe.png": ("left out", ("not a plain file",))}
    assert found.notes == (
        "Links to folders that are read already, or would be read without end: one, up, again/loop.",
        "Captions that are no plain files, or links that lead nowhere: gone.txt.")


def test_a_folder_that_cannot_be_opened_is_named(tmp_path, monkeypatch):
    noise((128, 128), 0).save(tmp_path / "own.png")
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def refusing(path):
        if Path(path).name == "closed":
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)  # root can open every folder
    assert survey(tmp_path, resolution=64).notes == ("Folders that cannot be opened: closed.",)


@pytest.mark.parametrize(("picture", "text"), [
    ("IMG_1.JPG", "IMG_1.TXT"), ("Mu\u0308ller.png", "M\u00fcller.txt"), ("Cat.png", "cat.Caption"),
    ("a.b.png", "a.b.txt"), ("a.png", "a.png.txt"), ("in/a.png", "in/a.txt")])
def test_a_caption_is_found_however_its_name_is_written(tmp_path, picture, text):
    (tmp_path / picture).parent.mkdir(exist_ok=True)
    noise((128, 128), 0).save(tmp_path / picture)
    noise((128, 128), 1).save(tmp_path / "other.png")
    (tmp_path / text).write_text("a cat")
    found = survey(tmp_path, resolution=64)
    assert {one.name: one.caption for one in found} == {picture: "a cat", "other.png": ""} and found.notes == ()


def test_a_name_that_is_no_text_is_shown_as_far_as_it_is(tmp_path):
    noise((128, 128), 0).save(tmp_path / "a.png")
    stem = os.fsdecode("猫".encode("gbk"))
    (tmp_path / "a.png").rename(tmp_path / f"{stem}.png")
    (tmp_path / f"{stem}.txt").write_text("a cat")
    (picture,) = survey(tmp_path, resolution=64)
    assert picture.caption == "a cat" and picture.name.encode().endswith(b".png") and picture.path.is_file()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere small and capital letters are one")
def test_names_that_differ_in_capitals_alone_keep_their_own_captions(tmp_path):
    for seed, stem in enumerate(("a", "A")):
        noise((128, 128), seed).save(tmp_path / f"{stem}.png")
        (tmp_path / f"{stem}.txt").write_text(f"of {stem}")
    found = survey(tmp_path, resolution=64)
    assert {one.name: one.caption for one in found} == {"a.png": "of a", "A.png": "of A"}
    assert not any(one.reasons for one in found) and found.notes == ()


def test_captions_that_nothing_reads_or_that_two_share_are_told(tmp_path):
    for seed, name in enumerate(("a.jpg", "a.png", "b.png")):
        noise((128, 128), seed).save(tmp_path / name)
    for name, text in (("a.txt", "shared"), ("b.txt", "first"), ("b.caption", "second"), ("c.txt", "nobody's"),
                       ("notes.md", "x"), ("run.sh", "x")):
        (tmp_path / name).write_text(text)
    found = survey(tmp_path, resolution=64)
    assert [(one.caption, one.reasons) for one in found] == [
        ("shared", ()), ("shared", ("shares its caption with a.jpg",)),
        ("first", ("b.caption is not read: there is b.txt",))]
    assert found.notes == ("Captions of which there is no picture: c.txt.",
                           "Not used, as neither pictures nor captions: notes.md, run.sh.")


def test_a_caption_that_cannot_be_decoded_is_left_out_with_a_word_and_read_when_its_encoding_is_chosen(tmp_path):
    noise((128, 128), 0).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_bytes("一只红色的猫".encode("gbk"))
    (picture,) = survey(tmp_path, resolution=64)
    assert (picture.verdict, picture.captions) == ("mended", ())
    assert "the caption cannot be read: it is neither UTF-8 nor Western" in picture.reasons[0]
    (picture,) = survey(tmp_path, resolution=64, encoding="gbk")
    assert (picture.verdict, picture.caption) == ("mended", "一只红色的猫") and "read as gbk" in picture.reasons[0]


def test_a_caption_without_end_is_read_to_the_limit(tmp_path):
    noise((128, 128), 0).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("ü word\n" * 20_000)
    (picture,) = survey(tmp_path, resolution=64)
    assert picture.captions == ("ü word",) and "more than 64 kB; the rest is not read" in picture.reasons[0]
    (tmp_path / "a.txt").write_text("\n".join(f"caption {i}" for i in range(40)))
    (picture,) = survey(tmp_path, resolution=64)
    assert len(picture.captions) == captions.MAX_CAPTIONS and picture.reasons == ("40 captions; the first 16 are used",)


def test_a_copy_of_a_picture_gives_its_caption_to_the_first(tmp_path):
    for name, text in (("a", ""), ("b", "1girl, red hair"), ("c", "a woman with red hair"), ("d", "1girl, red hair")):
        noise((128, 128), 0).save(tmp_path / f"{name}.png")
        if text:
            (tmp_path / f"{name}.txt").write_text(text)
    first, *copies = survey(tmp_path, resolution=64)
    assert first.captions == ("1girl, red hair", "a woman with red hair")
    assert first.reasons == ("with the caption of b.png", "with the caption of c.png")
    assert [one.reasons[0] for one in copies] == ["the same file as a.png; its caption goes there"] * 2 + [
        "the same file as a.png"]


def test_folders_of_kohyas_trainer_give_repeats_and_class_words(tmp_path):
    for seed, name in enumerate(("10_sks dog/a.png", "2_other/b.png", "2024_holiday/c.png", "01_first/d.png", "e.png")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        noise((128, 128), seed).save(tmp_path / name)
    (tmp_path / "2_other" / "b.txt").write_text("a cat")
    found = {one.name[-5]: (one.repeats, one.caption) for one in survey(tmp_path, resolution=64)}
    assert found == {"a": (10, "sks dog"), "b": (2, "a cat"), "c": (1, ""), "d": (1, ""), "e": (1, "")}
    told = {one.name[-5]: one.reasons for one in survey(tmp_path, resolution=64)}
    assert told["a"] == ("caption by its folder's name", "10 repeats, by its folder's name")
    assert told["b"] == ("2 repeats, by its folder's name",)


def test_masks_may_lie_in_a_folder_of_their_own(tmp_path):
    (tmp_path / "mask").mkdir()
    noise((128, 128), 0).save(tmp_path / "a.png")
    Image.new("L", (128, 128), 255).save(tmp_path / "mask" / "a.png")
    Image.new("L", (128, 128), 255).save(tmp_path / "gone-masklabel.png")
    found = survey(tmp_path, resolution=64)
    assert [one.name for one in found] == ["a.png"] and found[0].has_mask
    assert found.notes == ("Masks of which there is no picture: gone-masklabel.png.",)


def test_a_folder_may_be_a_link_and_a_table_may_speak_of_folders_below(tmp_path):
    inside = tmp_path / "set" / "images"
    inside.mkdir(parents=True)
    noise((128, 128), 0).save(inside / "one.png")
    (tmp_path / "set" / "metadata.jsonl").write_text(json.dumps({"file_name": "images/one.png", "text": "a cat"}))
    (tmp_path / "link").symlink_to(tmp_path / "set", target_is_directory=True)
    (picture,) = survey(tmp_path / "link", resolution=64)
    assert (picture.name, picture.caption) == ("images/one.png", "a cat")


def test_the_split_goes_by_content_and_seed(pictures, tmp_path):
    found = survey(pictures, resolution=64)
    trained, held = split(found, 0.4, 0)
    assert held and len(trained) + len(held) == len(found)
    fewer = tuple(one for one in found if one is not trained[0])
    assert split(fewer, 0.4, 0)[1] == held
    assert {one.name for one in held} != {one.name for one in split(found, 0.4, 3)[1]}
    assert split(found[:1], 0.5, 0)[0] == [found[0]]  # never all


def test_masks_come_from_a_file_beside_or_from_transparency(folder):
    Image.new("L", (128, 128), 255).save(folder / "good-masklabel.png")
    found = {one.name: one for one in survey(folder, resolution=128)}
    assert "good-masklabel.png" not in found
    assert open_picture(found["good.png"])[1].getextrema() == (255, 255)
    assert open_picture(found["clear.png"])[1].mode == "L"
    assert open_picture(found["print.jpg"])[1] is None


def test_a_mask_that_cannot_be_used_is_said_and_the_picture_is_learned_whole(folder):
    (folder / "good-masklabel.png").write_text("no picture")
    Image.new("L", (70, 80), 0).save(folder / "small-masklabel.png")
    found = {one.name: one for one in survey(folder, resolution=128)}
    good, small = found["good.png"], found["small.png"]
    assert good.verdict == "mended" and "its mask is not used: " in good.reasons[0] and not good.has_mask
    assert open_picture(good)[1] is None
    assert small.has_mask and "its mask is all black" in "; ".join(small.reasons)
    assert found["clear.png"].has_mask and not found["print.jpg"].has_mask


def test_what_is_not_learned_of_a_picture_is_shown_dark(tmp_path):
    Image.new("RGB", (200, 100), "white").save(tmp_path / "wide.png")
    mask = Image.new("L", (200, 100), 255)
    mask.paste(0, (0, 0, 200, 50))
    mask.save(tmp_path / "wide-masklabel.png")
    (picture,) = survey(tmp_path, resolution=64)

    def seen(**how) -> list[int]:
        small = crops.shown(picture, (64, 64), "center", 200, **how).convert("L")
        return [small.getpixel(at) for at in ((10, 75), (100, 25), (100, 75))]  # outside the crop; above; below

    assert seen() == [pytest.approx(255 * crops.DIMMED, abs=2), 255, 255]
    assert seen(masked=True) == [*(pytest.approx(255 * crops.DIMMED, abs=2),) * 2, 255]


def test_captions_are_dressed_and_shuffled_but_keep_their_first_tags(tmp_path):
    table = {"model": "demo", "data": "x", "output": "y", "name": "z", "trigger": "ohwx", "prefix": "in ",
             "suffix": " style", "shuffle": True, "keep_first": 1}
    config = from_table(table, tmp_path)
    texts = captions.variants("cat, red, big, soft", config, "salt")
    assert 2 <= len(texts) <= captions.SHUFFLES
    for text in texts:
        trigger, first, *loose = text.removesuffix(" style").split(", ")
        assert (trigger, first) == ("ohwx", "in cat") and sorted(loose) == ["big", "red", "soft"]
    assert captions.variants("cat, red, big, soft", config, "salt") == texts
    both = captions.all_variants(("cat, red, big, soft", "a cat"), config, "salt")
    assert both.count("ohwx, in a cat style") == len(texts) == len(both) / 2  # each caption comes as often
    plain = config.model_copy(update={"shuffle": False})
    assert captions.variants("cat, red", plain, "") == ("ohwx, in cat, red style",)


def test_a_photo_of_a_modern_camera_is_read_at_a_smaller_size(tmp_path):
    camera = tmp_path / "camera.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.linear_gradient("L").resize((8160, 6120)).save(camera, exif=exif)  # 50 megapixels, turned
    with camera.open("ab") as file:
        file.truncate(60 * 2**20)  # as heavy as such a file may be
    Image.linear_gradient("L").resize((5000, 4000)).save(tmp_path / "scan.png")
    found = {picture.name: picture for picture in survey(tmp_path, resolution=512)}
    photo, scan = found["camera.jpg"], found["scan.png"]
    assert (photo.width, photo.height, photo.verdict) == (3060, 4080, "mended")
    assert "large: 8160 x 6120 px" in photo.reasons[0] and (scan.width, scan.height) == (2500, 2000)
    image, _ = open_picture(photo)
    assert image.size == (3060, 4080)
    assert image.getpixel((10, 2000))[0] > 200 > 50 > image.getpixel((3050, 2000))[0]  # the gradient was turned, too


def test_a_picture_that_only_claims_to_be_huge_is_left_out_unread(tmp_path):
    small = io.BytesIO()
    Image.new("L", (64, 64)).save(small, "JPEG")
    data = bytearray(small.getvalue())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = (60_000).to_bytes(2, "big") * 2
    (tmp_path / "bomb.jpg").write_bytes(data)
    noise((64, 64), 1).save(tmp_path / "good.png")
    verdicts = {picture.name: picture for picture in survey(tmp_path, resolution=64)}
    assert verdicts["bomb.jpg"].verdict == "left out" and "120 megapixels" in verdicts["bomb.jpg"].reasons[0]
