"""The bundled sets and folders of one's own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.errors import RequestError
from pipelines.lab import data


def write(folder: Path, name: str, size: tuple[int, int] = (20, 16), colour: str = "red") -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def test_digits_are_bright_on_dark_with_their_labels():
    digits = data.load("digits")
    assert digits.pixels.shape == (1797, 1, 8, 8)
    assert (float(digits.pixels.min()), float(digits.pixels.max())) == (-1, 1)
    assert digits.pixels[:, :, :, 0].mean() < -0.9
    assert digits.pixels[:, :, 3:5, 3:5].mean() > 0
    assert digits.labels.bincount().min() > 150
    assert digits.contexts(torch.tensor([0, 1])).argmax(1).tolist() == digits.labels[:2].tolist()


def test_emoji_come_in_seven_groups_on_white_and_in_a_small_file():
    emoji = data.load("emoji")
    assert emoji.pixels.shape == (1244, 3, 32, 32)
    assert set(emoji.classes) == {"smileys-emotion", "animals-nature", "food-drink", "travel-places", "activities",
                                  "objects", "symbols"}
    assert (emoji.pixels[:, :, 0, 0] == 1).float().mean() > 0.9
    assert emoji.pixels.std() > 0.3
    folder = Path(data.__file__).parent / "emoji"
    assert (folder / "emoji.webp").stat().st_size < 300_000
    assert "MIT" in (folder / "LICENSE").read_text()
    index = json.loads((folder / "index.json").read_text("utf-8"))
    face = index.index(["smileys-emotion", "grinning face"])
    red, green, blue = emoji.pixels[face, :, 10, 16]
    assert red > blue and green > blue  # yellow


def test_a_set_can_be_brought_to_another_size():
    assert data.load("digits", 16).pixels.shape == (1797, 1, 16, 16)
    assert data.load("emoji", 16).side == 16


def test_subfolders_are_classes_and_pictures_are_cut_square_in_the_middle(tmp_path):
    write(tmp_path, "cats/a.png")
    write(tmp_path, "dogs/b.jpg", colour="blue")
    stripes = np.zeros((16, 48, 3), np.uint8)
    stripes[:, 16:32] = 255
    Image.fromarray(stripes).save(tmp_path / "dogs" / "c.png")
    (tmp_path / "dogs" / "notes.txt").write_text("no picture")
    found = data.load(str(tmp_path), 8)
    assert found.classes == ("cats", "dogs")
    assert found.labels.tolist() == [0, 1, 1]
    assert found.pixels.shape == (3, 3, 8, 8)
    assert torch.allclose(found.pixels[0, :, 4, 4], torch.tensor([1.0, -1.0, -1.0]))
    assert (found.pixels[2] == 1).all()  # the white middle of the wide picture


def test_a_flat_folder_has_no_classes(tmp_path):
    write(tmp_path, "a.png")
    write(tmp_path, "b.png")
    found = data.load(str(tmp_path))
    assert (found.classes, found.side) == ((), 32)
    assert found.contexts(torch.tensor([0])) is None


def test_damaged_pictures_are_left_out_with_a_notice(tmp_path):
    for name in ("a.png", "b.png"):
        write(tmp_path, name)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    found = data.load(str(tmp_path))
    assert len(found) == 2
    assert "1 files cannot be read and are left out: broken.png" in found.notices[0]


def test_captions_are_read_as_a_training_run_reads_them(tmp_path):
    captions = {"a.txt": "a café".encode("cp1252"), "b.png.txt": "a b\nof two lines".encode("utf-16"),
                "c.txt": b"from the file", "metadata.csv": b"file_name,text\nc.png,a c\nd.png,a d\nz.png,x\n",
                "e.txt": "рыжий кот".encode("cp1251")}
    for name in "abcde":
        write(tmp_path, f"{name}.png")
    for name, content in captions.items():
        (tmp_path / name).write_bytes(content)
    found = data.load(str(tmp_path))
    assert found.captions == ("a café", "a b", "from the file", "a d", "")
    told = " ".join(found.notices)
    assert "4 remarks, the first on a.png: the caption is not UTF-8; read as Western European text." in told
    assert "metadata.csv: 1 of its lines name no picture here: z.png." in told


@pytest.mark.parametrize(("names", "message"), [
    ((), "the folder holds no pictures"), (("a.png",), "the folder holds only one picture")])
def test_too_few_pictures_are_refused_with_how_many_there_should_be(tmp_path, names, message):
    for name in names:
        write(tmp_path, name)
    with pytest.raises(RequestError, match=message) as caught:
        data.load(str(tmp_path))
    assert caught.value.field == "data"
    assert str(tmp_path) not in str(caught.value)


def test_pictures_of_3_px_and_missing_folders_are_refused(tmp_path):
    write(tmp_path, "a.png")
    write(tmp_path, "tiny.png", (3, 3))
    with pytest.raises(RequestError, match="tiny.png has 3 x 3 px. A picture needs at least 8 px"):
        data.load(str(tmp_path))
    with pytest.raises(RequestError, match="no such folder"):
        data.load(str(tmp_path / "nowhere"))


def test_a_picture_goes_to_tensor_and_back():
    pixels = data.load("digits").pixels[7]
    image = data.to_image(pixels, enlarge=3)
    assert (image.mode, image.size) == ("L", (24, 24))
    back = np.asarray(image.resize((8, 8), Image.Resampling.BOX), np.float32) / 127.5 - 1
    assert np.abs(back - pixels[0].numpy()).max() < 0.01
    assert data.to_image(data.load("emoji").pixels[0]).mode == "RGB"


def test_the_split_holds_out_a_share_and_loses_nothing():
    taught, held_out = data.split(50, 0.1, torch.Generator().manual_seed(0))
    assert len(held_out) == 5
    assert sorted(torch.cat([taught, held_out]).tolist()) == list(range(50))
    assert len(data.split(2, 0.1, torch.Generator())[1]) == 1
    assert len(data.split(50, 0.0, torch.Generator())[1]) == 0
