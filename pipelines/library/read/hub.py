"""Models of the Hugging Face hub, asked for by name with --model; nobody else causes a look-up or a download."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from ...errors import ModelError, StudioError
from ...families import FAMILIES
from .card import ModelCard, parts_of, read_configs, read_folder

HUB_ID = r"[\w.-]{1,96}/[\w.-]{1,96}"
CONFIGS = ("model_index.json", "unet/config.json", "transformer/config.json", "vae/config.json")


def hub_card(repo_id: str, offline: bool) -> ModelCard:
    """The card of a hub model: of the copy in the hub's cache, else (not offline) of its configs, a few kilobytes."""
    snapshot = _cached(repo_id)
    if snapshot is not None:
        try:
            return read_folder(snapshot, repo_id, "hub")
        except ModelError:
            if offline:
                raise
    if offline:
        raise ModelError(f"Model: {repo_id!r} is not on this machine, and offline nothing is fetched. "
                         "Start once without --offline to download it.")
    folder = Path(_fetched(repo_id, CONFIGS))
    return replace(read_configs(folder, repo_id, "hub"), path=None)


def hub_folder(card: ModelCard, *, half: bool, offline: bool, go_on: Callable[[], None] = lambda: None) -> Path:
    """Download what a hub model needs, once. half: prefer weights stored in float16. Raises ModelError.

    go_on: asked at every piece that arrives, in the threads that fetch; what it raises ends the download.
    """
    if offline:
        raise ModelError(f"Model: {card.name!r} is not on this machine, and offline nothing is fetched.")
    from huggingface_hub import HfApi

    try:
        names = HfApi().list_repo_files(card.name)
    except Exception as error:
        raise _unreachable(card.name, error) from error
    go_on()
    return Path(_fetched(card.name, wanted_files(names, parts_of(FAMILIES[card.family]), half=half), go_on))


def wanted_files(names: Iterable[str], parts: Iterable[str], *, half: bool) -> list[str]:
    """Choose from a repository's files: every config and vocabulary of `parts`, and one set of weights for each.

    The fp16 variant is taken when `half` asks for it or no other is there; no pickles, no safety checker.
    """
    wanted = ["model_index.json"]
    names = sorted(names)
    for part in parts:
        inside = [name for name in names if name.startswith(f"{part}/") and name.count("/") == 1]
        wanted += [name for name in inside if name.endswith((".json", ".txt", ".jinja")) and ".index." not in name]
        weights = [name for name in inside if name.endswith(".safetensors") and ".non_ema." not in name]
        small = [name for name in weights if ".fp16" in name]
        plain = [name for name in weights if name not in small]
        chosen = small if small and (half or not plain) else plain
        wanted += [*chosen, *(name for name in inside if name.endswith(".index.json") and chosen
                              and (".fp16" in name) == (chosen is small))]
    return wanted


def _cached(repo_id: str) -> Path | None:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repo_id, local_files_only=True))
    except Exception:  # every kind of absence: no cache, no such entry, an incomplete one
        return None


def _fetched(repo_id: str, files: Iterable[str], go_on: Callable[[], None] = lambda: None) -> str:
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import tqdm

    class Asking(tqdm):
        """A progress bar, which is what the library tells of every piece."""

        def update(self, n: float | None = 1) -> bool | None:
            go_on()
            return super().update(n)

    try:
        return snapshot_download(repo_id, allow_patterns=list(files), tqdm_class=Asking)
    except StudioError:  # of go_on
        raise
    except Exception as error:
        raise _unreachable(repo_id, error) from error


def _unreachable(repo_id: str, error: Exception) -> ModelError:
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        reason = "its owner asks for a login"
    elif isinstance(error, errors.RepositoryNotFoundError):
        reason = "the hub has no such model"
    elif isinstance(error, OSError) and getattr(error, "errno", None) == 28:
        reason = "the disk is full"
    else:
        reason = "the hub cannot be reached"
    return ModelError(f"Model: {repo_id!r} cannot be downloaded: {reason}.")
