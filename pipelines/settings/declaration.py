"""Every setting, declared once: flag, variable, file key and help come of it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, ValidationInfo, field_validator

from ..errors import SettingsError, quoted

VERSION = "0.2.0"
EARLIER = "0.1.0"  # the version whose samplers were the library's
EARLIER_MARK = f" ({EARLIER})"  # behind a schedule's name: as that version meant sampler and schedule
PREFIX = "ATELIER_"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
SHOWN_INPUT = 40
PATHS = ("data_dir", "model", "model_dir", "dataset_dir")
DEVICE = r"(auto|cpu|mps|cuda(:\d{1,2})?)"
SECRETS = ("auth", "hf_token", "civitai_token")
# Settings that may be given several times, and what parts their values in a variable.
SEPARATORS = {"model_dir": os.pathsep, "download_hosts": ","}


def default_data_dir(environ: Mapping[str, str], platform: str = sys.platform) -> Path:
    """The folder in which programs of a person keep their data, and in it one for ours."""
    if platform == "win32":
        return Path(environ.get("LOCALAPPDATA") or "~/AppData/Local").expanduser() / "atelier"
    if platform == "darwin":
        return Path("~/Library/Application Support").expanduser() / "atelier"
    data_home = environ.get("XDG_DATA_HOME", "")
    return (Path(data_home) if data_home.startswith("/") else Path("~/.local/share").expanduser()) / "atelier"


class Settings(BaseModel):
    """The set-up of one run."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    host: str = Field("127.0.0.1", min_length=1, max_length=255,
                      description="Address to listen on. Any other than this machine's own asks for a password.")
    port: int = Field(7860, ge=1, le=65535, description="Port to listen on.")
    public_url: str | None = Field(None, max_length=255,
                                   description="Address by which others reach the page through a reverse proxy, such "
                                               "as https://example.org/atelier: its host is answered to, requests of "
                                               "its pages are taken, and the page is then used at this address. Asks "
                                               "for a password.")
    share: bool = Field(False, description="Open a public Gradio link. Asks for a password.")
    share_hours: float = Field(12, gt=0, le=168, description="How long a public link stays open, in hours.")
    auth: SecretStr | None = Field(None, description="Name and password to log in with, as user:password. Other people "
                                   "on this machine can see flags: the variable or the file is the safer place.")
    data_dir: Path = Field(default_factory=lambda: default_data_dir(os.environ),
                           description="Folder for pictures, uploads and lists. Default: the system's folder for "
                                       "data of programs.")
    model: str | None = Field(None, max_length=1000,
                              description="Model to start with: a diffusers folder, a safetensors file or the name of "
                                          "a model that was found. Default: the one that comes along.")
    model_dir: tuple[Path, ...] = Field((), description="Folder to look for models in. May be given several times.")
    dataset_dir: Path | None = Field(None, description="Folder whose sub-folders of pictures can be trained on.")
    guests_may_train: bool = Field(False, description="Allow training on a page that others can reach.")
    device: str = Field("auto", pattern=rf"^{DEVICE}(,{DEVICE}){{0,15}}$",
                        description="What computes: auto, cpu, mps, cuda or cuda:1. Several with commas between them, "
                                    "such as cuda:0,cuda:1, each work at jobs of their own.")
    threads: int | None = Field(None, ge=1, le=1024,
                                description="Processor threads that each device's engine computes with. Default: as "
                                            "many as there are cores, shared between the engines.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Number format of the weights. Auto takes what is sound and fast on the device.")
    offload: Literal["auto", "none", "model", "group"] = Field(
        "auto", description="Where weights wait that do not fit on a card: in main memory by component (model) or by "
                            "layer (group, slow). Auto goes by an estimate.")
    quantize: Literal["none", "8-bit", "4-bit"] = Field(
        "none", description="Store the weights of what denoises in fewer bits: 8-bit takes half the memory of half "
                            "precision, 4-bit (with the package bitsandbytes) a quarter for linear layers; pictures "
                            "change slightly.")
    merge_loras: bool = Field(False, description="Add LoRAs to the weights for a run, and put the weights back after "
                              "it: steps are faster, at the cost of a second copy of what they change. Where weights "
                              "wait in main memory or are kept in fewer bits, LoRAs stay beside them all the same.")
    offline: bool = Field(False, description="Never fetch anything from the internet, not even when asked to.")
    download_hosts: tuple[str, ...] = Field((), description="Host to download models from, with its subdomains, or an "
                                            "origin such as http://192.168.1.5:8000. May be given several times. "
                                            "Default: the hub, Civitai, GitHub and their stores.")
    hf_token: SecretStr | None = Field(None, description="Token for downloads from the hub, sent nowhere else. The "
                                       "variable or the file is the safer place.")
    civitai_token: SecretStr | None = Field(None, description="Token for downloads from Civitai, sent nowhere else. "
                                            "The variable or the file is the safer place.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="How much the log says.")
    embed_metadata: bool = Field(True, description="Write prompt, seed and settings into every picture.")
    device_budget_gb: float | None = Field(None, gt=0, le=10_000,
                                           description="Device memory for models, in GB. Default: measured.")
    host_budget_gb: float | None = Field(None, gt=0, le=10_000,
                                         description="Main memory for models, in GB. Default: measured.")

    @property
    def is_public(self) -> bool:
        """Whether others than this machine's own browser can reach the page: then a password is a must."""
        return self.share or self.host not in LOOPBACK or self.public_url is not None

    def for_devices(self) -> tuple[Settings, ...]:
        """The same for each device alone, where several are named, with its share of the processor's threads."""
        devices = self.device.split(",")
        threads = self.threads or (max(1, (os.cpu_count() or 1) // len(devices)) if len(devices) > 1 else None)
        return tuple(self.model_copy(update={"device": each, "threads": threads}) for each in devices)

    @property
    def login(self) -> tuple[str, str] | None:
        """Name and password, in the clear."""
        if self.auth is None:
            return None
        name, _, password = self.auth.get_secret_value().partition(":")
        return name, password

    @field_validator("*", mode="before")
    @classmethod
    def _takes_what_people_write(cls, value: object, info: ValidationInfo) -> object:
        # pydantic reads true as 1, and a port 1 is nobody's wish. One folder needs no list.
        name = str(info.field_name)
        if isinstance(value, bool) and cls.model_fields[name].annotation is not bool:
            raise ValueError("true and false are not possible here")
        return (value,) if name in SEPARATORS and isinstance(value, str) else value

    @field_validator("auth")
    @classmethod
    def _login_has_two_parts(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not all(value.get_secret_value().partition(":")):
            raise ValueError("it must look like user:password")
        return value

    @field_validator("public_url")
    @classmethod
    def _public_url_is_an_address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            address = urlsplit(value)
            host, port = address.hostname, address.port
        except ValueError:
            host = port = None
        if not (host and address.scheme in ("http", "https")) or set(value) & set("?#@\\") or not value.isprintable():
            raise ValueError("it must look like https://example.org or https://example.org/atelier")
        name = f"[{host}]" if ":" in host else host
        is_usual = port in (None, {"http": 80, "https": 443}[address.scheme])
        return f"{address.scheme}://{name}{'' if is_usual else f':{port}'}{address.path.rstrip('/')}"

    @field_validator("data_dir", "model_dir", "dataset_dir", mode="after")
    @classmethod
    def _home_is_spelled_out(cls, value: object) -> object:
        if value is None:
            return None
        paths = [path.expanduser().absolute() for path in (value if isinstance(value, tuple) else (value,))]
        return tuple(paths) if isinstance(value, tuple) else paths[0]


def to_table(settings: Settings) -> dict[str, object]:
    """Write settings down for a process that is started, as JSON values. Secrets are left out: no such process asks
    for them, and the file can be read."""
    return settings.model_dump(mode="json", exclude=set(SECRETS))


def from_table(table: dict[str, object]) -> Settings:
    """Read what `to_table` wrote. Keys of another version are passed over. Raises SettingsError for other values."""
    try:
        return Settings.model_validate({name: value for name, value in table.items() if name in Settings.model_fields})
    except ValidationError as error:
        raise readable(error, {name: name for name in Settings.model_fields}) from None


def readable(error: ValidationError, sources: Mapping[str, str]) -> SettingsError:
    """Say what is wrong in one line. sources: setting -> the words by which the person gave it."""
    fault = error.errors(include_url=False)[0]
    name = str(fault["loc"][0])
    reason = re.sub(r"^Value error, ", "", fault["msg"])
    if "SecretStr" in str(Settings.model_fields[name].annotation):
        return SettingsError(f"{sources[name]}: the value is not possible: {reason}.")
    if name == "device":
        reason = "Possible are auto, cpu, mps, cuda and cuda:1, or several with commas between them"
    shown = quoted(fault["input"])
    return SettingsError(f"{sources[name]}: {shown} is not possible. {reason[0].upper()}{reason[1:]}.")
