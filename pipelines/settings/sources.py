"""Where settings come from: defaults, then a TOML file, then environment variables (ATELIER_PORT), then flags (--port).

The file is that of --config, else config.toml in the data folder if it is there. An unknown key is an error in each.
"""

from __future__ import annotations

import argparse
import re
import tomllib
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn, get_args

from pydantic import ValidationError

from ..errors import SettingsError
from ..passwords import refuse_weak
from .declaration import (
    PATHS,
    PREFIX,
    SEPARATORS,
    SHOWN_INPUT,
    VERSION,
    Settings,
    default_data_dir,
    readable,
)

BACKSLASHES = (" Within double quotes a backslash begins an escape: put the path into single quotes, or write it with "
               "/ instead.")
CONTROL = re.compile(r"[\0-\x1f\x7f]")


def load(argv: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """Read the settings. argv: the flags, without the program's name.

    Raises SettingsError with one line that names what is wrong; --help and --version print and exit.
    """
    # What is said later wins. Each value travels with the words by which the person gave it.
    said = {**_from_environment(environ), **_from_flags(argv)}
    config = said.pop("config", None)
    folder = {"data_dir": said.get("data_dir", (default_data_dir(environ), "--data-dir"))}
    given = {**folder, **_from_file(config, str(folder["data_dir"][0])), **said}
    try:
        settings = Settings.model_validate({name: value for name, (value, _) in given.items()})
    except ValidationError as error:
        raise readable(error, {name: source for name, (_, source) in given.items()}) from None
    refuse_weak(settings.login, settings.is_public)
    return settings


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


def _from_flags(argv: Sequence[str]) -> dict[str, tuple[object, str]]:
    known, unknown = parser().parse_known_args(list(argv))
    if unknown:
        flag = unknown[0].split("=")[0]
        flags = [_flag(name) for name in (*Settings.model_fields, "config", "help", "version")]
        raise _no_such(flag, "flag" if flag.startswith("-") else "argument", flag, flags)
    return {name: (value, _flag(name)) for name, value in vars(known).items()}


def _from_environment(environ: Mapping[str, str]) -> dict[str, tuple[object, str]]:
    known = {f"{PREFIX}{name.upper()}": name for name in (*Settings.model_fields, "config")}
    given: dict[str, tuple[object, str]] = {}
    for variable, value in environ.items():
        if not variable.upper().startswith(PREFIX):
            continue
        if variable not in known:
            raise _no_such(variable, "setting", variable.upper(), list(known))
        if value:  # an empty variable is how many starters spell "not set"
            name = known[variable]
            given[name] = (value.split(SEPARATORS[name]) if name in SEPARATORS else value, variable)
    return given


def _from_file(config: tuple[object, str] | None, data_dir: str) -> dict[str, tuple[object, str]]:
    path = Path(str(config[0]) if config else Path(data_dir) / "config.toml").expanduser()
    if config is None and not path.is_file():
        return {}
    table = read_toml(path, PATHS)
    for key in table:
        if key not in Settings.model_fields:
            raise _no_such(f"{key[:SHOWN_INPUT]} in {path.name}", "setting", key, list(Settings.model_fields))
    if config is None and "data_dir" in table:
        raise SettingsError(f"data_dir in {path.name}: a file in the data folder cannot say where that folder is.")
    return {key: (value, f"{key} in {path.name}") for key, value in table.items()}


def read_toml(path: Path, paths: Sequence[str]) -> dict[str, object]:
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
