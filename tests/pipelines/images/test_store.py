"""The store keeps each converted picture once, under an id that cannot leave its folder."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from pipelines.errors import RequestError, StudioError
from pipelines.images.store import ImageStore, proxy

from .files import encoded, noise, profile


@pytest.fixture
def store(tmp_path):
    return ImageStore(tmp_path / "pictures")


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_stored_picture_comes_back_with_all_its_bytes(store, mode):
    image = noise(33, 17, mode)
    stored = store.add(encoded(image))
    assert store.open(stored.id).tobytes() == image.tobytes()
    assert (stored.width, stored.height, stored.has_alpha) == (33, 17, mode == "RGBA")
    assert store.get(stored.id) == stored
    assert stored.id == hashlib.sha256(stored.path.read_bytes()).hexdigest()


def test_the_same_pixels_are_stored_once(store):
    image = noise(20, 20)
    ids = {store.add(source).id for source in (image, encoded(image), encoded(image, "WEBP", lossless=True))}
    assert len(ids) == 1 and len(list(store.folder.iterdir())) == 1


def test_the_stored_file_has_neither_profile_nor_text(store):
    text = PngImagePlugin.PngInfo()
    text.add_text("parameters", "a secret prompt")
    exif = Image.Exif()
    exif[0x010E] = "a secret place"
    stored = store.add(encoded(noise(9, 9), icc_profile=profile("RGB"), pnginfo=text, exif=exif))
    data = stored.path.read_bytes()
    assert b"secret" not in data and all(name not in data for name in (b"iCCP", b"tEXt", b"eXIf", b"tRNS"))


def test_notices_come_with_the_picture(store):
    assert "profile" in store.add(encoded(noise(9, 9), icc_profile=b"broken")).notices[0]


@pytest.mark.parametrize("image_id", ["", "../secret", "A" * 64, "0" * 63, "0" * 64 + "\n", "/etc/passwd", "0" * 64,
                                      None, "0" * 62 + "/.", 7])
def test_unknown_and_malformed_ids_are_refused(store, image_id):
    store.add(noise(3, 3))
    (store.folder.parent / "secret.png").write_bytes(encoded(noise(2, 2)))
    for look_up in (store.get, store.open):
        with pytest.raises(RequestError, match="Mask: it is not in the store") as refused:
            look_up(image_id, "mask")
        assert refused.value.field == "mask"


def test_a_damaged_stored_file_is_named_and_healed_by_another_upload(store):
    image = noise(40, 40)
    stored = store.add(image)
    stored.path.write_bytes(stored.path.read_bytes()[:200])
    with pytest.raises(RequestError, match="upload"):
        store.open(stored.id)
    assert store.add(image).id == stored.id
    assert store.open(stored.id).tobytes() == image.tobytes()


def test_a_folder_that_cannot_be_written_is_said_without_its_path(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StudioError, match="cannot be stored") as refused:
        ImageStore(tmp_path / "file" / "pictures").add(noise(3, 3))
    assert str(tmp_path) not in str(refused.value)


def test_many_threads_may_add_the_same_pictures(store):
    files = [encoded(noise(64, 48, "RGBA", seed=index % 4), icc_profile=profile("RGB")) for index in range(32)]
    alone = [ImageStore(store.folder.parent / "alone").add(data).id for data in files]
    before = Image.MAX_IMAGE_PIXELS
    with ThreadPoolExecutor(8) as pool:
        assert [stored.id for stored in pool.map(store.add, files)] == alone
    assert sorted(path.stem for path in store.folder.iterdir()) == sorted(set(alone))
    assert before == Image.MAX_IMAGE_PIXELS


def test_a_picture_in_memory_is_not_changed(store):
    image = noise(9, 9, "RGBA")
    image.info["icc_profile"] = profile("RGB")
    before, info = image.tobytes(), dict(image.info)
    store.add(image)
    assert (image.tobytes(), image.info) == (before, info)


@pytest.mark.parametrize(("size", "shown"), [((1, 1), (1, 1)), ((1024, 512), (1024, 512)), ((2048, 1000), (1024, 500)),
                                             ((4000, 1), (1024, 1))])
def test_the_editor_sees_a_small_opaque_copy(size, shown):
    copy = proxy(noise(*size, "RGBA"))
    assert copy.mode == "RGB" and copy.size == shown and copy.info == {}


def test_the_editor_sees_transparent_places_white():
    image = Image.new("RGBA", (4, 4), (200, 0, 0, 0))
    assert np.asarray(proxy(image)).min() == 255
