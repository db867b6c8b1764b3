"""flux2-1d-tokenizer: the latents of FLUX.2's autoencoder as a row of tokens, of which the first ones
can be decoded alone (fmorgens' package flux2-1d-tokenizer 0.1.1, flux2_tokenizer/_core.py).

The autoencoder is diffusers'. The encoder is given the patches of its latents and learned queries and
keeps what became of these; the decoder is given the words and a mask token for each patch.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as functional

# Imported here: a library first imported on the meta device keeps constants without values.
from diffusers import AutoencoderKLFlux2
from pydantic import model_validator
from torch import Tensor, nn

from vtbench.base.errors import RegistryError
from vtbench.base.records import Spec
from vtbench.base.schema import Strict
from vtbench.tokenizers.network import Autoencoder, Names, NetworkTokenizer, check_facts
from vtbench.tokenizers.nn.conv import Count
from vtbench.tokenizers.nn.diffusion import make_grid, make_rotations
from vtbench.tokenizers.nn.quantize import Codebook
from vtbench.tokenizers.nn.vit import (
    PatchEmbedding,
    Transformer,
    VitPlan,
    join_patches,
    make_tokens,
)
from vtbench.tokenizers.titok import split_grid
from vtbench.weights.states import load_state

AUTOENCODER = "diffusion_pytorch_model.safetensors"
"""The official file of FLUX.2's autoencoder, beside the tokenizer's own."""

REACH = 32.0
"""Places run from 0 to this along either side, whatever the size."""


class Flux2RowPlan(Strict):
    """One flux2-1d-tokenizer.

    Attributes:
        vae: The config of diffusers' AutoencoderKLFlux2.
        vit: The transformer of each half.
        tokens: Of the code.
        kept: How many of them, the first, the code has; by default all.
        latent: Values of a codeword.
        patch: Latents on a side of a patch.
    """

    vae: Mapping[str, Any]
    vit: VitPlan = VitPlan(width=512, depth=12, heads=8, norm_in=False)
    tokens: Count = 1024
    kept: Count | None = None
    latent: Count = 128
    patch: Count = 2

    @property
    def downsample(self) -> int:
        """Pixels on a side of a latent."""
        return int(2 ** (len(self.vae["block_out_channels"]) - 1))

    @model_validator(mode="after")
    def _fits_together(self) -> Flux2RowPlan:
        if self.kept is not None and self.kept > self.tokens:
            raise ValueError(f"kept: {self.kept} of {self.tokens} tokens")
        if not {"block_out_channels", "latent_channels"} <= self.vae.keys():
            raise ValueError("vae needs block_out_channels and latent_channels")
        return self


class Flux2RowNetwork(Autoencoder):
    """Autoencoder, patches and queries, transformer, `before`, codebook; and all the way back."""

    def __init__(self, plan: Flux2RowPlan, grid: tuple[int, int], *, words: int) -> None:
        super().__init__()
        self.plan, self.grid, width = plan, grid, plan.vit.width
        channels = plan.vae["latent_channels"]
        self.vae: Any = AutoencoderKLFlux2(**plan.vae)  # type: ignore[no-untyped-call]
        self.embedding = PatchEmbedding(plan.patch, width, channels=channels)
        self.queries = make_tokens(1, plan.tokens, width)
        self.encoder, self.decoder = Transformer(plan.vit), Transformer(plan.vit)
        self.before = nn.Linear(width, plan.latent)
        self.quantizer = Codebook(words, plan.latent, "cosine")
        self.after = nn.Linear(plan.latent, width)
        self.places = make_tokens(1, plan.tokens, width)
        self.mask = make_tokens(1, 1, width)
        self.head = nn.Linear(width, channels * plan.patch**2)
        self.conv_out = nn.Conv2d(channels, channels, 3, padding=1)

    def _turn(self, after: int, device: torch.device) -> Tensor:
        """Return the rotations of the patches, and of `after` tokens behind them that do not turn."""
        spread = torch.tensor([REACH / max(side - 1, 1) for side in self.grid])
        places = functional.pad(make_grid(*self.grid) * spread, (0, 0, 0, after))
        half = self.plan.vit.width // self.plan.vit.heads // 2
        return make_rotations(places, (half, half)).to(device)

    def compute_latents(self, images: Tensor) -> Tensor:
        """Return N×latent×1×tokens, which the quantizer will see."""
        patches = self.embedding(self.vae.encode(images).latent_dist.mean)
        x = torch.cat([patches, self.queries.expand(len(patches), -1, -1)], dim=1)
        x = self.encoder(x, rotations=self._turn(self.plan.tokens, x.device))
        latents: Tensor = self.before(x[:, patches.shape[1] :]).mT[:, :, None]
        return latents[..., : self.plan.kept]

    def encode(self, images: Tensor) -> Tensor:
        """Return the indices N×1×tokens."""
        return self.quantizer.encode(self.compute_latents(images))

    def decode(self, code: Tensor | tuple[Tensor, ...]) -> Tensor:
        """Return N×3×H×W images of what `encode` returned."""
        assert isinstance(code, Tensor)
        words = self.quantizer.decode(code)[:, :, 0].mT.to(self.mask.dtype)
        tokens = self.after(words) + self.places[:, : words.shape[1]]
        masks = self.mask.expand(len(tokens), self.grid[0] * self.grid[1], -1)
        x = torch.cat([tokens, masks], dim=1)
        x = self.head(self.decoder(x, rotations=self._turn(0, x.device))[:, tokens.shape[1] :])
        channels = self.plan.vae["latent_channels"]
        latents = join_patches(x, self.grid, channels=channels, channels_last=True)
        images: Tensor = self.vae.decode(self.conv_out(latents)).sample
        return images


class Flux2Row(NetworkTokenizer[Flux2RowPlan]):
    """weights: the tokenizer's file, with the autoencoder's beside it. The official code clamps to the
    range, as vtbench does to every image."""

    PLAN = Flux2RowPlan
    OTHERS = r"$^"
    read_beside = (AUTOENCODER,)
    NAMES: ClassVar[Names] = (
        (r"^embedding\.", "encoder.patch_embed.proj."),
        (r"^queries$", "encoder.query_tokens"),
        (r"^before\.", "bsq.proj_in."),
        (r"^after\.", "bsq.proj_out."),
        (r"^quantizer\.entries$", "bsq.codebook.weight"),
        (r"^places$", "decoder.pos_embed_tokens"),
        (r"^mask$", "decoder.mask_token"),
        (r"^(head|conv_out)\.", r"decoder.\1."),
        (r"^((?:en|de)coder)\.layers\.", r"\1.blocks."),
        (r"^((?:en|de)coder)\.norm_out\.", r"\1.norm."),
        (r"^(.*blocks\.\d+)\.attention\.qkv\.", r"\1.attn.qkv."),
        (r"^(.*blocks\.\d+)\.attention\.out\.", r"\1.attn.proj."),
    )

    @classmethod
    def libraries(cls, options: Mapping[str, object]) -> dict[str, str]:
        """Return diffusers with its version: the autoencoder is its."""
        return {"diffusers": version("diffusers")}

    @classmethod
    def make_network(cls, spec: Spec, plan: Flux2RowPlan) -> Flux2RowNetwork:
        """Return the network with random weights. Raises RegistryError where the entry contradicts
        the plan."""
        if spec.codebook_size is None:
            raise RegistryError(f"{spec.name}: codebook_size is missing")
        facts = {
            "downsample": (spec.downsample, None),
            "input_range": (spec.input_range, cls.INPUT_RANGE),
        }
        check_facts(spec, facts)
        grid = split_grid(spec, plan.patch * plan.downsample)
        return Flux2RowNetwork(plan, grid, words=spec.codebook_size)

    def read_state(self, weights: Path, plan: Flux2RowPlan, **layout: Any) -> dict[str, Tensor]:
        """Return the tensors of both files. Raises WeightsMissing or WeightsMismatch."""
        state = super().read_state(weights, plan, **layout)
        beside = load_state(weights.parent / AUTOENCODER, rename=lambda key: f"vae.{key}")
        return state | beside
