"""The lab from the command line: python -m pipelines.lab train | sample | finetune. --help lists every parameter."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ..errors import StudioError
from ..events import Notice
from ..machine import device
from ..queue.control import Control
from ..requests import make
from .events import EpochDone, Started, Trained, Update
from .requests import FineTune, LabRequest, Sample, Train

FLAGS = {"label": "--class"}  # where the flag is not the field's name: `class` is a word of the language


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code. Errors are one line on stderr."""
    device.prepare_environment(os.environ)
    parsed = _parser().parse_args(arguments)
    control = Control()
    previous = signal.signal(signal.SIGINT, lambda *_: control.stop.set())  # the first Ctrl+C saves, then ends
    try:
        parsed.command(parsed, control)
    except StudioError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        signal.signal(signal.SIGINT, previous)
    return 0


def train(parsed: argparse.Namespace, control: Control) -> None:
    """Train from scratch, three minutes unless told otherwise."""
    request = _request(Train, parsed)
    from . import train as training

    if not request.resume and request.epochs is None and request.minutes is None:
        request = make(Train, **{**_given(Train, parsed), "minutes": training.DEFAULT_MINUTES})
    for event in training.run(request, control):
        _print(event)


def sample(parsed: argparse.Namespace, control: Control) -> None:
    """Draw pictures, one PNG each."""
    request, folder = _request(Sample, parsed), Path(parsed.output)
    from . import checkpoints, draw

    model = checkpoints.load_model(Path(parsed.run), draw.device_of(request.device), _parts(Path(parsed.run)))
    folder.mkdir(parents=True, exist_ok=True)
    for one in draw.draw(request, model, control):
        one.image.save(folder / f"{one.number:04d}-{one.seed}.png")
    print(f"{request.count} pictures.")


def _parts(run: Path) -> Any:
    """The frozen VAE and text encoder that a run of the recipe latents needs; None for other runs."""
    from . import checkpoints, latentset

    request = checkpoints.read(run).get("request", {})
    if request.get("recipe") != "latents":
        return None
    return latentset.frozen(Path(request["model"]) if request.get("model") else latentset.EMBEDDED)


def finetune(parsed: argparse.Namespace, control: Control) -> None:
    """Go on training a DDPMPipeline."""
    request = _request(FineTune, parsed)
    from . import finetune as tuning

    epoch = -1
    for event in tuning.run(request, control):
        if isinstance(event, Update) and event.epoch > epoch:
            epoch = event.epoch
            print(f"epoch {epoch + 1}: loss {event.loss:.4f}, {event.seconds_left:.0f} s left", flush=True)
        _print(event)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pipelines.lab", description=__doc__.partition(":")[0] + ".")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, command, cls in (("train", train, Train), ("sample", sample, Sample), ("finetune", finetune, FineTune)):
        one = commands.add_parser(name, help=command.__doc__, description=cls.__doc__)
        one.set_defaults(command=command)
        if cls is Sample:
            one.add_argument("run", metavar="DIR", help="Folder of a training run.")
            one.add_argument("--output", metavar="FOLDER", required=True, help="Folder for the pictures. It is made.")
        for field, info in cls.model_fields.items():
            flag = FLAGS.get(field, "--" + field.replace("_", "-"))
            text = info.description.replace("%", "%%")
            if info.annotation is bool:
                one.add_argument(flag, dest=field, action="store_true", default=argparse.SUPPRESS, help=text)
                continue
            shown = "" if info.is_required() or info.default in (None, "") else f" (default: {info.default})"
            one.add_argument(flag, dest=field, default=argparse.SUPPRESS, required=info.is_required(),
                             metavar=field.upper(), help=text + shown)
    return parser


def _given(cls: type[LabRequest], parsed: argparse.Namespace) -> dict[str, object]:
    """The values that stand on the command line, as the fields' types where that is possible."""
    return {field: _typed(info.annotation, getattr(parsed, field)) for field, info in cls.model_fields.items()
            if hasattr(parsed, field)}


def _typed(annotation: Any, text: Any) -> Any:
    try:
        return TypeAdapter(annotation).validate_python(text, strict=False)
    except ValidationError:
        return text  # the request says what is wrong with it


def _request(cls: type[LabRequest], parsed: argparse.Namespace) -> LabRequest:
    return make(cls, **_given(cls, parsed))


def _print(event: Update | Notice) -> None:
    if isinstance(event, Started):
        print(f"{event.pictures} pictures, {event.held_out} held out, {event.parameters:,} parameters, {event.device}, "
              f"{event.epoch} epochs done before.", flush=True)
    elif isinstance(event, EpochDone):
        held_out = "" if event.held_out_loss is None else f", held out {event.held_out_loss:.4f}"
        print(f"epoch {event.epoch}, update {event.step}: loss {event.loss:.4f}{held_out}, "
              f"{event.seconds_left:.0f} s left", flush=True)
    elif isinstance(event, Trained):
        print(f"{'Stopped and saved' if event.stopped else 'Done'} after {event.epoch} epochs, {event.step} updates.")
    elif isinstance(event, Notice):
        print(event.text)


if __name__ == "__main__":
    sys.exit(main())
