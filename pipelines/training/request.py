"""What a training run is asked for: a frozen value, every parameter declared once, read from a TOML file or a form.

A default of None means "as the preset or the model likes"; `presets.resolve` makes it concrete. Imports no torch.
"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

from ..errors import RequestError
from ..requests import MAX_PROMPT, MAX_SEED_32, fields_of, make, param
from ..settings import SettingsError, read_toml
from .dataset.decoding import Encoding
from .run.sample_prompts import parse

Method = Literal["lora", "full"]
Targets = Literal["auto", "attention", "attention+ff", "attention+ff+conv"]
TextEncoder = Literal["off", "attention", "attention+mlp"]
Goal = Literal["subject", "style", "concept"]
Length = Literal["fast", "balanced", "thorough"]
Optimizer = Literal["adamw", "adamw8bit", "adafactor", "prodigy"]
Scheduler = Literal["constant", "cosine", "linear", "restarts"]
Crop = Literal["center", "top", "random"]
Precision = Literal["auto", "float32", "bfloat16"]
SaveDtype = Literal["float16", "bfloat16", "float32"]
Switch = Literal["auto", "on", "off"]
Prediction = Literal["auto", "epsilon", "v_prediction"]



class TrainLora(BaseModel):
    """A run that learns a LoRA, or with method "full" the U-Net itself, from a folder of pictures.

    What may change when a run goes on: nothing that a weight depends on, and the length, which only the schedules that
    end at 0 depend on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    model: str = param(..., "Model", min_length=1, max_length=1000, kind="path", may_change=True,
                       help="What is trained on: demo (the model that comes along), a name from the model list, a "
                            "diffusers folder, a safetensors file or a hub id.")
    data: str = param(..., "Data", min_length=1, max_length=4000, kind="path", may_change=True,
                      help="A folder or a zip of pictures with captions beside them (.txt, .caption, metadata.jsonl or "
                           "metadata.csv). It is only read.")
    output: str = param(..., "Output", min_length=1, max_length=4000, kind="path", may_change=True,
                        help="Folder for the result, NAME.safetensors, and for the run folder, NAME-run.")
    name: str = param(..., "Name", min_length=1, max_length=80, pattern=r"^[^\W_][\w.+-]*(?: [\w.+-]+)*$",
                      help="Name of the result: letters, digits, and . _ + - inside.")

    prediction_type: Prediction = param("auto", "Predicts", help="What the model predicts, epsilon (the noise) or "
                                        "v_prediction. Auto: as its file says, or as was chosen in the app.")

    goal: Goal = param("style", "What", help="What is to be learned: one subject, a style, or a concept. Sets rank, "
                                             "alpha, learning rate and steps unless they are given.")
    length: Length = param("balanced", "How long", help="fast, balanced or thorough: how often each picture is seen.")
    method: Method = param("lora", "Method", help="lora learns a small addition; full changes the U-Net itself.")
    targets: Targets = param("auto", "Targets", help="Which layers of the U-Net a LoRA is added to. Auto takes "
                                                     "attention+ff, and the convolutions too where the model is small.")
    text_encoder: TextEncoder = param("off", "Text encoder", help="Whether the text encoder gets a LoRA as well: in "
                                                                  "its attention (q, k, v, out), or its MLP too.")
    rank: int | None = param(None, "Rank", ge=1, le=512, step=1, help="Size of the LoRA: more can hold more detail, "
                                                                      "and learns by heart sooner.")
    alpha: float | None = param(None, "Alpha", gt=0, le=1024, step=1,
                                help="The LoRA acts with alpha / rank; half the alpha is like half the learning rate.")
    dropout: float = param(0.0, "Dropout", ge=0, lt=1, step=0.05, help="Share of the LoRA's inputs left out at random.")
    rslora: bool = param(False, "Rank-stabilised", help="Scale by alpha / sqrt(rank) (arXiv:2312.03732).")
    dora: bool = param(False, "DoRA", help="Learn each row's length apart from its direction (arXiv:2402.09353).")

    optimizer: Optimizer = param("adamw", "Optimizer", help="adamw; adafactor with less memory; adamw8bit and prodigy "
                                                            "when their packages are installed.")
    learning_rate: float | None = param(None, "Learning rate", gt=0, le=10, help="Size of a step. Too high burns, too "
                                                                                 "low learns nothing.")
    text_encoder_learning_rate: float | None = param(None, "Text encoder learning rate", gt=0, le=10,
                                                     help="Half of the learning rate, unless given.")
    weight_decay: float = param(0.01, "Weight decay", ge=0, le=1, help="Pulls weights towards 0.")
    max_grad_norm: float = param(1.0, "Clip gradients at", ge=0, le=1000, help="Longest gradient; 0 does not clip.")
    scheduler: Scheduler = param("cosine", "Learning rate schedule", help="How the learning rate goes down.")
    warmup: float = param(0.05, "Warm-up", ge=0, le=1, help="Share of the steps in which the learning rate goes up.")
    restarts: int = param(3, "Restarts", ge=1, le=100, step=1, help="Cycles of the schedule `restarts`.")
    steps: int | None = param(None, "Steps", ge=1, le=1_000_000, step=1, may_change=True,
                              help="Updates of the weights.")
    batch_size: int | None = param(None, "Batch size", ge=1, le=256, step=1, help="Pictures computed at once.")
    accumulation: int = param(1, "Accumulation", ge=1, le=256, step=1, help="Batches that make one update.")

    resolution: int | None = param(None, "Resolution (px)", ge=64, le=2048, multiple_of=8, step=8,
                                   help="Side of a square picture; others get the same area.")
    buckets: bool = param(True, "Aspect buckets", help="Keep each picture's shape; off crops all to squares.")
    crop: Crop = param("center", "Crop", help="Which part is kept where shape and bucket differ. Random takes one of "
                                              "four crops each time.")
    flip: bool = param(False, "Flip", help="Show each picture mirrored half of the time.")
    repeats: int = param(1, "Repeats", ge=1, le=1000, step=1, help="How often a picture counts within an epoch.")

    trigger: str = param("", "Trigger word", max_length=200, help="Put before every caption.")
    prefix: str = param("", "Prefix", max_length=1000, help="Put between trigger and caption, as it is.")
    suffix: str = param("", "Suffix", max_length=1000, help="Put behind every caption, as it is.")
    shuffle: bool = param(False, "Shuffle tags", help="Reorder the caption's comma-separated tags.")
    keep_first: int = param(0, "Keep first tags", ge=0, le=100, step=1, help="Tags that keep their place.")
    caption_encoding: Encoding = param("auto", "Encoding of captions", help="How captions and tables are read. Auto "
                                       "reads UTF-8 and Western European ones, and leaves out the others.")
    caption_dropout: float = param(0.0, "Caption dropout", ge=0, le=1, step=0.05,
                                   help="Share of pictures shown with an empty caption. Guidance draws away from what "
                                        "an empty caption gives: once that looks like your pictures, it works against "
                                        "them.")
    clip_skip: int = param(1, "Clip skip", ge=1, le=12, step=1, help="Which of the text encoder's last layers is "
                                                                     "read: 1 is the last.")

    min_snr_gamma: float | None = param(None, "Min-SNR gamma", ge=0, le=100, help="Evens out easy and hard noise "
                                        "levels (arXiv:2303.09556). 0 is off. Unless given: 5 for models that predict "
                                        "noise, off for others.")
    debiased: bool = param(False, "Debiased", help="Weigh by 1 / sqrt(SNR) (arXiv:2310.08442), in place of min-SNR.")
    noise_offset: float = param(0.0, "Noise offset", ge=0, le=1, step=0.01, help="Helps very dark and bright pictures.")
    masked: bool = param(False, "Masked", help="Learn only where a picture is opaque, or its NAME-masklabel.png white.")
    prior_data: str = param("", "Regularisation pictures", max_length=4000, kind="path",
                            help="Folder of ordinary pictures that keep the model from forgetting.")
    prior_weight: float = param(1.0, "Regularisation weight", ge=0, le=10, step=0.1, help="Weight of their loss.")

    ema: float = param(0.0, "EMA", ge=0, lt=1, step=0.001, help="Decay of the averaged weights, 0.99 say; 0 is off.")
    precision: Precision = param("auto", "Precision", help="Number format of the frozen weights. LoRA weights are "
                                                           "float32 always.")
    device: str = param("auto", "Device", pattern=r"^(auto|cpu|mps|cuda(:\d{1,2})?)$",
                        help="What computes. Auto: as the app is set.")
    gradient_checkpointing: Switch = param("auto", "Gradient checkpointing", help="Less memory, slower. Auto switches "
                                                                                  "it on only when memory runs out.")
    cache: Literal["memory", "disk"] = param("memory", "Cache", may_change=True,
                                             help="Where latents and text embeddings are kept.")

    save_dtype: SaveDtype = param("float16", "Number format of the result", may_change=True,
                                  help="float16 is what is usual.")
    save_every: int = param(250, "Save every (steps)", ge=0, le=1_000_000, step=1, may_change=True,
                            help="0 saves at the end only.")
    save_minutes: float = param(10.0, "Save every (minutes)", ge=0, le=10_000, help="Whichever comes first; 0 is off.")
    keep_last: int = param(3, "Keep", ge=1, le=10_000, step=1, may_change=True,
                           help="Newest checkpoints kept; the best stays as well.")
    sample_every: int = param(0, "Sample every (steps)", ge=0, le=1_000_000, step=1, may_change=True,
                              help="0 makes none but the preview of the result.")
    sample_prompts: tuple[str, ...] = param((), "Sample prompts", max_length=16, may_change=True,
                                            help="Prompts of the samples, each with --n (negative), --w, --h, --s "
                                                 "(steps), --d (seed) and --l (guidance) behind it.")
    sample_seed: int = param(1, "Sample seed", ge=0, le=MAX_SEED_32, step=1, may_change=True,
                             help="Seed of the first sample.")
    sample_steps: int | None = param(None, "Sample steps", ge=1, le=150, step=1, may_change=True,
                                     help="Denoising steps of a sample.")
    validation: float = param(0.1, "Held out", ge=0, le=0.5, step=0.05, help="Share of pictures never trained on, by "
                                                                             "which over-fitting shows.")
    validate_every: int = param(50, "Measure every (steps)", ge=1, le=1_000_000, step=1, may_change=True,
                                help="How often the held-out loss is measured.")
    early_stop: int = param(0, "Early stop", ge=0, le=10_000, step=1, may_change=True,
                            help="End after so many measurements without a better held-out loss; 0 is off.")
    keep_best: bool = param(False, "Keep the best", help="Make the result from the checkpoint with the lowest held-out "
                                                         "loss instead of the last.")
    seed: int = param(0, "Seed", ge=0, le=MAX_SEED_32, step=1, help="Everything random follows from it.")
    tensorboard: bool = param(True, "TensorBoard", may_change=True,
                              help="Write the run's curves for TensorBoard, when its package is installed.")
    wandb: bool = param(False, "Weights & Biases", may_change=True,
                        help="Send the run's curves and settings to your account there, when its package is installed "
                             "and logged in.")

    @field_validator("*", mode="before")
    @classmethod
    def _takes_what_files_hold(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, list):
            return tuple(value)
        if info.field_name == "min_snr_gamma" and value is False:
            return 0.0
        # A browser has one number type: 20 may arrive as 20.0. Strict mode refuses everything else.
        return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value

    @field_validator("sample_prompts")
    @classmethod
    def _prompts_can_be_read(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(len(prompt) > MAX_PROMPT for prompt in value):
            raise ValueError(f"a prompt may have {MAX_PROMPT} characters")
        for prompt in value:
            parse(prompt)
        return value


REQUIRED = tuple(name for name, info in TrainLora.model_fields.items() if info.is_required())


def from_toml(path: Path) -> TrainLora:
    """Read a config file; relative paths in it are relative to it. Raises RequestError naming key, value and limit."""
    try:
        table = read_toml(path, fields_of(TrainLora, kind="path"))
    except SettingsError as error:
        raise RequestError(str(error)) from None
    return from_table(table, path.absolute().parent)


def from_table(table: dict[str, object], folder: Path) -> TrainLora:
    """Check a table of values; relative paths are relative to `folder`."""
    for key in table:
        if key not in TrainLora.model_fields:
            nearest = get_close_matches(key, TrainLora.model_fields, n=1, cutoff=0.5)
            hint = f" Did you mean {nearest[0]}?" if nearest else ""
            raise RequestError(f"{key[:40]}: there is no such key.{hint}", key[:40])
    missing = [key for key in REQUIRED if key not in table]
    if missing:
        raise RequestError(f"{missing[0]}: missing. The smallest config has {', '.join(REQUIRED)}.", missing[0])
    config = make(TrainLora, **table)
    places = {key: str(_anchored(folder, getattr(config, key))) for key in ("data", "output")}
    if config.prior_data:
        places["prior_data"] = str(_anchored(folder, config.prior_data))
    beside = _anchored(folder, config.model)
    if beside.exists() and config.model != "demo":  # a name or a hub id stays as it is
        places["model"] = str(beside)
    return make(TrainLora, **{**config.model_dump(), **places})


def changed_since(begun: TrainLora, config: TrainLora) -> str | None:
    """The name of the first field that keeps a run from going on under `config`, or None."""
    fixed = fields_of(TrainLora, may_change=False)
    return next((name for name in fixed if getattr(begun, name) != getattr(config, name)), None)


def _anchored(folder: Path, path: str) -> Path:
    return folder / Path(path).expanduser()
