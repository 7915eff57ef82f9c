"""How the studio is set up: every setting declared once, from which come flag, variable, file key and help.

Precedence: defaults, then a TOML file (--config FILE, else config.toml in the data folder if it is there), then
environment variables (ATELIER_PORT), then flags (--port). An unknown key is an error in each of them.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tomllib
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, ValidationInfo, field_validator

from .errors import StudioError

VERSION = "0.2.0"
PREFIX = "ATELIER_"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
SHOWN_INPUT = 40
BACKSLASHES = (" Within double quotes a backslash begins an escape: put the path into single quotes, or write it with "
               "/ instead.")
PATHS = ("data_dir", "model", "model_dir", "dataset_dir")
CONTROL = re.compile(r"[\0-\x1f\x7f]")
SECRETS = ("auth", "hf_token", "civitai_token")
# Settings that may be given several times, and what parts their values in a variable.
SEPARATORS = {"model_dir": os.pathsep, "download_hosts": ","}


class SettingsError(StudioError):
    """A setting that does not exist or cannot have the value given."""


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
    device: str = Field("auto", pattern=r"^(auto|cpu|mps|cuda(:\d{1,2})?)$",
                        description="What computes: auto, cpu, mps, cuda or cuda:1.")
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

    @property
    def login(self) -> tuple[str, str] | None:
        """Name and password, in the clear."""
        if self.auth is None:
            return None
        name, _, password = self.auth.get_secret_value().partition(":")
        return name, password

    @field_validator("*", mode="before")
    @classmethod
    def _takes_what_people_write(cls, value: Any, info: ValidationInfo) -> Any:
        # pydantic reads true as 1, and a port 1 is nobody's wish. One folder needs no list.
        if isinstance(value, bool) and cls.model_fields[info.field_name].annotation is not bool:
            raise ValueError("true and false are not possible here")
        return (value,) if info.field_name in SEPARATORS and isinstance(value, str) else value

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
    def _home_is_spelled_out(cls, value: Any) -> Any:
        if value is None:
            return None
        paths = [path.expanduser().absolute() for path in (value if isinstance(value, tuple) else (value,))]
        return tuple(paths) if isinstance(value, tuple) else paths[0]


def to_table(settings: Settings) -> dict[str, Any]:
    """Write settings down for a process that is started, as JSON values. Secrets are left out: no such process asks
    for them, and the file can be read."""
    return settings.model_dump(mode="json", exclude=set(SECRETS))


def from_table(table: dict[str, Any]) -> Settings:
    """Read what `to_table` wrote. Keys of another version are passed over. Raises SettingsError for other values."""
    try:
        return Settings(**{name: value for name, value in table.items() if name in Settings.model_fields})
    except ValidationError as error:
        raise _readable(error, {name: name for name in Settings.model_fields}) from None


def load(argv: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """Read the settings. argv: the flags, without the program's name.

    Raises SettingsError with one line that names what is wrong; --help and --version print and exit.
    """
    # What is said later wins. Each value travels with the words by which the person gave it.
    said = {**_from_environment(environ), **_from_flags(argv)}
    config = said.pop("config", None)
    folder = {"data_dir": said.get("data_dir", (default_data_dir(environ), "--data-dir"))}
    given = {**folder, **_from_file(config, folder["data_dir"][0]), **said}
    try:
        return Settings(**{name: value for name, (value, _) in given.items()})
    except ValidationError as error:
        raise _readable(error, {name: source for name, (_, source) in given.items()}) from None


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message[0].upper()}{message[1:]}. --help lists every flag.")


def parser() -> argparse.ArgumentParser:
    """Build the command line from the declarations above."""
    made = _Parser(prog="app.py", allow_abbrev=False, argument_default=argparse.SUPPRESS,
                   description="Stable Diffusion in the browser.",
                   epilog="Every setting but --config can also stand in the file, as port = 7860.")
    made.add_argument("--version", action="version", version=f"Atelier {VERSION}")
    made.add_argument("--config", metavar="FILE", help=f"TOML file with settings. Default: config.toml in the data "
                                                       f"folder, if it is there. [{PREFIX}CONFIG]")
    for name, info in Settings.model_fields.items():
        default = "" if info.default in (None, ()) or info.default_factory else f" Default: {info.default}."
        text = f"{info.description}{default if not isinstance(info.default, bool) else ''} [{PREFIX}{name.upper()}]"
        options: dict[str, Any] = {"help": text.replace("%", "%%")}
        if info.annotation is bool:
            options["action"] = argparse.BooleanOptionalAction
        elif isinstance(info.default, tuple):
            options |= {"action": "append", "metavar": "FOLDER" if name == "model_dir" else "HOST"}
        else:
            choices = [choice for choice in get_args(info.annotation) if isinstance(choice, str)]
            options["metavar"] = "{" + ",".join(choices) + "}" if choices else name.rsplit("_", 1)[-1].upper()
        made.add_argument(_flag(name), **options)
    return made


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _from_flags(argv: Sequence[str]) -> dict[str, tuple[Any, str]]:
    known, unknown = parser().parse_known_args(list(argv))
    if unknown:
        flag = unknown[0].split("=")[0]
        flags = [_flag(name) for name in (*Settings.model_fields, "config", "help", "version")]
        raise _no_such(flag, "flag" if flag.startswith("-") else "argument", flag, flags)
    return {name: (value, _flag(name)) for name, value in vars(known).items()}


def _from_environment(environ: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    known = {f"{PREFIX}{name.upper()}": name for name in (*Settings.model_fields, "config")}
    given: dict[str, tuple[Any, str]] = {}
    for variable, value in environ.items():
        if not variable.upper().startswith(PREFIX):
            continue
        if variable not in known:
            raise _no_such(variable, "setting", variable.upper(), list(known))
        if value:  # an empty variable is how many starters spell "not set"
            name = known[variable]
            given[name] = (value.split(SEPARATORS[name]) if name in SEPARATORS else value, variable)
    return given


def _from_file(config: tuple[str, str] | None, data_dir: str | Path) -> dict[str, tuple[Any, str]]:
    path = Path(config[0] if config else Path(data_dir) / "config.toml").expanduser()
    if config is None and not path.is_file():
        return {}
    table = read_toml(path, PATHS)
    for key in table:
        if key not in Settings.model_fields:
            raise _no_such(f"{key[:SHOWN_INPUT]} in {path.name}", "setting", key, list(Settings.model_fields))
    if config is None and "data_dir" in table:
        raise SettingsError(f"data_dir in {path.name}: a file in the data folder cannot say where that folder is.")
    return {key: (value, f"{key} in {path.name}") for key, value in table.items()}


def read_toml(path: Path, paths: Sequence[str]) -> dict[str, Any]:
    """Read a file of settings; paths: its keys that hold paths. Raises SettingsError, with a hint at backslashes.

    Windows' programs mark their files as UTF-8 or write them in UTF-16, and its paths have backslashes, which begin an
    escape within double quotes: \\U is refused by TOML, and \\n or \\t are read as what no path has.
    """
    text = ""
    try:
        data = path.read_bytes()
        text = data.decode("utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig")
        table = tomllib.loads(text)
    except OSError as error:
        raise SettingsError(f"{path.name}: the file cannot be read ({error.strerror}).") from None
    except ValueError as error:  # of TOML and of UTF-8
        line = re.search(r"at line (\d+)", str(error))
        hint = BACKSLASHES if line and "\\" in text.split("\n")[int(line[1]) - 1] else ""
        raise SettingsError(f"{path.name}: the file is not valid TOML ({error}).{hint}") from None
    for key in paths:
        value = table.get(key)
        values = value if isinstance(value, list) else [value]
        if any(isinstance(one, str) and CONTROL.search(one) for one in values):
            raise SettingsError(f"{key} in {path.name}: there is a control character in it.{BACKSLASHES}")
    return table


def _no_such(shown: str, kind: str, key: str, known: list[str]) -> SettingsError:
    nearest = get_close_matches(key, known, n=1)
    return SettingsError(f"{shown}: there is no such {kind}." + (f" Did you mean {nearest[0]}?" if nearest else ""))


def _readable(error: ValidationError, sources: dict[str, str]) -> SettingsError:
    fault = error.errors(include_url=False)[0]
    name = str(fault["loc"][0])
    reason = re.sub(r"^Value error, ", "", fault["msg"])
    if "SecretStr" in str(Settings.model_fields[name].annotation):
        return SettingsError(f"{sources[name]}: the value is not possible: {reason}.")
    if name == "device":
        reason = "Possible are auto, cpu, mps, cuda and cuda:1"
    shown = repr(fault["input"])
    shown = shown if len(shown) <= SHOWN_INPUT else f"{shown[:SHOWN_INPUT]}..."
    return SettingsError(f"{sources[name]}: {shown} is not possible. {reason[0].upper()}{reason[1:]}.")
