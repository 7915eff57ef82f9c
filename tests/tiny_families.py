"""A tiny random pipeline of every family that the library's own pipelines run, written as a diffusers folder.

The classes are the published models' own; only the numbers are small. Tokenizers are made here, letter by letter.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.tiny import NOISE, TEXT_WIDTH, _clip_config, _unet, write_tokenizer

SIDE = 64  # px
LETTERS = string.ascii_letters + string.digits + ".,:;!?'\"()-_<>|/\n"
CHAT = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"


def write_tiny(name: str, folder: Path, **options: Any) -> Path:
    """Write the tiny model of a family. options: of its builder below. Return `folder`."""
    import diffusers
    import torch

    from pipelines.families import FAMILIES

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        parts = BUILDERS[name](folder, **options)
    cls = getattr(diffusers, next(iter(FAMILIES[name].pipelines.values())))
    settings = {"requires_safety_checker": False, "safety_checker": None, "feature_extractor": None,
                "image_encoder": None, "is_distilled": False, "requires_aesthetics_score": True}
    known = cls._get_signature_keys(cls)
    given = {key: value for key, value in settings.items() if key in (*known[0], *known[1])}
    cls(**{**given, **parts}).save_pretrained(folder)
    return folder


# Tokenizers

def t5_tokenizer() -> Any:
    from transformers import T5Tokenizer

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((letter, -3.0) for letter in LETTERS)]
    return T5Tokenizer(vocab=pieces, extra_ids=0)


def spelling_tokenizer(cls_name: str, *special: str, **options: Any) -> Any:
    """A byte-pair tokenizer that knows letters and no pairs."""
    import transformers

    tokens = [*special, "▁", "Ġ", *LETTERS]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    return getattr(transformers, cls_name)(vocab=vocabulary, merges=[], **options)


def qwen_tokenizer() -> Any:
    made = spelling_tokenizer("Qwen2Tokenizer", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "Ċ")
    made.chat_template = CHAT
    return made


def gemma_tokenizer() -> Any:
    """With the mark at the begin: without it an empty prompt has no token to attend to."""
    from tokenizers.processors import TemplateProcessing

    made = spelling_tokenizer("GemmaTokenizer", "<pad>", "<eos>", "<bos>", "<unk>", "<mask>")
    made.backend_tokenizer.post_processor = TemplateProcessing("<bos> $A", special_tokens=[("<bos>", 2)])
    return made


def bert_tokenizer() -> Any:
    from transformers import BertTokenizer

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    return BertTokenizer(vocab={word: i for i, word in enumerate(dict.fromkeys(words))}, model_max_length=77)


# Networks that several families have

def vae(channels: int = 4, **changes: Any) -> Any:
    """pixels (b, 3, 64, 64) <-> latents (b, channels, 8, 8)."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(**{**dict(
        block_out_channels=(8, 8, 8, 8), down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, layers_per_block=1, latent_channels=channels, norm_num_groups=4,
        sample_size=SIDE), **changes})


def flow_vae() -> Any:
    return vae(16, scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False)


def flow(**options: Any) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(**options)


def clip(tokenizer: Any, *, projected: bool = False, width: int = TEXT_WIDTH, projection: int = TEXT_WIDTH) -> Any:
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    config = _clip_config(len(tokenizer), hidden_size=width, intermediate_size=64, projection_dim=projection)
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def t5(tokenizer: Any, cls_name: str = "T5EncoderModel") -> Any:
    import transformers

    config = getattr(transformers, cls_name.replace("EncoderModel", "Config"))(
        vocab_size=len(tokenizer), d_model=TEXT_WIDTH, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
    return getattr(transformers, cls_name)(config).eval()


LANGUAGE_MODEL = dict(hidden_size=TEXT_WIDTH, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
                      num_key_value_heads=2, head_dim=8)


def language_model(cls_name: str, config_name: str, tokenizer: Any, **changes: Any) -> Any:
    import transformers

    config = getattr(transformers, config_name)(
        **{**LANGUAGE_MODEL, "vocab_size": len(tokenizer), "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0,
           **changes})
    return getattr(transformers, cls_name)(config).eval()


# Families

def sd3(folder: Path) -> dict[str, Any]:
    from diffusers import SD3Transformer2DModel

    first, second = write_tokenizer(folder / "tokenizer"), write_tokenizer(folder / "tokenizer_2")
    third = t5_tokenizer()
    return {
        "transformer": SD3Transformer2DModel(
            sample_size=8, patch_size=2, in_channels=16, num_layers=1, attention_head_dim=8, num_attention_heads=4,
            joint_attention_dim=2 * TEXT_WIDTH, caption_projection_dim=32, pooled_projection_dim=2 * TEXT_WIDTH,
            out_channels=16, pos_embed_max_size=96),
        "text_encoder": clip(first, projected=True), "tokenizer": first,
        "text_encoder_2": clip(second, projected=True), "tokenizer_2": second,
        "text_encoder_3": _wide_t5(third, 2 * TEXT_WIDTH), "tokenizer_3": third,
        "vae": flow_vae(), "scheduler": flow(shift=3.0)}


def _wide_t5(tokenizer: Any, width: int) -> Any:
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(T5Config(vocab_size=len(tokenizer), d_model=width, d_kv=8, d_ff=64, num_layers=1,
                                   num_heads=4))


def flux(folder: Path) -> dict[str, Any]:
    from diffusers import FluxTransformer2DModel

    first, second = write_tokenizer(folder / "tokenizer"), t5_tokenizer()
    return {
        "transformer": FluxTransformer2DModel(
            patch_size=1, in_channels=64, num_layers=1, num_single_layers=1, attention_head_dim=16,
            num_attention_heads=2, joint_attention_dim=TEXT_WIDTH, pooled_projection_dim=TEXT_WIDTH,
            axes_dims_rope=(4, 4, 8), guidance_embeds=True),
        "text_encoder": clip(first), "tokenizer": first, "text_encoder_2": t5(second), "tokenizer_2": second,
        "vae": flow_vae(), "scheduler": flow()}


def flux2_klein(folder: Path) -> dict[str, Any]:
    from diffusers import AutoencoderKLFlux2, Flux2Transformer2DModel

    tokenizer = qwen_tokenizer()
    return {
        "transformer": Flux2Transformer2DModel(
            patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16,
            num_attention_heads=2, joint_attention_dim=3 * TEXT_WIDTH, timestep_guidance_channels=32,
            axes_dims_rope=(4, 4, 4, 4), guidance_embeds=False),
        "text_encoder": language_model("Qwen3ForCausalLM", "Qwen3Config", tokenizer, num_hidden_layers=28),
        "tokenizer": tokenizer,
        "vae": AutoencoderKLFlux2(
            block_out_channels=(8, 8, 8, 8), layers_per_block=1, latent_channels=4, norm_num_groups=4,
            sample_size=SIDE),
        "scheduler": flow()}


def z_image(folder: Path) -> dict[str, Any]:
    from diffusers import ZImageTransformer2DModel

    tokenizer = qwen_tokenizer()
    return {
        "transformer": ZImageTransformer2DModel(
            dim=32, n_layers=1, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=TEXT_WIDTH,
            axes_dims=[4, 4, 8], axes_lens=[1024, 64, 64]),
        "text_encoder": language_model("Qwen3Model", "Qwen3Config", tokenizer), "tokenizer": tokenizer,
        "vae": flow_vae(), "scheduler": flow(shift=3.0)}


def qwen_image(folder: Path) -> dict[str, Any]:
    from diffusers import AutoencoderKLQwenImage, QwenImageTransformer2DModel
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    tokenizer = qwen_tokenizer()
    config = Qwen2_5_VLConfig(
        text_config={**LANGUAGE_MODEL, "vocab_size": len(tokenizer),
                     "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [1, 1, 2]}},
        vision_config={"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2,
                       "out_hidden_size": TEXT_WIDTH})
    return {
        "transformer": QwenImageTransformer2DModel(
            in_channels=64, out_channels=16, num_layers=1, attention_head_dim=16, num_attention_heads=2,
            joint_attention_dim=TEXT_WIDTH, axes_dims_rope=(4, 4, 8)),
        "text_encoder": Qwen2_5_VLForConditionalGeneration(config).eval(), "tokenizer": tokenizer,
        "vae": AutoencoderKLQwenImage(base_dim=8, num_res_blocks=1, dim_mult=[1, 1, 1, 1]), "scheduler": flow()}


def chroma(folder: Path) -> dict[str, Any]:
    from diffusers import ChromaTransformer2DModel

    tokenizer = t5_tokenizer()
    return {
        "transformer": ChromaTransformer2DModel(
            in_channels=64, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
            joint_attention_dim=TEXT_WIDTH, axes_dims_rope=(4, 4, 8), approximator_num_channels=8,
            approximator_hidden_dim=32, approximator_layers=1),
        "text_encoder": t5(tokenizer), "tokenizer": tokenizer, "vae": flow_vae(), "scheduler": flow()}


def pixart(folder: Path) -> dict[str, Any]:
    from diffusers import DPMSolverMultistepScheduler, PixArtTransformer2DModel

    tokenizer = t5_tokenizer()
    return {
        "transformer": PixArtTransformer2DModel(
            sample_size=8, num_layers=1, attention_head_dim=8, num_attention_heads=4, cross_attention_dim=32,
            caption_channels=TEXT_WIDTH, use_additional_conditions=False),
        "text_encoder": t5(tokenizer), "tokenizer": tokenizer, "vae": vae(),
        "scheduler": DPMSolverMultistepScheduler()}


def sana(folder: Path) -> dict[str, Any]:
    from diffusers import AutoencoderDC, SanaTransformer2DModel

    tokenizer = gemma_tokenizer()
    return {
        "transformer": SanaTransformer2DModel(
            in_channels=4, out_channels=4, num_layers=1, num_attention_heads=2, attention_head_dim=16,
            num_cross_attention_heads=2, cross_attention_head_dim=16, cross_attention_dim=32,
            caption_channels=TEXT_WIDTH, sample_size=8),
        "text_encoder": language_model("Gemma2Model", "Gemma2Config", tokenizer), "tokenizer": tokenizer,
        "vae": AutoencoderDC(
            latent_channels=4, attention_head_dim=2, encoder_block_types=("ResBlock",) * 3 + ("EfficientViTBlock",),
            decoder_block_types=("ResBlock",) * 3 + ("EfficientViTBlock",), encoder_block_out_channels=(8,) * 4,
            decoder_block_out_channels=(8,) * 4, encoder_qkv_multiscales=((), (), (), (5,)),
            decoder_qkv_multiscales=((), (), (), (5,)), encoder_layers_per_block=(1,) * 4,
            decoder_layers_per_block=(1,) * 4,
            downsample_block_type="conv", upsample_block_type="interpolate", decoder_norm_types="rms_norm",
            decoder_act_fns="silu", scaling_factor=0.41407),
        "scheduler": flow(shift=3.0)}


def kandinsky2(folder: Path, in_channels: int = 4) -> dict[str, Any]:
    from diffusers import DDPMScheduler, PriorTransformer, UnCLIPScheduler, UNet2DConditionModel
    from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModelWithProjection

    tokenizer = write_tokenizer(folder / "prior_tokenizer")
    vision = CLIPVisionConfig(hidden_size=32, image_size=32, projection_dim=32, intermediate_size=37,
                              num_attention_heads=4, num_hidden_layers=1, patch_size=16)
    return {
        "unet": UNet2DConditionModel(
            in_channels=in_channels, out_channels=8, addition_embed_type="image", down_block_types=(
                "ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"), up_block_types=(
                "SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"), mid_block_type="UNetMidBlock2DSimpleCrossAttn",
            block_out_channels=(32, 64), layers_per_block=1, encoder_hid_dim=32,
            encoder_hid_dim_type="image_proj", cross_attention_dim=32, attention_head_dim=4,
            resnet_time_scale_shift="scale_shift", class_embed_type=None),
        "scheduler": DDPMScheduler(beta_schedule="linear", beta_start=0.00085, beta_end=0.012, clip_sample=False,
                                   prediction_type="epsilon", thresholding=False),
        "movq": movq(),
        "prior_prior": PriorTransformer(num_attention_heads=2, attention_head_dim=16, embedding_dim=32, num_layers=1),
        "prior_image_encoder": CLIPVisionModelWithProjection(vision),
        "prior_text_encoder": clip(tokenizer, projected=True), "prior_tokenizer": tokenizer,
        "prior_scheduler": UnCLIPScheduler(variance_type="fixed_small_log", prediction_type="sample",
                                           num_train_timesteps=1000, clip_sample=True, clip_sample_range=10.0),
        "prior_image_processor": CLIPImageProcessorPil(size=32, crop_size=32)}


def movq() -> Any:
    from diffusers import VQModel

    return VQModel(block_out_channels=(32, 32, 64, 64), down_block_types=("DownEncoderBlock2D",) * 4,
                   up_block_types=("UpDecoderBlock2D",) * 4, latent_channels=4, layers_per_block=1, norm_num_groups=8,
                   norm_type="spatial", num_vq_embeddings=12, vq_embed_dim=4)


def kandinsky3(folder: Path) -> dict[str, Any]:
    from diffusers import DDPMScheduler, Kandinsky3UNet

    tokenizer = t5_tokenizer()
    return {
        "unet": Kandinsky3UNet(
            in_channels=4, time_embedding_dim=4, groups=2, attention_head_dim=4, layers_per_block=3,
            block_out_channels=(32, 64), cross_attention_dim=4, encoder_hid_dim=TEXT_WIDTH),
        "text_encoder": t5(tokenizer), "tokenizer": tokenizer, "movq": movq(),
        "scheduler": DDPMScheduler(beta_start=0.00085, beta_end=0.02, clip_sample=False, thresholding=False,
                                   beta_schedule="squaredcos_cap_v2")}


def hunyuan_dit(folder: Path) -> dict[str, Any]:
    from diffusers import DDPMScheduler, HunyuanDiT2DModel
    from transformers import BertConfig, BertModel

    first, second = bert_tokenizer(), t5_tokenizer()
    return {
        "transformer": HunyuanDiT2DModel(
            sample_size=8, num_layers=1, patch_size=2, attention_head_dim=8, num_attention_heads=3, in_channels=4,
            cross_attention_dim=TEXT_WIDTH, cross_attention_dim_t5=TEXT_WIDTH, pooled_projection_dim=16,
            hidden_size=24, activation_fn="gelu-approximate"),
        "text_encoder": BertModel(BertConfig(vocab_size=len(first), hidden_size=TEXT_WIDTH, num_hidden_layers=1,
                                             num_attention_heads=4, intermediate_size=64)), "tokenizer": first,
        "text_encoder_2": t5(second), "tokenizer_2": second, "vae": vae(), "scheduler": DDPMScheduler()}


def aura_flow(folder: Path) -> dict[str, Any]:
    from diffusers import AuraFlowTransformer2DModel

    tokenizer = spelling_tokenizer("LlamaTokenizer", "<unk>", "<s>", "</s>", pad_token="</s>")
    return {
        "transformer": AuraFlowTransformer2DModel(
            sample_size=8, patch_size=2, in_channels=4, num_mmdit_layers=1, num_single_dit_layers=1,
            attention_head_dim=8, num_attention_heads=4, joint_attention_dim=TEXT_WIDTH, caption_projection_dim=32,
            pos_embed_max_size=256),
        "text_encoder": t5(tokenizer, "UMT5EncoderModel"), "tokenizer": tokenizer, "vae": vae(), "scheduler": flow()}


def lumina(folder: Path) -> dict[str, Any]:
    from diffusers import LuminaNextDiT2DModel

    tokenizer = gemma_tokenizer()
    return {
        "transformer": LuminaNextDiT2DModel(
            sample_size=8, patch_size=2, in_channels=4, hidden_size=32, num_layers=1, num_attention_heads=2,
            num_kv_heads=1, multiple_of=16, norm_eps=1e-5, learn_sigma=True, cross_attention_dim=TEXT_WIDTH),
        "text_encoder": language_model("GemmaModel", "GemmaConfig", tokenizer), "tokenizer": tokenizer,
        "vae": vae(), "scheduler": flow()}


def lumina2(folder: Path) -> dict[str, Any]:
    from diffusers import Lumina2Transformer2DModel

    tokenizer = gemma_tokenizer()
    return {
        "transformer": Lumina2Transformer2DModel(
            sample_size=8, in_channels=16, hidden_size=24, num_layers=1, num_refiner_layers=1, num_attention_heads=3,
            num_kv_heads=1, multiple_of=2, axes_dim_rope=(4, 2, 2), axes_lens=(300, 64, 64),
            cap_feat_dim=TEXT_WIDTH),
        "text_encoder": language_model("Gemma2Model", "Gemma2Config", tokenizer), "tokenizer": tokenizer,
        "vae": flow_vae(), "scheduler": flow()}


def cogview3(folder: Path) -> dict[str, Any]:
    from diffusers import CogVideoXDDIMScheduler, CogView3PlusTransformer2DModel

    tokenizer = t5_tokenizer()
    return {
        "transformer": CogView3PlusTransformer2DModel(
            in_channels=4, num_layers=1, attention_head_dim=8, num_attention_heads=4, out_channels=4,
            text_embed_dim=TEXT_WIDTH, time_embed_dim=8, condition_dim=2, pos_embed_max_size=8, sample_size=8),
        "text_encoder": t5(tokenizer), "tokenizer": tokenizer, "vae": vae(), "scheduler": CogVideoXDDIMScheduler()}


def cogview4(folder: Path) -> dict[str, Any]:
    from diffusers import CogView4Transformer2DModel

    tokenizer = _fast_tokenizer()
    return {
        "transformer": CogView4Transformer2DModel(
            in_channels=4, out_channels=4, num_layers=1, attention_head_dim=16, num_attention_heads=2,
            text_embed_dim=TEXT_WIDTH, time_embed_dim=8, condition_dim=4, pos_embed_max_size=8, sample_size=8,
            rope_axes_dim=(4, 4)),
        "text_encoder": language_model("GlmModel", "GlmConfig", tokenizer), "tokenizer": tokenizer, "vae": vae(),
        "scheduler": flow(base_shift=0.25, max_shift=0.75, base_image_seq_len=256, use_dynamic_shifting=True,
                          time_shift_type="linear")}


def _fast_tokenizer() -> Any:
    """What AutoTokenizer finds where a model has no tokenizer class of its own."""
    from tokenizers import Tokenizer, models, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: i for i, token in enumerate(("<pad>", "<unk>", *LETTERS))}
    made = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    made.post_processor = processors.TemplateProcessing("<unk> $A", special_tokens=[("<unk>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", unk_token="<unk>", padding_side="left")


def ovis_image(folder: Path) -> dict[str, Any]:
    from diffusers import OvisImageTransformer2DModel

    tokenizer = qwen_tokenizer()
    return {
        "transformer": OvisImageTransformer2DModel(
            in_channels=64, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
            joint_attention_dim=TEXT_WIDTH, axes_dims_rope=(4, 4, 8)),
        "text_encoder": language_model("Qwen3Model", "Qwen3Config", tokenizer), "tokenizer": tokenizer,
        "vae": flow_vae(), "scheduler": flow(use_dynamic_shifting=True)}


def krea2(folder: Path) -> dict[str, Any]:
    from diffusers import AutoencoderKLQwenImage, Krea2Transformer2DModel
    from transformers import Qwen3VLConfig, Qwen3VLModel

    tokenizer = qwen_tokenizer()
    config = Qwen3VLConfig(
        text_config={**LANGUAGE_MODEL, "num_hidden_layers": 3, "vocab_size": len(tokenizer),
                     "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [1, 1, 2]}},
        vision_config={"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2,
                       "out_hidden_size": TEXT_WIDTH, "num_position_embeddings": 16, "deepstack_visual_indexes": []})
    return {
        "transformer": Krea2Transformer2DModel(
            in_channels=64, num_layers=1, attention_head_dim=16, num_attention_heads=2, num_key_value_heads=1,
            intermediate_size=32, timestep_embed_dim=16, text_hidden_dim=TEXT_WIDTH, num_text_layers=2,
            text_num_attention_heads=2, text_num_key_value_heads=2, text_intermediate_size=32,
            num_layerwise_text_blocks=1, num_refiner_text_blocks=1, axes_dims_rope=(4, 4, 8)),
        "text_encoder": Qwen3VLModel(config).eval(), "tokenizer": tokenizer, "text_encoder_select_layers": (1, 2),
        "vae": AutoencoderKLQwenImage(base_dim=8, num_res_blocks=1, dim_mult=[1, 1, 1, 1]), "scheduler": flow()}


def sdxl_refiner(folder: Path) -> dict[str, Any]:
    from diffusers import EulerDiscreteScheduler

    tokenizer, time_width = write_tokenizer(folder / "tokenizer_2", pad="!"), 8
    network = _unet(in_channels=4, cross_attention_dim=1280, addition_embed_type="text_time",
                    addition_time_embed_dim=time_width, use_linear_projection=True,
                    projection_class_embeddings_input_dim=5 * time_width + TEXT_WIDTH)
    encoder = clip(tokenizer, projected=True, width=1280, projection=TEXT_WIDTH)
    return {"unet": network, "vae": vae(scaling_factor=0.13025), "text_encoder": None, "tokenizer": None,
            "text_encoder_2": encoder, "tokenizer_2": tokenizer, "scheduler": EulerDiscreteScheduler(**NOISE)}


BUILDERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "sd3": sd3, "flux": flux, "flux_kontext": flux, "flux2_klein": flux2_klein, "z_image": z_image,
    "qwen_image": qwen_image, "chroma": chroma, "pixart_alpha": pixart, "pixart_sigma": pixart, "sana": sana,
    "kandinsky2": kandinsky2, "kandinsky3": kandinsky3, "hunyuan_dit": hunyuan_dit, "aura_flow": aura_flow,
    "lumina": lumina, "lumina2": lumina2, "cogview3": cogview3, "cogview4": cogview4, "ovis_image": ovis_image,
    "krea2": krea2, "sdxl_refiner": sdxl_refiner}
