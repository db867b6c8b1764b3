"""BSQ-ViT: a transformer over 8×8 patches, each of which becomes the signs of a point on a sphere
(https://arxiv.org/abs/2406.07548, zhaoyue-zephyrus/bsq-vit, transcoder/models/bsqvit.py); and QLIP, the
same around an encoder trained with text (https://arxiv.org/abs/2502.05178, NVlabs/QLIP,
QLIP/modeling_qlip.py)."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
import torch.nn.functional as functional
from pydantic import Field
from torch import Tensor, nn

from vtbench.base.records import Spec
from vtbench.base.schema import Strict
from vtbench.tokenizers.convnet import check_binary_codebook
from vtbench.tokenizers.network import Autoencoder, Names, NetworkTokenizer, check_facts
from vtbench.tokenizers.nn.conv import Count
from vtbench.tokenizers.nn.diffusion import make_grid, make_rotations
from vtbench.tokenizers.nn.quantize import BinaryCode
from vtbench.tokenizers.nn.vit import (
    PatchEmbedding,
    Transformer,
    VitPlan,
    join_patches,
    make_tokens,
)
from vtbench.tokenizers.titok import CLIP_NAMES, split_grid


class BsqVitPlan(Strict):
    """One transformer, which encoder and decoder each have. patch: side of a patch; bits: of its
    code; hidden: width between the decoder's transformer and the pixels."""

    vit: VitPlan
    bits: Count
    patch: Count = 8
    hidden: Count = 3072


class PlacedTransformer(nn.Module):
    """Tokens N×places×width with learned positions, through a transformer."""

    def __init__(self, plan: VitPlan, places: int) -> None:
        super().__init__()
        self.positions = make_tokens(places, plan.width)
        self.trunk = Transformer(plan)

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.trunk(tokens + self.positions)
        return out


class BsqVitNetwork(Autoencoder):
    """Patches, transformer, `before`, quantizer, `after`, transformer, `head`, patches."""

    def __init__(self, plan: BsqVitPlan, grid: tuple[int, int]) -> None:
        super().__init__()
        places, width = grid[0] * grid[1], plan.vit.width
        self.grid = grid
        # A norm follows, so the official code leaves the bias out.
        self.embedding = PatchEmbedding(plan.patch, width, flat=True, bias=not plan.vit.norm_in)
        self.encoder = PlacedTransformer(plan.vit, places)
        self.before = nn.Linear(width, plan.bits)
        self.quantizer = BinaryCode(plan.bits, sphere=True, first="high")
        self.after = nn.Linear(plan.bits, width)
        self.decoder = PlacedTransformer(plan.vit, places)
        outputs = nn.Linear(plan.hidden, 3 * plan.patch**2)
        self.head = nn.Sequential(nn.Linear(width, plan.hidden), nn.Tanh(), outputs)

    def compute_latents(self, images: Tensor) -> Tensor:
        """Return N×bits×h×w vectors of length 1, which the quantizer will see."""
        vectors = functional.normalize(self.before(self.encoder(self.embedding(images))), dim=-1)
        return vectors.mT.reshape(len(vectors), -1, *self.grid)

    def encode(self, images: Tensor) -> Tensor:
        """Return indices N×h×w."""
        return self.quantizer.encode(self.compute_latents(images))

    def decode(self, code: Tensor | tuple[Tensor, ...]) -> Tensor:
        """Return N×3×H×W images of what `encode` returned."""
        assert isinstance(code, Tensor)
        vectors = self.quantizer.decode(code).flatten(2).mT
        tokens = self.decoder(self.after(vectors.to(self.after.weight.dtype)))
        return join_patches(self.head(tokens), self.grid)


class BsqVit(NetworkTokenizer[BsqVitPlan]):
    """One BSQ-ViT. The official model clamps to the range, as vtbench does to every image."""

    PLAN = BsqVitPlan
    OTHERS = r"quantize\.(group_)?basis$"
    NAMES = (
        *CLIP_NAMES,
        (r"\.trunk\.layers\.", ".transformer.resblocks."),
        (r"^embedding\.", "encoder.conv1."),
        (r"\.positions$", ".positional_embedding"),
        (r"^head\.0\.", "decoder.ffn.0."),
        (r"^head\.2\.", "decoder.conv_out."),
        (r"^before\.", "quant_embed."),
        (r"^after\.", "post_quant_embed."),
    )

    @classmethod
    def make_network(cls, spec: Spec, plan: BsqVitPlan) -> BsqVitNetwork:
        """Return the network with random weights. Raises RegistryError where the entry contradicts
        the plan."""
        grid = split_grid(spec, plan.patch)
        check_facts(
            spec,
            {
                "kind": (spec.kind, "discrete"),
                "downsample": (spec.downsample, plan.patch),
                "input_range": (spec.input_range, cls.INPUT_RANGE),
            },
        )
        check_binary_codebook(spec, plan.bits)
        return BsqVitNetwork(plan, grid)


TRAINED_GRID = 16
"""Places on a side that QLIP's rotary positions were made for; other grids are squeezed into it."""


class QlipPlan(Strict):
    """One QLIP. bits: of a patch's code; hidden: width between the decoder's transformer and the
    pixels; mean, deviation: of the pixels that the network takes and gives."""

    encoder: VitPlan
    decoder: VitPlan
    bits: Count
    patch: Count = 16
    hidden: Count
    mean: tuple[float, float, float]
    deviation: tuple[Annotated[float, Field(gt=0)], ...]


def make_bridge(before: int, hidden: int, after: int) -> nn.Sequential:
    """Return the perceptron between a transformer and the code."""
    return nn.Sequential(nn.Linear(before, hidden), nn.GELU(), nn.Linear(hidden, after))


class QlipNetwork(Autoencoder):
    """Patches and a class token, transformer, `before`, quantizer, `after`, transformer, `head`."""

    def __init__(self, plan: QlipPlan, grid: tuple[int, int]) -> None:
        super().__init__()
        places, width, out_width = grid[0] * grid[1], plan.encoder.width, plan.decoder.width
        self.plan, self.grid = plan, grid
        self.embedding = PatchEmbedding(plan.patch, width)
        self.leader = make_tokens(width)
        self.positions = make_tokens(places + 1, width)
        self.encoder, self.decoder = Transformer(plan.encoder), Transformer(plan.decoder)
        self.before = make_bridge(width, width, plan.bits)
        self.quantizer = BinaryCode(plan.bits, sphere=True, first="high")
        self.after = make_bridge(plan.bits, out_width, out_width)
        self.out_positions = make_tokens(1, places, out_width)
        outputs = nn.Linear(plan.hidden, 3 * plan.patch**2)
        self.head = nn.Sequential(nn.Linear(out_width, plan.hidden), nn.Tanh(), outputs)

    def _turn(self, plan: VitPlan, x: Tensor) -> Tensor:
        places = make_grid(*self.grid) * torch.tensor([TRAINED_GRID / side for side in self.grid])
        half = plan.width // plan.heads // 2
        return make_rotations(places, (half, half)).to(x.device)

    def _list_pixel_statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        values = (self.plan.mean, self.plan.deviation)
        mean, deviation = (like.new_tensor(value).view(3, 1, 1) for value in values)
        return mean, deviation

    def compute_latents(self, images: Tensor) -> Tensor:
        """Return N×bits×h×w vectors of length 1, which the quantizer will see."""
        mean, deviation = self._list_pixel_statistics(images)
        patches = self.embedding((images - mean) / deviation)
        x = torch.cat([self.leader.expand(len(patches), 1, -1), patches], dim=1) + self.positions
        x = self.encoder(x, rotations=self._turn(self.plan.encoder, x))[:, 1:]
        vectors = functional.normalize(self.before(x), dim=-1)
        return vectors.mT.reshape(len(vectors), -1, *self.grid)

    def encode(self, images: Tensor) -> Tensor:
        """Return indices N×h×w."""
        return self.quantizer.encode(self.compute_latents(images))

    def decode(self, code: Tensor | tuple[Tensor, ...]) -> Tensor:
        """Return N×3×H×W images of what `encode` returned."""
        assert isinstance(code, Tensor)
        vectors = self.quantizer.decode(code).flatten(2).mT.to(self.positions.dtype)
        x = self.after(vectors) + self.out_positions
        x = self.decoder(x, rotations=self._turn(self.plan.decoder, x))
        images = join_patches(self.head(x), self.grid)
        mean, deviation = self._list_pixel_statistics(images)
        return images * deviation + mean


class Qlip(NetworkTokenizer[QlipPlan]):
    """One QLIP. Its file also has the text encoder, the projections of both, and constants."""

    PLAN = QlipPlan
    INPUT_RANGE = (0.0, 1.0)
    OTHERS = (
        r"text_model\.|(visual|text)_projection\.|logit_scale$|vision_model\.post_layernorm\.|"
        r".*\.rope\.freqs_(cos|sin)$|.*\.position_ids$"
    )
    NAMES: ClassVar[Names] = (
        (r"^embedding\.", "vision_model.embeddings.patch_embedding."),
        (r"^leader$", "vision_model.embeddings.class_embedding"),
        (r"^positions$", "vision_model.embeddings.position_embedding.weight"),
        (r"^out_positions$", "vision_decoder.position_embeddings"),
        (r"^before\.", "vision_model.quant_embed."),
        (r"^after\.", "vision_model.quant_embed_post."),
        (r"_embed(_post)?\.0\.", r"_embed\1.c_fc."),
        (r"_embed(_post)?\.2\.", r"_embed\1.c_proj."),
        (r"^head\.0\.", "vision_decoder.ffn.0."),
        (r"^head\.2\.", "vision_decoder.conv_out."),
        (r"^encoder\.", "vision_model.encoder."),
        (r"^decoder\.norm_out\.", "vision_decoder.norm."),
        (r"^decoder\.", "vision_decoder.encoder."),
        (r"\.norm(\d)\.", r".layer_norm\1."),
        (r"\.attention\.norm_out\.", ".self_attn.inner_attn_ln."),
        (r"\.attention\.(q|k|v|out)\.", r".self_attn.\1_proj."),
        (r"\.mlp\.norm_out\.", ".mlp.ffn_ln."),
        (r"\.mlp\.gate\.", ".mlp.w1."),
        (r"\.mlp\.value\.", ".mlp.w2."),
        (r"\.mlp\.out\.", ".mlp.w3."),
    )

    @classmethod
    def make_network(cls, spec: Spec, plan: QlipPlan) -> QlipNetwork:
        """Return the network with random weights. Raises RegistryError where the entry contradicts
        the plan."""
        facts = {
            "kind": (spec.kind, "discrete"),
            "downsample": (spec.downsample, plan.patch),
            "input_range": (spec.input_range, cls.INPUT_RANGE),
        }
        check_facts(spec, facts)
        check_binary_codebook(spec, plan.bits)
        return QlipNetwork(plan, split_grid(spec, plan.patch))
