"""SoftVQ-VAE and MAETok: an image as a short row of continuous tokens (https://arxiv.org/abs/2412.10958,
https://arxiv.org/abs/2502.03444, Hhhhhhao/continuous_tokenizer, modelling/tokenizer.py).

Encoder and decoder are transformers of DINOv2's shape: the first is given the patches and learned
tokens, the second what these became and a mask token for each patch. SoftVQ's token is the mean of
its codebook's words, weighted by a softmax. MAETok's is what the encoder gives; its patches turn by
angles that are learned for each head.
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
from vtbench.tokenizers.network import Autoencoder, Names, NetworkTokenizer
from vtbench.tokenizers.nn.conv import Count
from vtbench.tokenizers.nn.diffusion import make_grid
from vtbench.tokenizers.nn.vit import PatchEmbedding, VitPlan, join_patches, make_tokens
from vtbench.tokenizers.titok import TokenTransformer, split_grid


class RowPlan(Strict):
    """What the two have in common. tokens: of the code; latent: values of one; patch: side of one."""

    encoder: VitPlan
    decoder: VitPlan
    tokens: Count
    latent: Count = 32
    patch: Count = 16


class SoftVqPlan(RowPlan):
    """One SoftVQ-VAE. codebooks: tokens are shared out in order among them; words: of one codebook, of
    length 1; temperature: of the softmax of inner products."""

    codebooks: Count = 4
    words: Count = 8192
    temperature: Annotated[float, Field(gt=0)] = 0.07


class TurningTransformer(TokenTransformer):
    """A transformer whose patches turn in each block and head by learned rates of row and column."""

    def __init__(
        self, plan: VitPlan, grid: tuple[int, int], *, tokens: int, placed: bool = True
    ) -> None:
        super().__init__(plan, places=grid[0] * grid[1], tokens=tokens, lead=(1,))
        self.grid, self.heads = grid, plan.heads
        self.rates = make_tokens(2, plan.depth, plan.width // 2)
        if not placed:
            self.positions = None

    def run(self, x: Tensor) -> Tensor:
        """Return the normalised tokens N×L×width after all blocks."""
        rows, columns = make_grid(*self.grid).to(x.device).float().unbind(dim=1)
        across, down = (rate.reshape(len(rate), self.heads, 1, -1) for rate in self.rates.float())
        angles = across * columns[:, None] + down * rows[:, None]
        # Neither the class token, which is first, nor those of the code, the last, turn.
        angles = functional.pad(angles, (0, 0, 0, x.shape[1] - 1 - len(rows)))
        for layer, angle in zip(self.trunk.layers, angles, strict=True):
            x = layer(x, rotations=torch.stack([angle.cos(), angle.sin()]))
        assert self.trunk.norm_out is not None
        out: Tensor = self.trunk.norm_out(x)
        return out


class RowNetwork(Autoencoder):
    """Patches and tokens, transformer, `before`; `after`, transformer, pixels: MAETok."""

    def __init__(self, plan: RowPlan, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        width, out_width = plan.encoder.width, plan.decoder.width
        self.embedding = PatchEmbedding(plan.patch, width)
        self.tokens = make_tokens(1, plan.tokens, width)
        self.encoder, self.decoder = self.make_halves(plan, grid)
        self.before = nn.Linear(width, plan.latent)
        self.after = nn.Linear(plan.latent, out_width)
        self.mask = make_tokens(1, 1, out_width)
        self.head = nn.Linear(out_width, 3 * plan.patch**2)

    def make_halves(
        self, plan: RowPlan, grid: tuple[int, int]
    ) -> tuple[TokenTransformer, TokenTransformer]:
        """Return the transformers; only the encoder's patches have learned positions too."""
        return (
            TurningTransformer(plan.encoder, grid, tokens=plan.tokens),
            TurningTransformer(plan.decoder, grid, tokens=plan.tokens, placed=False),
        )

    def mix(self, x: Tensor) -> Tensor:
        """Return the code N×tokens×latent of what `before` gives."""
        return x

    def compute_latents(self, images: Tensor) -> Tensor:
        """Return N×latent×1×tokens."""
        tokens = self.tokens.expand(len(images), -1, -1)
        _, x = self.encoder(self.embedding(images), tokens)
        return self.mix(self.before(x)).mT[:, :, None]

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


class SoftVqNetwork(RowNetwork):
    """Patches and tokens, transformer, `before`, means of codewords, `after`, transformer, pixels."""

    def __init__(self, plan: SoftVqPlan, grid: tuple[int, int]) -> None:
        super().__init__(plan, grid)
        self.plan = plan
        self.entries = nn.Parameter(torch.randn(plan.codebooks, plan.words, plan.latent))

    def make_halves(
        self, plan: RowPlan, grid: tuple[int, int]
    ) -> tuple[TokenTransformer, TokenTransformer]:
        """Return the transformers, whose positions are all learned."""
        places = grid[0] * grid[1]
        encoder, decoder = (
            TokenTransformer(half, places=places, tokens=plan.tokens, lead=(1,))
            for half in (plan.encoder, plan.decoder)
        )
        return encoder, decoder

    def mix(self, x: Tensor) -> Tensor:
        """Return the weighted means N×tokens×latent."""
        parts = functional.normalize(x.float(), dim=-1).chunk(self.plan.codebooks, 1)
        tables = functional.normalize(self.entries.float(), dim=-1)
        means = [
            (part @ table.T / self.plan.temperature).softmax(dim=-1) @ table
            for part, table in zip(parts, tables, strict=True)
        ]
        return torch.cat(means, dim=1).to(x.dtype)


class MaeTok(NetworkTokenizer[RowPlan]):
    """One MAETok. Its file also has the token that hid patches in training, the decoder's positions
    and patches, which it does not read, and the grid that its angles were made for."""

    PLAN: ClassVar[type[RowPlan]] = RowPlan
    NETWORK: ClassVar[type[RowNetwork]] = RowNetwork
    OTHERS: ClassVar[str] = (
        r"repa_model\.|projection\.|(de_)?scale\.|encoder\.mask_token$|"
        r"decoder\.model\.(patch_embed\.|pos_embed$)|(en|de)coder\.freqs_t_[xy]$"
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
        (r"\.rates$", ".freqs"),
        (r"\.trunk\.layers\.", ".model.blocks."),
        (r"\.trunk\.norm_out\.", ".model.norm."),
        (r"\.attention\.out\.", ".attn.proj."),
        (r"\.attention\.", ".attn."),
        (r"\.mlp\.0\.", ".mlp.fc1."),
        (r"\.mlp\.2\.", ".mlp.fc2."),
        (r"\.scale(\d)$", r".ls\1.gamma"),
    )

    @classmethod
    def make_network(cls, spec: Spec, plan: RowPlan) -> RowNetwork:
        """Return the network with random weights. Raises RegistryError where the entry contradicts
        the plan."""
        cls.check_latents(spec, downsample=None, latent=plan.latent)
        return cls.NETWORK(plan, split_grid(spec, plan.patch))


class SoftVq(MaeTok):
    """One SoftVQ-VAE. Its file also has DINOv2 and the projection to it, of a loss, the patches of
    the decoder's ViT, which reads none, and a count of used words."""

    PLAN = SoftVqPlan
    NETWORK = SoftVqNetwork
    OTHERS = (
        r"repa_model\.|projection\.|(de_)?scale\.|quantize\.codebook_used$|"
        r"decoder\.model\.patch_embed\."
    )

    @classmethod
    def make_network(cls, spec: Spec, plan: RowPlan) -> RowNetwork:
        """Return the network with random weights. Raises RegistryError where the entry contradicts
        the plan."""
        assert isinstance(plan, SoftVqPlan)
        if plan.tokens % plan.codebooks:
            raise RegistryError(
                f"{spec.name}: {plan.codebooks} codebooks cannot share {plan.tokens} tokens"
            )
        return super().make_network(spec, plan)
