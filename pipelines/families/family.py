"""What a family of models has in common, as data: no `if family` stands anywhere else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

# Where an original single file (CompVis layout) keeps the U-Net, and its first convolution.
UNET_PREFIX = "model.diffusion_model."
FIRST_CONVOLUTION = UNET_PREFIX + "input_blocks.0.0.weight"


@dataclass(frozen=True)
class Facts:
    """What a checkpoint says about itself without its weights being read.

    pipeline: class name in model_index.json, "" for a single file. index: all of that file (folder). unet: the
    config.json of what denoises (folder). scheduler: that of the scheduler (folder). shapes: tensor name -> shape, from
    the header (single file).
    """

    pipeline: str = ""
    index: Mapping[str, Any] = field(default_factory=dict)
    unet: Mapping[str, Any] = field(default_factory=dict)
    scheduler: Mapping[str, Any] = field(default_factory=dict)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def width(self, name: str) -> int | None:
        """Size of a tensor's second axis (input channels), or None when the file has no such tensor."""
        shape = self.shapes.get(name, ())
        return shape[1] if len(shape) > 1 else None

    @property
    def in_channels(self) -> int | None:
        """Channels the U-Net takes: 4, or 9 for an inpainting checkpoint."""
        return self.unet.get("in_channels") if self.unet else self.width(FIRST_CONVOLUTION)

    @property
    def seen(self) -> str:
        """One line for an error: what was found, in words a person can look up."""
        if self.pipeline:
            width = self.unet.get("cross_attention_dim")
            return f"{self.pipeline[:60]} with text width {width} and {self.in_channels} input channels"
        prefixes = sorted({name.split(".")[0][:40] for name in self.shapes})
        return f"{len(self.shapes)} tensors under {', '.join(prefixes[:6]) or 'no name'}"


def no_file_settings(facts: Facts, tensor: Callable[[str], Any]) -> dict[str, Any]:
    return {}


# Layers that a LoRA is added to, by patterns for the end of a module's name: what each choice of a person adds.
UNET_TARGETS = {
    "attention": r"\battn[12]\.(to_q|to_k|to_v|to_out\.0)",
    "ff": r"\bff\.net\.(0\.proj|2)|\bproj_(in|out)",
    "conv": r"\b(conv1|conv2|conv_shortcut|time_emb_proj)|samplers\.0\.conv"}
# Always q, k, v and out together: readers elsewhere lose a part of anything less.
TEXT_TARGETS = {"attention": r"\bself_attn\.(q|k|v|out)_proj", "mlp": r"\bmlp\.fc[12]"}


@dataclass(frozen=True)
class LoraFacts:
    """How LoRA files of a family are named, and what they say of themselves.

    context_width: of the text states that the published models take. numbered: the U-Net's blocks have the numbers
    of the original layout (input_blocks_4_1). encoder_names: text encoder -> its name in a key (lora_te1_...).
    base_version, architecture, implementation: values of ss_base_model_version, modelspec.architecture and
    modelspec.implementation. architecture_v: the architecture of a v-predicting base. sidecar: AUTOMATIC1111's
    "sd version". targets, text_targets: kind of layer -> pattern, of the core and of the text encoders.
    """

    context_width: int
    base_version: str
    architecture: str
    sidecar: str
    numbered: bool = False
    encoder_names: Mapping[str, str] = field(default_factory=lambda: {"text_encoder": "lora_te"})
    implementation: str = "diffusers"
    architecture_v: str = ""
    targets: Mapping[str, str] = field(default_factory=lambda: UNET_TARGETS)
    text_targets: Mapping[str, str] = field(default_factory=lambda: TEXT_TARGETS)


@dataclass(frozen=True)
class Stock:
    """How the library's own pipeline runs a family that our denoise loop does not cover.

    networks: components with weights; the one that denoises is Family.core. others: components without weights.
    optional: those of both that a folder may leave out. settings: entries of model_index.json that are no components.
    grain: px that a side is a multiple of. guidance: the argument that takes the guidance scale. negative: whether a
    negative prompt is read. strength: tasks that take one; others look at the picture instead of noising it.
    arguments: of every call, where the task's pipeline has them. latents: how the pipeline's differ from those of its
    autoencoder: by one "factor" and shift, by the "spread" of each channel (which an autoencoder of films tells), by
    the "norm" of 2x2 of them together, or in "nothing".
    """

    networks: tuple[str, ...]
    others: tuple[str, ...]
    optional: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    grain: int = 16
    guidance: str = "guidance_scale"
    negative: bool = True
    strength: tuple[str, ...] = ("img2img", "inpaint")
    arguments: Mapping[str, Any] = field(default_factory=dict)
    latents: Literal["factor", "spread", "norm", "nothing"] = "factor"


# What every pipeline of the library can be asked for. A field that is not here is refused, not silently ignored.
STOCK_FIELDS = frozenset((
    "prompt", "prompt_lines", "texts", "styles", "dynamic", "emphasis", "prompt_steps", "steps", "guidance_scale",
    "width", "height", "seed", "batch_size", "batch_count", "model", "image", "resize_mode", "mask", "mask_blur", 
    "mask_grow", "mask_invert", "inpaint_area", "masked_padding", "masked_content", "outpaint_left", "outpaint_right",
    "outpaint_top", "outpaint_bottom"))


def no_preference(facts: Facts) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Family:
    """One lineage of models.

    native_size: pixels of a side that it was trained on. pipelines: task -> name of the diffusers class.
    steps, guidance_scale, sampler, schedule: what "as the model likes" means unless the model says otherwise.
    text_encoders: (tokenizer, text encoder) component names, in the order in which their states are joined.
    skip_offset: clip_skip k (1 = last layer) reads hidden_states[-(k + skip_offset)].
    final_norm: that state passes through the encoder's final layer norm.
    pooled: component that gives the pooled embedding, or None; with it the U-Net takes size and crop as time ids.
    latent_rgb, latent_rgb_bias: latents (4 channels) @ latent_rgb + bias ~ RGB in [-1, 1], for previews.
    half_vae: False when the autoencoder gives NaN in float16 and must stay float32.
    config: folder under families/configs with the configs of an original single file.
    unet_parameters: size of the U-Net as published.
    file_settings: (facts, reader of one small tensor) -> {"native_size"} of variants that only a single file's content
    tells apart. has_both_predictions: published as models of the noise and of v, between which a file that says
    nothing is tried out.
    lora: how its LoRA files look, or None where none are read.
    core: the component that denoises. stock: how the library's pipeline runs it, or None where our own loop does.
    linear_share: share of the core's numbers that lie in linear layers, which are what is kept in 4 bits.
    step_bytes, decode_bytes: memory beside the weights in half precision, a pixel: of a step for each row of its batch,
    and of a decode (measured by benchmarks/activations.py).
    prefers: (facts) -> steps, guidance_scale, tasks or a note of variants that only their configs tell apart.
    """

    name: str
    label: str
    native_size: int
    pipelines: Mapping[str, str]
    matches: Callable[[Facts], bool]
    config: str = ""
    unet_parameters: int = 0
    steps: int = 20
    guidance_scale: float = 7.0
    sampler: str = "DPM++ 2M"
    schedule: str = "Karras"
    text_encoders: tuple[tuple[str, str], ...] = (("tokenizer", "text_encoder"),)
    skip_offset: int = 0
    final_norm: bool = True
    pooled: str | None = None
    latent_rgb: tuple[tuple[float, float, float], ...] = ()
    latent_rgb_bias: tuple[float, float, float] = (0.0, 0.0, 0.0)
    half_vae: bool = True
    file_settings: Callable[[Facts, Callable[[str], Any]], dict[str, Any]] = no_file_settings
    has_both_predictions: bool = False
    lora: LoraFacts | None = None
    core: str = "unet"
    linear_share: float = 1.0
    step_bytes: float = 300.0
    decode_bytes: float = 1536.0
    stock: Stock | None = None
    prefers: Callable[[Facts], dict[str, Any]] = no_preference

    @property
    def grain(self) -> int:
        """Pixels that a side is a multiple of."""
        return self.stock.grain if self.stock else 8

    def takes(self, field_name: str, task: str) -> bool:
        """Whether a field of a request changes the picture that a model of this family draws."""
        if self.stock is None or field_name in STOCK_FIELDS:
            return True
        return {"negative_prompt": self.stock.negative,
                "strength": task in self.stock.strength}.get(field_name, False)


def stock_family(pipelines: Mapping[str, str], stock: Stock, *, core: str = "transformer", sampler: str = "Euler",
                 **facts: Any) -> Family:
    """A family that is recognised by the pipeline its folder names, and follows that pipeline's own scheduler.

    sampler: the table's name of that scheduler, for infotext.
    """
    classes = frozenset(pipelines.values())
    return Family(pipelines=pipelines, matches=lambda facts: facts.pipeline in classes, stock=stock, core=core,
                  sampler=sampler, schedule="Automatic", **facts)
