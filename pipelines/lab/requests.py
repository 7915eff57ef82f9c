"""What can be asked of the lab: frozen values, every parameter declared once, as in pipelines/requests. No torch."""

from __future__ import annotations

import re
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from ..prompts.comments import without_comments
from ..requests import MAX_PROMPT, MAX_SEED_32, param

ScheduleName = Literal["linear", "scaled linear", "cosine", "zero terminal SNR", "flow"]
Recipe = Literal["pixels", "latents"]
Prediction = Literal["noise", "x0", "v"]
Network = Literal["context", "attention", "unet2d"]
Loss = Literal["mse", "l1", "huber"]
Decay = Literal["constant", "linear", "cosine"]
Precision = Literal["float32", "bfloat16", "float16"]
Walk = Literal["ddim", "ddpm"]
Over = Literal["none", "alpha-bar", "root of alpha-bar", "one minus alpha-bar"]
Goal = Literal["colour", "text", "classifier", "symmetry", "reference"]
HUB_ID = r"[\w.-]{1,96}/[\w.-]{1,96}"
DEVICE = r"^(auto|cpu|mps|cuda(:\d{1,2})?)$"


class LabRequest(BaseModel):
    """What every request of the lab has."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    looks_into_checkpoint: ClassVar[bool] = True  # whether a loaded checkpoint is needed for the answer
    gradients: ClassVar[str] = ""  # what of the checkpoint they are taken through: "decoder", or "network" for both
    trains: ClassVar[bool] = False  # whether it is refused to visitors where training is

    seed: int = param(1, "Seed", ge=0, le=MAX_SEED_32, step=1, help="Everything random follows from it.")

    @field_validator("*", mode="before")
    @classmethod
    def _whole_floats_are_integers(cls, value: object) -> object:
        # A browser has one number type: 20 may arrive as 20.0. Strict mode refuses everything else.
        return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value

    @field_validator("prompt", "others", check_fields=False)
    @classmethod
    def _without_comments(cls, value: str) -> str:
        return without_comments(value)  # as the prompts of all other pictures are read


class Training(LabRequest):
    """How a diffusion model is trained from scratch, whatever on."""

    recipe: Recipe = param("pixels", "Recipe", help="pixels: draw pictures of a class directly; latents: draw what a "
                           "caption says in the latent space of a loaded model, as Stable Diffusion was trained.")
    side: int | None = param(None, "Side (px)", ge=8, le=128, multiple_of=8, step=8,
                             help="Pictures are brought to this size; the set's own when left out.")
    network: Network = param("context", "Network", help="context: a small U-Net with time and class in every block; "
                             "attention: the same looking at the class with cross-attention; unet2d: diffusers' own. "
                             "The recipe latents has a network of its own.")
    width: int = param(32, "Width", ge=16, le=256, multiple_of=16, step=16, help="Channels at full resolution.")
    levels: int | None = param(None, "Levels", ge=1, le=5, step=1,
                               help="Resolutions, each half of the one before; what fits the side when left out.")
    timesteps: int = param(1000, "Timesteps", ge=10, le=10_000, step=10, help="Noise levels between picture and noise.")
    schedule: ScheduleName = param("cosine", "Schedule", help="How the noise grows with the timestep.")
    prediction: Prediction = param("v", "Prediction", help="What the network says of a noisy picture: its noise, the "
                                                           "clean picture, or v, which lies between.")
    loss: Loss = param("mse", "Loss", help="How its error is measured. Huber is squared when small, "
                                                 "absolute when large.")
    epochs: int | None = param(None, "Epochs", ge=1, le=100_000, step=1, may_change=True,
                               help="How often each picture is seen.")
    minutes: float | None = param(None, "Minutes", gt=0, le=10_000, may_change=True,
                                  help="How long to train; with epochs, whichever is over first.")
    batch_size: int = param(64, "Batch size", ge=1, le=1024, step=1, help="Pictures computed at once.")
    accumulation: int = param(1, "Accumulation", ge=1, le=256, step=1, help="Batches that make one update.")
    learning_rate: float = param(2e-3, "Learning rate", gt=0, le=1, help="Size of a step. Too high gives noise.")
    decay: Decay = param("cosine", "Learning rate decay", help="How the learning rate goes down to 0 over the run.")
    precision: Precision = param("float32", "Precision", help="Number format of the matrix products. float16 needs a "
                                                              "CUDA card.")
    ema: float = param(0.995, "EMA", ge=0, lt=1, step=0.001, help="Decay of the averaged weights that samples are made "
                                                                 "with; 0 is off.")
    validation: float = param(0.1, "Held out", ge=0, le=0.5, step=0.05, help="Share of pictures never trained on.")
    class_dropout: float = param(0.1, "Class dropout", ge=0, le=1, step=0.05,
                                 help="Share of pictures shown without their class, which class guidance needs.")
    samples: int = param(20, "Samples", ge=0, le=100, step=1, may_change=True,
                         help="Pictures drawn after every epoch; 0 draws none.")

    @field_validator("prediction")
    @classmethod
    def _goes_with_the_schedule(cls, value: str, info: ValidationInfo) -> str:
        if value == "noise" and info.data.get("schedule") in ("zero terminal SNR", "flow"):
            raise PydanticCustomError("goes_together", "Under this schedule the last step is noise alone, and its "
                                                       "noise says nothing of the picture. Predict v or x0")
        return value


class Train(Training):
    """Train a diffusion model from scratch."""

    data: str = param("digits", "Data", min_length=1, max_length=4000,
                      help="digits, emoji, a folder of pictures whose subfolders are classes, or hub:OWNER/NAME for a "
                           "data set of the Hugging Face hub.")
    output: str = param(..., "Output", min_length=1, max_length=4000, may_change=True,
                        help="Folder of the run. It is made.")
    model: str = param("", "Model", max_length=4000, help="For the recipe latents: a diffusers folder with the frozen "
                                                          "VAE and text encoder; the embedded model when left out.")
    token: str = param("", "Token", max_length=200, repr=False, may_change=True,
                       help="Access token for a data set that is not public.")
    device: str = param("auto", "Device", pattern=DEVICE, may_change=True, help="What computes.")
    resume: bool = param(False, "Resume", may_change=True, help="Go on with the run that lies in the output folder.")


class Drawing(LabRequest):
    """How pictures are drawn from a model that was trained here."""

    looks_into_checkpoint: ClassVar[bool] = False

    label: str = param("", "Class", max_length=200, help="A class by number or name, a blend such as 3:0.5,8:0.5, or "
                                                         "nothing for any. A prompt for a model trained on captions.")
    count: int = param(16, "Count", ge=1, le=4096, step=1, help="How many pictures.")
    sampler: Walk = param("ddim", "Sampler", help="ddpm walks through all timesteps, ddim in as many strides as asked.")
    steps: int = param(20, "Steps", ge=1, le=10_000, step=1, help="Strides of ddim.")
    eta: float = param(0.0, "Eta", ge=0, le=1, step=0.05, help="Share of fresh noise in each stride of ddim.")
    guidance_scale: float = param(2.0, "Guidance scale", ge=0, le=30, step=0.5, help="How much the class is insisted "
                                                                                     "on; 1 is not at all.")


class Sample(Drawing):
    """Draw from a model that was trained here."""

    batch_size: int = param(64, "Batch size", ge=1, le=1024, step=1, help="Pictures drawn at once.")
    enlarge: int = param(0, "Enlarge", ge=0, le=32, step=1, help="Every pixel becomes so many pixels wide; 0 brings "
                                                                 "pictures to about 64 px.")
    device: str = param("auto", "Device", pattern=DEVICE, help="What computes.")


class Guide(LabRequest):
    """Steer a model by a loss on the picture it is about to make."""

    goal: Goal = param("colour", "Goal", help="What the picture is pulled towards.")
    prompt: str = param("", "Prompt", max_length=MAX_PROMPT, help="For a model that reads text, and for the goal text.")
    colour: str = param("#3060c0", "Colour", pattern=r"^#[0-9a-fA-F]{6}$", help="The target of the goal colour.")

    @field_validator("colour", mode="before")
    @classmethod
    def _as_hex(cls, value: object) -> object:
        # A colour picker writes rgba(48, 96, 192, 1) once it was moved.
        numbers = re.fullmatch(r"rgba?\(([\d.]+), *([\d.]+), *([\d.]+).*\)", str(value))
        return "#" + "".join(f"{min(255, round(float(one))):02x}" for one in numbers.groups()) if numbers else value
    scale: float = param(1.0, "Scale", ge=0, le=1000, step=0.1, help="How hard it is pulled; 0 is not at all.")
    crops: int = param(1, "Crops", ge=1, le=64, step=1, help="Random cut-outs that a loss is averaged over.")
    over: Over = param("none", "Weight over time", help="How the pull changes from noise to picture.")
    through_network: bool = param(False, "Through the U-Net", help="Take the gradient through the U-Net, which is "
                                                                   "truer and dearer, or through predicted x0 only.")


class Tuning(LabRequest):
    """How an unconditional model is trained further."""

    epochs: int = param(1, "Epochs", ge=1, le=10_000, step=1, help="How often each picture is seen.")
    batch_size: int = param(4, "Batch size", ge=1, le=256, step=1, help="Pictures computed at once.")
    accumulation: int = param(2, "Accumulation", ge=1, le=256, step=1, help="Batches that make one update.")
    learning_rate: float = param(1e-5, "Learning rate", gt=0, le=1, help="Size of a step.")
    samples: int = param(4, "Samples", ge=1, le=16, step=1, help="Pictures drawn before and after.")
    steps: int = param(40, "Sampling steps", ge=1, le=1000, step=1, help="DDIM strides of these samples.")
    push_to: str = param("", "Push to the hub as", max_length=200, pattern=rf"^({HUB_ID})?$",
                         help="owner/name of a repository on the Hugging Face hub that the result is uploaded to, with "
                              "its model card. A new one is private. Empty: nothing leaves this machine.")
    token: str = param("", "Token", max_length=200, repr=False, help="Access token of the hub: with the right to "
                       "write, to upload; with the right to read, for a hub model that is not public.")
    wandb: bool = param(False, "Weights & Biases", help="Log the loss there, when its package is installed.")


class FineTune(Tuning):
    """Go on training a DDPMPipeline on pictures of one's own."""

    model: str = param(..., "Model", min_length=1, max_length=4000, help="A folder with a diffusers DDPMPipeline, or "
                                                                         "hub:OWNER/NAME.")
    data: str = param(..., "Data", min_length=1, max_length=4000, help="digits, emoji, or a folder of pictures.")
    output: str = param(..., "Output", min_length=1, max_length=4000, help="Folder for the result.")
    device: str = param("auto", "Device", pattern=DEVICE, help="What computes.")
