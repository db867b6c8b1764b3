"""SoftVQ-VAE: an image as a short row of means of codewords
(https://arxiv.org/abs/2412.10958, Hhhhhhao/continuous_tokenizer, modelling/tokenizer.py).

Encoder and decoder are transformers of DINOv2's shape: the first is given the patches and learned
tokens, the second what these became and a mask token for each patch. A token is the mean of its
codebook's words, weighted by a softmax, so the code is continuous.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
import torch.nn.functional as functional
from pydantic import Field
from torch import Tensor, nn

from vtbench.base.errors import RegistryError
from vtbench.base.records import Spec
from vtbench.base.schema import Strict
from vtbench.tokenizers.network import Autoencoder, Names, NetworkTokenizer, check_facts
from vtbench.tokenizers.nn.conv import Count
from vtbench.tokenizers.nn.vit import PatchEmbedding, VitPlan, join_patches, make_tokens
from vtbench.tokenizers.titok import TokenTransformer, split_grid


class SoftVqPlan(Strict):
    """One SoftVQ-VAE. tokens: of the code, shared out in order among the codebooks; words: of one
    codebook, of length 1; latent: values of a word; temperature: of the softmax of inner products."""

    encoder: VitPlan
    decoder: VitPlan
    tokens: Count
    codebooks: Count = 4
    words: Count = 8192
    latent: Count = 32
    patch: Count = 16
    temperature: Annotated[float, Field(gt=0)] = 0.07


class SoftVqNetwork(Autoencoder):
    """Patches and tokens, transformer, `before`, means of codewords, `after`, transformer, pixels."""

    def __init__(self, plan: SoftVqPlan, grid: tuple[int, int]) -> None:
        super().__init__()
        self.plan, self.grid = plan, grid
        places, width, out_width = grid[0] * grid[1], plan.encoder.width, plan.decoder.width
        self.embedding = PatchEmbedding(plan.patch, width)
        self.tokens = make_tokens(1, plan.tokens, width)
        self.encoder, self.decoder = (
            TokenTransformer(half, places=places, tokens=plan.tokens, lead=(1,))
            for half in (plan.encoder, plan.decoder)
        )
        self.before = nn.Linear(width, plan.latent)
        self.entries = nn.Parameter(torch.randn(plan.codebooks, plan.words, plan.latent))
        self.after = nn.Linear(plan.latent, out_width)
        self.mask = make_tokens(1, 1, out_width)
        self.head = nn.Linear(out_width, 3 * plan.patch**2)

    def compute_latents(self, images: Tensor) -> Tensor:
        """Return N×latent×1×tokens, the weighted means."""
        tokens = self.tokens.expand(len(images), -1, -1)
        _, x = self.encoder(self.embedding(images), tokens)
        parts = functional.normalize(self.before(x).float(), dim=-1).chunk(self.plan.codebooks, 1)
        tables = functional.normalize(self.entries.float(), dim=-1)
        means = [
            (part @ table.T / self.plan.temperature).softmax(dim=-1) @ table
            for part, table in zip(parts, tables, strict=True)
        ]
        return torch.cat(means, dim=1).mT[:, :, None].to(x.dtype)

    def encode(self, images: Tensor) -> Tensor:
        """Return `compute_latents`: nothing is quantized."""
        return self.compute_latents(images)

    def decode(self, code: Tensor | tuple[Tensor, ...]) -> Tensor:
        """Return N×3×H×W images of such means."""
        assert isinstance(code, Tensor)
        tokens = self.after(code[:, :, 0].mT.to(self.after.weight.dtype))
        masks = self.mask.expand(len(tokens), self.grid[0] * self.grid[1], -1)
        patches, _ = self.decoder(masks, tokens)
        return join_patches(self.head(patches), self.grid, channels_last=True)


class SoftVq(NetworkTokenizer[SoftVqPlan]):
    """One SoftVQ-VAE. Its file also has DINOv2 and the projection to it, of a loss, the patches of
    the decoder's ViT, which reads none, and a count of used words."""

    PLAN = SoftVqPlan
    OTHERS = (
        r"repa_model\.|projection\.|(de_)?scale\.|quantize\.codebook_used$|"
        r"decoder\.model\.patch_embed\."
    )
    NAMES: ClassVar[Names] = (
        (r"^embedding\.", "encoder.model.patch_embed.proj."),
        (r"^tokens$", "encoder.latent_tokens"),
        (r"^before\.", "quant_conv."),
        (r"^after\.", "post_quant_conv."),
        (r"^entries$", "quantize.embedding"),
        (r"^mask$", "decoder.mask_token"),
        (r"^head\.", "decoder.to_pixel.model."),
        (r"\.class_token$", ".model.cls_token"),
        (r"\.positions$", ".model.pos_embed"),
        (r"\.token_positions$", ".latent_pos_embed"),
        (r"\.trunk\.layers\.", ".model.blocks."),
        (r"\.trunk\.norm_out\.", ".model.norm."),
        (r"\.attention\.out\.", ".attn.proj."),
        (r"\.attention\.", ".attn."),
        (r"\.mlp\.0\.", ".mlp.fc1."),
        (r"\.mlp\.2\.", ".mlp.fc2."),
        (r"\.scale(\d)$", r".ls\1.gamma"),
    )

    @classmethod
    def make_network(cls, spec: Spec, plan: SoftVqPlan) -> SoftVqNetwork:
        """Return the network with random weights. Raises RegistryError where the entry contradicts
        the plan."""
        if plan.tokens % plan.codebooks:
            raise RegistryError(
                f"{spec.name}: {plan.codebooks} codebooks cannot share {plan.tokens} tokens"
            )
        facts = {
            "kind": (spec.kind, "continuous"),
            "downsample": (spec.downsample, None),
            "input_range": (spec.input_range, cls.INPUT_RANGE),
            "latent_channels": (spec.latent_channels, plan.latent),
        }
        check_facts(spec, facts)
        return SoftVqNetwork(plan, split_grid(spec, plan.patch))
