"""FlexTok (https://arxiv.org/abs/2502.13967), apple/ml-flextok: the latents of an autoencoder as up to
256 tokens in order, and a flow from noise to latents that is given as many of them as there are.

The autoencoder is diffusers'. Registers see the patches of its latents and the registers before them.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as functional

# Imported here: a library first imported on the meta device keeps constants without values.
from diffusers import AutoencoderKL
from pydantic import Field, model_validator
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from vtbench.base.errors import WeightsMismatch
from vtbench.base.records import Spec
from vtbench.base.schema import Strict
from vtbench.tokenizers.diffusion import DiffusionNetwork, DiffusionTokenizer
from vtbench.tokenizers.network import Names, check_facts
from vtbench.tokenizers.nn.conv import Count
from vtbench.tokenizers.nn.diffusion import ProjectedGuidance, TimeEmbedding, integrate
from vtbench.tokenizers.nn.quantize import ScalarCode
from vtbench.tokenizers.nn.vit import (
    Attention,
    PatchEmbedding,
    Transformer,
    VitPlan,
    join_patches,
    make_mlp,
    make_norm,
    make_tokens,
)
from vtbench.tokenizers.titok import split_grid

HEAD = 64
"""Width of an attention's head; a transformer has as many heads as blocks."""

TIME_VALUES, TIME_PERIOD = 256, 256.0
TIME_UNITS = 1000.0
"""The sines' argument is the time × this over the longest time."""

MAX_CONFIG = 100_000
"""Characters of a part of the configuration in a file's metadata; published ones have some thousand."""

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class FlexTokPlan(Strict):
    """One FlexTok.

    Attributes:
        vae: The config of diffusers' AutoencoderKL.
        encoder_depth: Blocks, and heads, of the encoder's transformer.
        decoder_depth: The same of the decoder's.
        tokens: Of the code.
        kept: How many of them, the first, the code has; by default all.
        levels: Of the values of a codeword (FSQ).
        patch: Latents on a side of a patch.
        scaling: Of the latents; None for what the official file's metadata says.
        longest: The time that counts 1,000 thousandths; None for what the official file's metadata
            says.
        steps: Of sampling; the README's number.
        guidance: Of sampling; the README's number.
    """

    vae: Mapping[str, Any]
    encoder_depth: Count
    decoder_depth: Count
    tokens: Count = 256
    kept: Count | None = None
    levels: Annotated[tuple[Annotated[int, Field(ge=2)], ...], Field(min_length=1)] = (
        *(8, 8, 8),
        *(5, 5, 5),
    )
    patch: Count = 2
    scaling: Positive | None = None
    longest: Positive | None = None
    steps: Count = 20
    guidance: Positive = 7.5

    @property
    def downsample(self) -> int:
        """Pixels on a side of a latent."""
        return int(2 ** (len(self.vae["block_out_channels"]) - 1))

    @model_validator(mode="after")
    def _fits_together(self) -> FlexTokPlan:
        if self.kept is not None and self.kept > self.tokens:
            raise ValueError(f"kept: {self.kept} of {self.tokens} tokens")
        if not {"block_out_channels", "latent_channels"} <= self.vae.keys():
            raise ValueError("vae needs block_out_channels and latent_channels")
        return self


def make_plan(depth: int) -> VitPlan:
    """Return the plan of a transformer: SwiGLU, norms of queries and keys, nothing learned in norms, no
    biases."""
    return VitPlan(
        width=HEAD * depth,
        depth=depth,
        heads=depth,
        ratio=8 / 3,
        affine=False,
        bias=False,
        apart=True,
        plain=True,
        qk_norm=True,
        gated="apart",
        norm_in=False,
    )


class TimedBlock(nn.Module):
    """A block whose scales, shifts and gates follow from the time, those of patches and of registers
    apart."""

    def __init__(self, plan: VitPlan) -> None:
        super().__init__()
        self.norm1, self.norm2 = make_norm(plan, plan.width), make_norm(plan, plan.width)
        self.attention, self.mlp = Attention(plan), make_mlp(plan)
        self.modulation = nn.Linear(plan.width, 12 * plan.width)

    def forward(self, x: Tensor, time: Tensor, patches: int) -> Tensor:
        terms = self.modulation(time).unflatten(1, (2, -1))
        counts = torch.tensor([patches, x.shape[1] - patches], device=x.device)
        terms = terms.repeat_interleave(counts, dim=1, output_size=x.shape[1])
        gate1, gate2, shift1, scale1, shift2, scale2 = terms.chunk(6, dim=-1)
        x = x + gate1 * self.attention(self.norm1(x) * (1 + scale1) + shift1)
        added: Tensor = gate2 * self.mlp(self.norm2(x) * (1 + scale2) + shift2)
        return x + added


class Flow(nn.Module):
    """The velocity of the flow from latents (time 0) to noise (1): N×C×H×W → N×C×H×W."""

    def __init__(self, plan: FlexTokPlan, grid: tuple[int, int]) -> None:
        super().__init__()
        vit, channels = make_plan(plan.decoder_depth), plan.vae["latent_channels"]
        self.grid, self.channels, width = grid, channels, vit.width
        self.patches = make_patches(plan, width)
        self.places = make_tokens(1, width, *grid)
        factor = TIME_UNITS / (plan.longest or TIME_UNITS)
        self.time = TimeEmbedding(TIME_VALUES, width, factor=factor, period=TIME_PERIOD)
        self.blocks = nn.ModuleList(TimedBlock(vit) for _ in range(vit.depth))
        self.norm = make_norm(vit, width)
        self.modulation = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, channels * plan.patch**2)

    def forward(self, x: Tensor, time: Tensor, registers: Tensor) -> Tensor:
        patches = self.patches(x) + self.places.flatten(2).mT
        vector = functional.silu(self.time(time))
        x = torch.cat([patches, registers], dim=1)
        for block in self.blocks:
            x = block(x, vector, patches.shape[1])
        shift, scale = self.modulation(vector)[:, None].chunk(2, dim=-1)
        x = self.out(self.norm(x[:, : patches.shape[1]]) * (1 + scale) + shift)
        return join_patches(x, self.grid, channels=self.channels, channels_last=True)


def make_patches(plan: FlexTokPlan, width: int) -> PatchEmbedding:
    """Return the linear map of patches of latents."""
    channels = plan.vae["latent_channels"]
    return PatchEmbedding(plan.patch, width, flat=True, channels=channels, channels_last=True)


class FlexTokNetwork(DiffusionNetwork):
    """Autoencoder, patches and registers, transformer, words in order; and the flow back."""

    def __init__(self, plan: FlexTokPlan, grid: tuple[int, int]) -> None:
        super().__init__()
        self.plan, self.scaling = plan, plan.scaling or 1.0
        self.side, self.channels = grid[0] * plan.patch, plan.vae["latent_channels"]
        self.vae: Any = AutoencoderKL(**plan.vae)  # type: ignore[no-untyped-call]
        vit, width = make_plan(plan.encoder_depth), HEAD * plan.decoder_depth
        self.patches = make_patches(plan, vit.width)
        self.places = make_tokens(1, vit.width, *grid)
        self.queries = make_tokens(plan.tokens, vit.width)
        self.encoder = Transformer(vit)
        self.before = nn.Linear(vit.width, len(plan.levels))
        self.quantizer = ScalarCode(plan.levels)
        self.after = nn.Linear(len(plan.levels), width)
        self.code_places = make_tokens(1, 1, width, plan.tokens)
        self.mask, self.nothing = make_tokens(width), make_tokens(width)
        self.flow = Flow(plan, grid)

    def compute_latents(self, images: Tensor) -> Tensor:
        """Return N×levels×1×tokens, which the quantizer will see. Of the autoencoder's posterior the
        mean is taken."""
        latents = self.vae.encode(images).latent_dist.mean * self.scaling
        patches = self.patches(latents) + self.places.flatten(2).mT
        x = torch.cat([patches, self.queries.expand(len(patches), -1, -1)], dim=1)
        # Patches see patches; a register sees these and the registers up to itself.
        mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
        mask[:, : patches.shape[1]] = True
        words: Tensor = self.before(self.encoder(x, mask=mask)[:, patches.shape[1] :])
        return words.mT[:, :, None, : self.plan.kept]

    def encode(self, images: Tensor) -> Tensor:
        """Return the indices N×1×tokens."""
        return self.quantizer.encode(self.compute_latents(images))

    def denoise(self, code: Tensor, noise: Tensor) -> Tensor:
        """Return N×3×H×W images. In place of tokens that are not there stands a learned one."""
        plan, dtype, count = self.plan, self.mask.dtype, code.shape[-1]
        words = self.quantizer.decode(code)[:, :, 0].mT.to(dtype)
        known = self.after(words) + self.code_places[0, :, :, :count].mT
        rest = self.mask.expand(len(code), plan.tokens - count, -1)
        registers = torch.cat([known, rest], dim=1)
        nothing = self.nothing.expand_as(registers)
        guidance = ProjectedGuidance(plan.guidance)

        def velocity(_: int, time: Tensor, x: Tensor) -> Tensor:
            flow: Tensor = self.flow(x.to(dtype), time, registers).float()
            if plan.guidance == 1:
                return flow
            return guidance.guide(flow, self.flow(x.to(dtype), time, nothing).float())

        latents = integrate(velocity, noise, torch.arange(plan.steps, -1, -1) / plan.steps)
        images: Tensor = self.vae.decode((latents / self.scaling).to(dtype)).sample
        return images


def read_config(weights: Path) -> dict[str, Any]:
    """Return the parts of the configuration that an official file has in its metadata, where they are
    literals; nothing of them is called."""
    with safe_open(weights, framework="pt") as file:
        texts = file.metadata() or {}
    config = {}
    for part, text in texts.items():
        try:
            config[part] = ast.literal_eval(text) if len(text) <= MAX_CONFIG else None
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
    return config


def find_number(config: object, *keys: str, default: float | None = None) -> float | None:
    """Return the positive number below the keys, the default where the last one is missing, or None
    where there is neither."""
    for key in keys:
        if not isinstance(config, Mapping):
            return None
        config = config.get(key, default if key == keys[-1] else None)
    good = isinstance(config, int | float) and 0 < config < math.inf
    return float(config) if good else None  # type: ignore[arg-type]


class FlexTok(DiffusionTokenizer[FlexTokPlan]):
    """FlexTok with the names of apple/ml-flextok; the file has the autoencoder too. The official
    autoencoder may draw from its posterior, as its configuration says; here its mean is coded."""

    PLAN = FlexTokPlan
    OTHERS = r"$^"
    NAMES: ClassVar[Names] = (
        (r"^vae\.", "vae.vae."),
        (r"^patches\.", "encoder.module_dict.enc_patch_emb.patch_proj."),
        (r"^places$", "encoder.module_dict.enc_posemb_module.posembs"),
        (r"^queries$", "encoder.module_dict.enc_register_module.registers"),
        (r"^encoder\.layers\.", "encoder.module_dict.enc_transformer.blocks."),
        (r"^before\.", "encoder.module_dict.enc_to_latents.proj."),
        (r"^after\.", "decoder.module_dict.dec_from_latents.proj."),
        (r"^code_places$", "decoder.module_dict.dec_registers_posemb_module.posembs"),
        (r"^mask$", "decoder.module_dict.dec_nested_dropout.dropout_mask_token"),
        (r"^nothing$", "decoder.module_dict.dec_latent_dropout.nullcond"),
        (r"^flow\.patches\.", "decoder.module_dict.dec_noise_patch_emb.patch_proj."),
        (r"^flow\.places$", "decoder.module_dict.dec_patches_posemb_module.posembs"),
        (r"^flow\.time\.", "decoder.module_dict.dec_time_embedder.mlp."),
        (r"^flow\.blocks\.", "decoder.module_dict.dec_transformer.blocks."),
        (r"^flow\.(out|modulation)\.", r"decoder.module_dict.dec_to_patches.\1."),
        (r"^(.*dec_to_patches)\.out\.", r"\1.proj."),
        (r"^(.*module_dict.*)\.modulation\.", r"\1.adaLN_modulation.1."),
        (r"^(.*blocks\.\d+)\.attention\.([qkv])\.", r"\1.attn.w\2."),
        (r"^(.*blocks\.\d+)\.attention\.out\.", r"\1.attn.proj."),
        (r"^(.*blocks\.\d+)\.mlp\.gate\.", r"\1.mlp.fc1."),
        (r"^(.*blocks\.\d+)\.mlp\.out\.", r"\1.mlp.fc2."),
        (r"^(.*blocks\.\d+)\.mlp\.value\.", r"\1.mlp.fc3."),
    )

    @classmethod
    def libraries(cls, options: Mapping[str, object]) -> dict[str, str]:
        """Return diffusers with its version: the autoencoder is its."""
        return {"diffusers": version("diffusers")}

    @classmethod
    def complete_plan(cls, plan: FlexTokPlan, weights: Path) -> FlexTokPlan:
        """Return the plan with the scaling and the longest time that the file says, where the plan says
        none. Raises WeightsMismatch where neither does."""
        if None not in (plan.scaling, plan.longest) or not weights.is_file():
            return plan
        try:
            config = read_config(weights)
        except SafetensorError:
            config = {}
        embedder = ("decoder", "module_dict", "dec_time_embedder", "max_timestep")
        said = {
            "scaling": find_number(config, "vae", "scaling_factor"),
            "longest": find_number(config, *embedder, default=TIME_UNITS),
        }
        found = {key: getattr(plan, key) or number for key, number in said.items()}
        for key, number in found.items():
            if number is None:
                raise WeightsMismatch(
                    f"{weights}: its metadata have no vae.scaling_factor or decoder that say "
                    f"options.config.{key}, and the entry does not"
                )
        return plan.model_copy(update=found)

    @classmethod
    def make_network(cls, spec: Spec, plan: FlexTokPlan) -> FlexTokNetwork:
        """Return the network with random weights. Raises RegistryError where the entry contradicts
        the plan."""
        facts = {
            "codebook_size": (spec.codebook_size, math.prod(plan.levels)),
            "input_range": (spec.input_range, cls.INPUT_RANGE),
        }
        check_facts(spec, facts)
        cls.check_size(spec)
        return FlexTokNetwork(plan, split_grid(spec, plan.patch * plan.downsample))
