"""What a person typed -> the files to fetch. Asks the hub's and Civitai's public interfaces for sizes and hashes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from ..errors import ModelError, RequestError, quoted
from ..library.read.card import PICKLES
from ..library.read.hub import HUB_ID, wanted_files
from .network import Network

# Components of a diffusers folder that are loaded here.
PARTS = ("unet", "transformer", "vae", "scheduler", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2",
         "text_encoder_3", "tokenizer_3")
MAX_FILES = 200
SHOWN_FILES = 6
SETTINGS = "adapter_config.json"
NAMELESS = ("model", "pytorch_lora_weights", "diffusion_pytorch_model", "adapter_model")
KEPT_NOTES = ("id", "modelId", "name", "baseModel", "trainedWords", "description")


@dataclass(frozen=True)
class RemoteFile:
    """path: where it goes inside the download, with /. size_bytes: 0 when not known. sha256: "" when not known."""

    url: str
    path: str
    size_bytes: int = 0
    sha256: str = ""


@dataclass(frozen=True)
class Plan:
    """title: for reading. name: of the file or folder it becomes. is_folder: a model in diffusers' layout.
    notes: what the site says about it, to be kept beside it."""

    title: str
    name: str
    files: tuple[RemoteFile, ...]
    is_folder: bool = False
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        """All files together; 0 when one of them does not say."""
        sizes = [file.size_bytes for file in self.files]
        return sum(sizes) if all(sizes) else 0


@dataclass(frozen=True)
class Sites:
    """Where the two sites are reached."""

    hub: str = "https://huggingface.co"
    civitai: str = "https://civitai.com"


SITES = Sites()


def plan(text: str, network: Network, sites: Sites = SITES) -> Plan:
    """Find out what to fetch.

    text: "someone/model", "someone/model/file.safetensors", "civitai:123" (its newest version), "civitai:123@456",
    urn:air:..., or an address. Raises RequestError for what is none of these, ModelError when it cannot be had.
    """
    text = text.strip()
    if found := re.fullmatch(r"(?:urn:air:[\w-]+:[\w-]+:)?civitai:(\d{1,12})(?:@(\d{1,12}))?", text):
        return _civitai(found[1], found[2], network, sites)
    if re.fullmatch(rf"{HUB_ID}(/.+)?", text) and "://" not in text:
        owner, name, *rest = text.split("/", 2)
        return _hub(f"{owner}/{name}", rest[0] if rest else "", "main", network, sites)
    if not re.match(r"https?://", text):
        raise RequestError("Download: type a name like someone/model, civitai: and a number, or an https address.",
                           "source")
    if text.startswith(f"{sites.hub}/"):
        return _hub_page(text, network, sites)
    if text.startswith((f"{sites.civitai}/models/", f"{sites.civitai}/api/download/models/")):
        return _civitai_page(text, network, sites)
    name = PurePosixPath(unquote(urlsplit(text).path)).name
    _refuse_pickle(name)
    network.check(text)
    return Plan(name or "model", name.removesuffix(".safetensors") or "model",
                (RemoteFile(text, name or "model.safetensors"),))


def _hub_page(address: str, network: Network, sites: Sites) -> Plan:
    path = unquote(urlsplit(address.removeprefix(sites.hub)).path).strip("/")
    found = re.fullmatch(rf"({HUB_ID})(?:/(?:blob|resolve|tree)/([\w.-]{{1,100}})(?:/(.+))?)?", path)
    if not found:
        raise RequestError("Download: that page of the hub is no model.", "source")
    return _hub(found[1], found[3] or "", found[2] or "main", network, sites)


def _hub(repository: str, path: str, revision: str, network: Network, sites: Sites) -> Plan:
    listed = network.json(f"{sites.hub}/api/models/{repository}/tree/{quote(revision)}?recursive=true")
    files = {entry["path"]: entry for entry in listed if isinstance(entry, dict) and entry.get("type") == "file"
             and isinstance(entry.get("path"), str)} if isinstance(listed, list) else {}
    if path:
        _refuse_pickle(path)
        if path not in files:
            raise ModelError(f"Download: {repository} has no file {quoted(path, 80)}.")
        chosen = [path]
    elif "model_index.json" in files:
        chosen = wanted_files(files, [part for part in PARTS if any(name.startswith(f"{part}/") for name in files)],
                              half=True)
    else:
        chosen = sorted(name for name in files if name.endswith(".safetensors"))
        if len(chosen) != 1:
            shown = ", ".join(chosen[:SHOWN_FILES])
            raise ModelError(f"Download: {repository} has {len(chosen)} safetensors files"
                             + (f" ({shown}). Say which: {repository}/{chosen[0]}." if chosen else "."))
    is_folder = not path and "model_index.json" in files
    if not is_folder:  # peft says there how strong its weights are
        beside = str(PurePosixPath(chosen[0]).with_name(SETTINGS))
        chosen += [beside] if beside in files else []
    if len(chosen) > MAX_FILES:
        raise ModelError(f"Download: {repository} has more than {MAX_FILES} files.")
    remote = tuple(_hub_file(f"{sites.hub}/{repository}/resolve/{quote(revision)}/{quote(name)}",
                             name if is_folder else PurePosixPath(name).name, files[name]) for name in chosen)
    stem = PurePosixPath(chosen[0]).stem
    name = repository.split("/")[1] if is_folder or stem in NAMELESS else stem
    return Plan(repository if not path else f"{repository}/{path}", name, remote, is_folder)


def _hub_file(url: str, path: str, entry: dict[str, Any]) -> RemoteFile:
    large = entry.get("lfs") if isinstance(entry.get("lfs"), dict) else {}
    return RemoteFile(url, path, _count(large.get("size", entry.get("size"))), _sha256(large.get("oid")))


def _civitai_page(address: str, network: Network, sites: Sites) -> Plan:
    parts = urlsplit(address.removeprefix(sites.civitai))
    version = parse_qs(parts.query).get("modelVersionId", [""])[0]
    if found := re.match(r"/api/download/models/(\d{1,12})$", parts.path):
        return _civitai("", found[1], network, sites)
    found = re.match(r"/models/(\d{1,12})(/|$)", parts.path)
    if not found:
        raise RequestError("Download: that page of Civitai is no model.", "source")
    return _civitai(found[1], version if version.isdigit() else None, network, sites)


def _civitai(model: str, version: str | None, network: Network, sites: Sites) -> Plan:
    if version is None:
        said = _table(network.json(f"{sites.civitai}/api/v1/models/{model}"))
        versions = [one.get("id") for one in said.get("modelVersions") or () if isinstance(one, dict)]
        if not versions or type(versions[0]) is not int:
            raise ModelError(f"Download: the model {model} of Civitai has no version that can be had.")
        version = str(versions[0])
    said = _table(network.json(f"{sites.civitai}/api/v1/model-versions/{version}"))
    files = [one for one in said.get("files") or () if isinstance(one, dict) and isinstance(one.get("name"), str)]
    whole = [one for one in files if one["name"].lower().endswith(".safetensors")
             and one.get("type") in (None, "Model", "Pruned Model", "VAE", "Negative")]
    if not whole:
        raise ModelError("Download: that version has no safetensors file." + (
            " It is a pickle, which can run programs when it is opened." if files else ""))
    chosen = next((one for one in whole if one.get("primary")), whole[0])
    hashes = chosen.get("hashes") if isinstance(chosen.get("hashes"), dict) else {}
    url = chosen.get("downloadUrl") or f"{sites.civitai}/api/download/models/{version}"
    name = PurePosixPath(chosen["name"].replace("\\", "/")).name
    model_said = _table(said.get("model"))
    title = f"{model_said.get('name') or name} {said.get('name') or ''}".strip()[:120]
    notes = {key: said[key] for key in KEPT_NOTES if key in said} | {
        "model": {key: model_said[key] for key in ("name", "type") if key in model_said}}
    # Civitai gives sizes in KiB with a fraction: too coarse to be held against a file.
    return Plan(title, name.removesuffix(".safetensors"),
                (RemoteFile(str(url), name, 0, _sha256(hashes.get("SHA256"))),), notes=notes)


def _refuse_pickle(name: str) -> None:
    if PurePosixPath(name).suffix.lower() in PICKLES:
        raise ModelError(f"Download: {PurePosixPath(name).name[:80]} is a pickle, which can run programs when it is "
                         "opened. Only .safetensors files are fetched.")


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(value: object) -> int:
    return value if type(value) is int and value >= 0 else 0


def _sha256(value: object) -> str:
    return value.lower() if isinstance(value, str) and re.fullmatch(r"[0-9a-fA-F]{64}", value) else ""
