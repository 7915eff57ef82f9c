"""What a person types becomes a list of files with sizes and hashes, or a sentence."""

from __future__ import annotations

import pytest

from pipelines.downloads.sources import plan
from pipelines.errors import ModelError, RequestError

SHA = "ab" * 32


def large(path: str, size: int = 100) -> dict:
    return {"type": "file", "path": path, "size": 1, "lfs": {"oid": SHA, "size": size}}


def small(path: str, size: int = 10) -> dict:
    return {"type": "file", "path": path, "size": size}


@pytest.fixture
def hub(server):
    def hub(repository: str, *files: dict) -> None:
        server.pages[f"/api/models/{repository}/tree/main?recursive=true"] = [{"type": "directory", "path": "x"},
                                                                              *files]
    return hub


def test_a_folder_of_the_hub_brings_one_set_of_weights_and_no_pickle(server, hub, network, sites):
    hub("some/model", small("model_index.json"), small("unet/config.json"), large("unet/diffusion_pytorch_model.bin"),
        large("unet/diffusion_pytorch_model.safetensors"), large("unet/diffusion_pytorch_model.fp16.safetensors"),
        small("tokenizer/vocab.json"), large("safety_checker/model.safetensors"), large("v1.ckpt"), small("evil.py"))
    for text in ("some/model", f"{server.origin}/hub/some/model", f"{server.origin}/hub/some/model/tree/main"):
        made = plan(text, network, sites)
        assert (made.name, made.is_folder, made.size_bytes) == ("model", True, 130)
        assert {(file.path, file.size_bytes, file.sha256) for file in made.files} == {
            ("model_index.json", 10, ""), ("unet/config.json", 10, ""), ("tokenizer/vocab.json", 10, ""),
            ("unet/diffusion_pytorch_model.fp16.safetensors", 100, SHA)}


def test_one_file_of_the_hub_is_chosen_by_name_or_because_it_is_alone(server, hub, network, sites):
    hub("some/lora", large("style.safetensors"), small("README.md"))
    hub("some/loras", large("a.safetensors"), large("b.safetensors"))
    (file,) = plan("some/lora", network, sites).files
    assert file.url == f"{server.origin}/hub/some/lora/resolve/main/style.safetensors"
    for text in ("some/loras/b.safetensors", f"{server.origin}/hub/some/loras/blob/main/b.safetensors"):
        assert plan(text, network, sites).name == "b"
    with pytest.raises(ModelError, match=r"2 safetensors files \(a.safetensors, b.safetensors\). Say which: some"):
        plan("some/loras", network, sites)
    with pytest.raises(ModelError, match="no file 'c.safetensors'"):
        plan("some/loras/c.safetensors", network, sites)


def test_a_lora_of_peft_comes_with_the_settings_beside_it(server, hub, network, sites):
    hub("some/style", large("adapter_model.safetensors"), small("adapter_config.json"), small("README.md"))
    hub("some/styles", large("ink/a.safetensors"), small("ink/adapter_config.json"), small("adapter_config.json"))
    for text, name, address in (("some/style", "style", "adapter_config.json"),
                                ("some/styles/ink/a.safetensors", "a", "ink/adapter_config.json")):
        made = plan(text, network, sites)
        assert (made.name, [file.path for file in made.files][1:]) == (name, ["adapter_config.json"])
        assert made.files[1].url.endswith(f"/resolve/main/{address}")


VERSION = {"id": 456, "modelId": 123, "name": "v2", "baseModel": "SD 1.5", "trainedWords": ["sks"], "extra": "x",
           "model": {"name": "Style", "type": "LORA", "nsfw": False},
           "files": [{"name": "style.pt", "type": "Model"},
                     {"name": "data.safetensors", "type": "Training Data"},
                     {"name": "small.safetensors", "type": "Pruned Model", "hashes": {}},
                     {"name": "..\\style.safetensors", "type": "Model", "primary": True,
                      "hashes": {"SHA256": SHA.upper()}, "downloadUrl": "https://civitai.com/api/download/models/456"}]}


@pytest.mark.parametrize("text", ["civitai:123", "civitai:123@456", "urn:air:sd1:lora:civitai:123@456",
                                  "{origin}/civitai/models/123/style?modelVersionId=456",
                                  "{origin}/civitai/models/123",
                                  "{origin}/civitai/api/download/models/456"])
def test_a_civitai_model_is_had_by_number_address_or_name(server, network, sites, text):
    server.pages["/api/v1/models/123"] = {"modelVersions": [{"id": 456}, {"id": 455}]}
    server.pages["/api/v1/model-versions/456"] = VERSION
    made = plan(text.format(origin=server.origin), network, sites)
    (file,) = made.files
    assert (made.title, made.name, file.path, file.sha256) == ("Style v2", "style", "style.safetensors", SHA)
    assert file.url == "https://civitai.com/api/download/models/456"
    assert made.notes == {"id": 456, "modelId": 123, "name": "v2", "baseModel": "SD 1.5", "trainedWords": ["sks"],
                          "model": {"name": "Style", "type": "LORA"}}


@pytest.mark.parametrize("said", [[], {}, {"files": "x"}, {"files": [{"name": 3}, "x"]},
                                  {"files": [{"name": "a.ckpt", "type": "Model"}]}])
def test_a_civitai_answer_without_a_usable_file_is_a_sentence(server, network, sites, said):
    server.pages["/api/v1/model-versions/456"] = said
    with pytest.raises(ModelError, match="no safetensors file"):
        plan("civitai:1@456", network, sites)


@pytest.mark.parametrize("text", ["", "a", "just words", "../../etc/passwd", "/etc/passwd", "civitai:", "civitai:x",
                                  "ftp://x/y", "javascript:alert(1)", "\\\\host\\share"])
def test_what_is_no_source_is_refused(network, sites, text):
    with pytest.raises((RequestError, ModelError)):
        plan(text, network, sites)


def test_a_pickle_is_refused_before_anything_is_fetched(server, hub, network, sites):
    hub("some/model", large("model.bin"))
    for text in (f"{server.origin}/x/model.ckpt", "some/model/model.bin"):
        with pytest.raises(ModelError, match="is a pickle"):
            plan(text, network, sites)
    assert not [path for path in server.paths() if "resolve" in path or path.startswith("/x/")]
