"""Files that people bring: a VAE that is chosen, embeddings by name, models that come and go, and downloads."""

from __future__ import annotations

import shutil
import threading

import pytest
from PIL import Image

from pipelines.downloads import Downloaded
from pipelines.errors import ModelError, RequestError, StudioError
from pipelines.events import Notice
from pipelines.requests import Img2Img, Txt2Img, make
from pipelines.requests.caller import Caller
from pipelines.settings import SettingsError, load
from pipelines.studio.studio import Studio
from pipelines.studio.works import Load
from tests.pipelines.downloads.conftest import server  # noqa: F401  (a fixture)
from tests.pipelines.library.files import lora
from tests.tiny import TEXT_WIDTH, tiny_sd

QUICK = dict(prompt="a red cat", steps=2, width=64, height=64, seed=5)


@pytest.fixture
def make_studio(tmp_path, sd_folder):
    made = []

    def make_studio(*flags: str) -> Studio:
        flags = ["--data-dir", str(tmp_path / "data"), "--model", str(sd_folder), *flags]
        made.append(Studio(load(flags, {})))
        return made[-1]
    yield make_studio
    for studio in made:
        studio.close()


def draw(studio, **changes) -> bytes:
    (record,) = studio.submit(make(Txt2Img, **{**QUICK, **changes})).wait(120).records
    return Image.open(record.path).tobytes()


def save(path, tensors):
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, path)
    return path


def vae_of(folder):
    from diffusers import AutoencoderKL

    return AutoencoderKL.from_pretrained(folder / "vae")


def test_a_vae_of_ones_own_changes_the_picture_and_a_wrong_one_is_refused_by_name(make_studio, sd_folder, tmp_path):
    from diffusers import AutoencoderTiny

    studio, vaes = make_studio(), tmp_path / "data" / "models" / "vae"
    state = vae_of(sd_folder).state_dict()
    save(vaes / "bright.safetensors", {**state, "decoder.conv_out.bias": state["decoder.conv_out.bias"] + 0.5})
    save(vaes / "wide.safetensors", {**state, "decoder.conv_in.bias": state["decoder.conv_in.bias"].repeat(2)})
    AutoencoderTiny().save_pretrained(vaes / "taesd")
    own = draw(studio)
    bright, tiny = draw(studio, vae="bright"), draw(studio, vae="taesd")
    assert len({own, bright, tiny}) == 3
    assert "VAE: bright" in studio.results.today()[1].infotext
    with pytest.raises(ModelError, match="wide.safetensors cannot be used: decoder.conv_in.bias is 32"):
        draw(studio, vae="wide")
    with pytest.raises(RequestError, match="VAE: 'brigt' is not here. The nearest is 'bright'") as caught:
        draw(studio, vae="brigt")
    assert caught.value.field == "vae"
    assert draw(studio, vae="Bright.safetensors") == bright
    assert draw(studio) == own


def test_a_tiny_vae_reads_a_picture_as_well(make_studio, tmp_path):
    from diffusers import AutoencoderTiny

    studio = make_studio()
    AutoencoderTiny().save_pretrained(tmp_path / "data" / "models" / "vae" / "taesd")
    image = studio.images.add(Image.new("RGB", (64, 64), "teal")).id
    (record,) = studio.submit(make(Img2Img, **QUICK, image=image, vae="taesd", strength=0.5)).wait(120).records
    assert Image.open(record.path).size == (64, 64)


def test_the_bare_name_of_an_embedding_stands_for_its_vectors(make_studio, tmp_path):
    import torch

    studio, folder = make_studio(), tmp_path / "data" / "models" / "embeddings"
    plain = draw(studio, prompt="a cat, mystyle")
    generator = torch.Generator().manual_seed(1)
    save(folder / "MyStyle.safetensors", {"emb_params": torch.randn(3, TEXT_WIDTH, generator=generator)})
    save(folder / "other.safetensors", {"emb_params": torch.zeros(2, 768)})
    before = studio.prompts.tokens("a cat, mystyle").count
    studio.collection.library.refresh()
    assert studio.collection.library.wait(60)
    assert studio.prompts.tokens("a cat").count + 4 == studio.prompts.tokens("a cat, mystyle").count != before
    assert draw(studio, prompt="a cat, mystyle") != plain
    assert draw(studio, prompt="a cat", negative_prompt="mystyle") != draw(studio, prompt="a cat")
    job = studio.submit(make(Txt2Img, **{**QUICK, "prompt": "a cat, other"}))
    job.wait(60)
    said = [event.text for event in job.events if isinstance(event, Notice)]
    assert any("other.safetensors cannot be used with this model: its vectors have 768" in text for text in said)


def test_models_come_and_go_while_the_studio_runs_and_the_default_stays(make_studio, tmp_path):
    studio, models = make_studio(), tmp_path / "data" / "models"
    default = studio.collection.default_card().name
    tiny_sd(models / "second", seed=3)
    look(studio)
    assert "second" in [card.name for card in studio.collection.cards()]
    assert studio.collection.default_card().name == default
    assert draw(studio, model="second") != draw(studio)
    shutil.rmtree(models / "second")
    look(studio)
    assert "second" not in [card.name for card in studio.collection.cards()]
    with pytest.raises(ModelError, match="'second' is not here"):
        studio.submit(make(Txt2Img, **QUICK, model="second"))


def look(studio):
    studio.collection.library.refresh()
    assert studio.collection.library.wait(60)


def test_a_file_that_is_removed_while_it_loads_is_named_and_the_model_in_use_keeps_working(make_studio, tmp_path):
    studio, second = make_studio(), tiny_sd(tmp_path / "data" / "models" / "second", seed=3)
    look(studio)
    own = draw(studio)
    # The list still has it, as it has for a moment whenever a file goes away.
    (second / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ModelError, match="second.*unet"):
        draw(studio, model="second")
    assert draw(studio) == own


def test_two_tabs_that_ask_for_two_models_at_once_each_get_their_own(make_studio, tmp_path):
    studio = make_studio()
    tiny_sd(tmp_path / "data" / "models" / "second", seed=3)
    look(studio)
    names = (studio.collection.default_card().name, "second")
    alone = [draw(studio, model=name) for name in names]
    found: dict[int, bytes] = {}

    def ask(number: int) -> None:
        studio.submit(Load(names[number % 2]), Caller(page=f"page {number}")).wait(120)
        found[number] = draw(studio, model=names[number % 2])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: alone[number % 2] for number in range(4)}
    assert {each.name for each in studio.status().loaded} == set(names)
    assert all(each.size_bytes > 0 and not each.parked for each in studio.status().loaded)


def test_a_download_is_in_the_library_when_it_has_arrived(make_studio, tmp_path, server):  # noqa: F811
    server.files["/style.safetensors"] = lora(tmp_path / "x.safetensors").read_bytes()
    studio = make_studio("--download-hosts", server.origin)
    download = studio.collection.download(f"{server.origin}/style.safetensors")
    assert isinstance(download.wait(60), Downloaded)
    assert [entry.name for entry in studio.collection.loras()] == ["style"]


def test_others_than_the_owner_can_neither_download_nor_convert(make_studio, tmp_path, server):  # noqa: F811
    studio = make_studio("--download-hosts", server.origin, "--host", "0.0.0.0", "--auth", "someone:long-enough-1")
    for ask in (lambda: studio.collection.download(f"{server.origin}/style.safetensors"),
                lambda: studio.collection.convert("0" * 16),
                lambda: studio.collection.change_download("0" * 16, "stop")):
        with pytest.raises(StudioError, match="[Oo]nly the owner"):
            ask()
    assert server.asked == []


def test_a_pickle_is_converted_when_the_owner_asks_and_then_stands_in_the_list(make_studio, tmp_path):
    import torch

    studio, folder = make_studio(), tmp_path / "data" / "models" / "embeddings"
    folder.mkdir(parents=True)
    torch.save({"string_to_param": {"*": torch.ones(2, TEXT_WIDTH)}}, folder / "old.pt")
    look(studio)
    (entry,) = studio.collection.library.entries(kind="embedding")
    assert "pickles" in entry.fault
    assert studio.collection.convert(entry.id) == "old.safetensors"
    assert studio.collection.library.wait(60)
    (entry,) = studio.collection.library.entries(kind="embedding")
    assert (entry.name, entry.fault, entry.facts["vectors"]) == ("old", "", 2)


def test_an_unlisted_host_and_an_offline_studio_fetch_nothing(make_studio, server):  # noqa: F811
    with pytest.raises(ModelError):
        make_studio().collection.download(f"{server.origin}/style.safetensors")
    with pytest.raises(RequestError, match="offline"):
        offline = make_studio("--offline", "--download-hosts", server.origin)
        offline.collection.download(f"{server.origin}/style.safetensors")
    assert server.asked == []


def test_tokens_are_told_to_nobody(tmp_path):
    tokens = {"ATELIER_HF_TOKEN": "hf_secret", "ATELIER_CIVITAI_TOKEN": "c_secret"}
    settings = load(["--data-dir", str(tmp_path)], tokens)
    assert settings.hf_token.get_secret_value() == "hf_secret"
    assert "secret" not in f"{settings!r} {settings.model_dump_json()}".replace("SecretStr", "")
    (tmp_path / "config.toml").write_text("civitai_token = [3]\n")
    with pytest.raises(SettingsError) as caught:
        load(["--data-dir", str(tmp_path)], {})
    assert "3" not in str(caught.value)
    assert load(["--data-dir", str(tmp_path / "x")], {"ATELIER_DOWNLOAD_HOSTS": "http://10.0.0.1:80,hf.co"}
                ).download_hosts == ("http://10.0.0.1:80", "hf.co")
