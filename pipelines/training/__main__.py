"""python -m pipelines.training CONFIG.toml | RUN_FOLDER [--resume | --probe]

A run folder says how the app is set up that started the run. Where it does not, and for a config, this command line is
what starts the run: the settings are read here, once, and written into the folder.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from .. import settings as settings_of
from ..errors import RequestError, StudioError
from ..machine.device import prepare_environment
from ..settings import Settings
from .request import REQUIRED, TrainLora, changed_since, from_toml
from .run.folder import RunFolder
from .run.follow import state


def main(argv: list[str]) -> int:
    """Run, and return the exit code: 0 for an end in order, 1 for failed, 2 for a config that is wrong."""
    said = parser().parse_args(argv)
    try:
        config, folder, settings = chosen(said.what, resume=said.resume, only_probe=said.probe)
    except StudioError as error:
        print(error, file=sys.stderr)
        return 2
    prepare_environment(os.environ, offline=settings.offline)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        from .run.execute import run  # torch comes with it

        ended = run(config, folder, settings, only_probe=said.probe)
    except StudioError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # before it began, or a second signal, which does not wait for the step
        print("Stopped at once.", file=sys.stderr)
        found = state(folder.path)
        return 130 if found.step > found.saved_step else 0
    finally:
        signal.signal(signal.SIGTERM, before)
    return 1 if ended.how == "failed" else 0


def chosen(what: Path, *, resume: bool, only_probe: bool) -> tuple[TrainLora, RunFolder, Settings]:
    """The config, the run folder and the settings that the command line means; a folder for once to probe.

    Raises StudioError.
    """
    if what.is_dir():
        folder = RunFolder(what.absolute())
        config = folder.config()
        if not (resume or only_probe) and folder.has_begun:
            raise StudioError(f"{what.name}: this run has begun already. --resume goes on.")
        return config, folder, folder.settings() or settings_of.load([], os.environ)
    config, settings = from_toml(what), settings_of.load([], os.environ)
    if only_probe:
        place = tempfile.mkdtemp(prefix="probe-")
        atexit.register(shutil.rmtree, place, ignore_errors=True)
        return config, RunFolder(Path(place)), settings
    folder = RunFolder(Path(config.output) / f"{config.name}-run")
    leads = os.environ.get("RANK", "0") == "0"  # of several processes one alone moves folders
    if folder.path.is_dir() and leads:
        if folder.is_alive:
            raise StudioError(f"{config.name}: this run is going on in another process.")
        if resume:
            field = changed_since(folder.config(), config)
            if field:
                title = TrainLora.model_fields[field].title
                raise RequestError(f"{title}: it was changed since the run began, so the run cannot go on. Change it "
                                   "back, or start a new one without --resume.", field)
        else:
            folder.step_aside()
    if leads:
        folder.write_config(config)
        folder.write_settings(settings)
    return config, folder, settings


def parser() -> argparse.ArgumentParser:
    """Build the command line; its help explains every key of a config."""
    made = argparse.ArgumentParser(
        prog="python -m pipelines.training", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Train a LoRA, or the U-Net itself, from a folder of pictures.\nCtrl-C finishes the step, saves "
                    "and ends.", epilog=keys())
    made.add_argument("what", metavar="CONFIG.toml | RUN_FOLDER", type=Path, help="a config, or the folder of a run")
    made.add_argument("--resume", action="store_true", help="go on from the newest saved state, from 0 if there is "
                                                            "none")
    made.add_argument("--probe", action="store_true", help="try a few steps, say what memory and time the run would "
                                                           "take, and end")
    return made


def keys() -> str:
    """Every key of a config with its default and meaning."""
    lines = [f"The smallest config has {', '.join(REQUIRED)}. Relative paths are relative to the config.", "", "keys:"]
    for name, info in TrainLora.model_fields.items():
        default = "needed" if info.is_required() else "by preset or model" if info.default is None else json.dumps(
            info.default)
        choices = _choices(info.annotation)
        lines += [f"  {name} ({default}{f'; {choices}' if choices else ''})", f"      {info.description}"]
    return "\n".join(lines)


def _choices(annotation: object) -> str:
    from typing import Literal, get_args, get_origin

    return " | ".join(map(str, get_args(annotation))) if get_origin(annotation) is Literal else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
