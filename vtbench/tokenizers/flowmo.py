"""FlowMo (https://arxiv.org/abs/2503.11056), kylesargent/FlowMo, flowmo/models.py: two transformers
over patches and code tokens side by side, the second of which is a rectified flow from noise."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as functional
from pydantic import Field
from torch import Tensor, nn

from vtbench.base.errors import RegistryError
from vtbench.base.records import Spec
from vtbench.base.schema import Strict
from vtbench.tokenizers.diffusion import DiffusionNetwork, DiffusionTokenizer
from vtbench.tokenizers.network import check_facts
from vtbench.tokenizers.nn.conv import Count
from vtbench.tokenizers.nn.diffusion import (
    EPSILON,
    TimeEmbedding,
    integrate,
    make_grid,
    make_rotations,
    normalize,
    rotate,
)
from vtbench.tokenizers.nn.quantize import BinaryCode
from vtbench.tokenizers.nn.vit import join_patches, split_patches

TIME_INPUTS = 256

TIME_POWER = 4
"""Times are (i/steps)⁴: the schedule "pow_0.25" of configs/base.yaml."""

GUIDED = tuple(sigma / (1 + sigma) for sigma in (0.17, 1.02))
"""Between these times the code is amplified against none: cfg_interval of configs/base.yaml, whose
noise levels are relative to the image, as EDM has them."""


class FlowMoPlan(Strict):
    """One FlowMo. bits: of a token; word: how many of them make a word of a codebook (the official
    quantizer's indices). steps and guidance: of sampling; 1 is without. The other defaults are those
    of configs/base.yaml, width being mup_width · 192."""

    bits: Count
    word: Count
    tokens: Count = 256
    patch: Count = 4
    heads: Count = 12
    encoder_width: Count = 768
    decoder_width: Count = 1152
    encoder_depth: Count = 8
    decoder_depth: Count = 16
    steps: Count = 25
    guidance: Annotated[float, Field(ge=1)] = 1.5


class Stream(nn.Module):
    """One of a block's two streams: what is done to its tokens before and after the attention that it
    shares with the other; for a time, scaled, shifted and gated by it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.modulation = nn.Linear(width, 6 * width)
        self.qkv = nn.Linear(width, 3 * width)
        self.q_norm = nn.RMSNorm(width // heads, eps=EPSILON)
        self.k_norm = nn.RMSNorm(width // heads, eps=EPSILON)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width)
        )

    def modulate(self, time: Tensor | None) -> tuple[Tensor | float, ...]:
        """Return shift, scale and gate of the attention and of the perceptron."""
        if time is None:
            return (0.0, 0.0, 1.0) * 2
        return tuple(self.modulation(functional.silu(time))[:, None].chunk(6, dim=-1))

    def project(self, x: Tensor, shift: Tensor | float, scale: Tensor | float) -> Tensor:
        """Return queries, keys and values: 3×N×H×L×D."""
        qkv = self.qkv((1 + scale) * normalize(x) + shift)
        q, k, v = qkv.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return torch.stack([self.q_norm(q), self.k_norm(k), v])

    def finish(self, x: Tensor, mixed: Tensor, terms: tuple[Tensor | float, ...]) -> Tensor:
        """Return the tokens after the attention's result, N×H×L×D, and the perceptron."""
        gate, shift, scale, gate2 = terms
        x = x + gate * self.out(mixed.transpose(1, 2).flatten(2))
        added: Tensor = gate2 * self.mlp((1 + scale) * normalize(x) + shift)
        return x + added


class Block(nn.Module):
    """A double-stream block (FLUX): code tokens and patches, with weights of their own, attend to all
    of both."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.code, self.picture = Stream(width, heads), Stream(width, heads)

    def forward(
        self, code: Tensor, picture: Tensor, time: Tensor | None, rotations: Tensor
    ) -> tuple[Tensor, Tensor]:
        first, second = self.code.modulate(time), self.picture.modulate(time)
        parts = (self.code.project(code, *first[:2]), self.picture.project(picture, *second[:2]))
        both = torch.cat(parts, dim=3)
        q, k = rotate(both[:2], rotations)
        # Maximal update parametrization: scores over the width of a head and not its root.
        mixed = functional.scaled_dot_product_attention(q, k, both[2], scale=8 / q.shape[-1])
        tokens = code.shape[1]
        code = self.code.finish(code, mixed[:, :, :tokens], first[2:])
        return code, self.picture.finish(picture, mixed[:, :, tokens:], second[2:])


class Head(nn.Module):
    """The last layer of a stream."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, outputs)

    def forward(self, x: Tensor, time: Tensor | None) -> Tensor:
        if time is not None:
            shift, scale = self.modulation(functional.silu(time))[:, None].chunk(2, dim=-1)
            x = (1 + scale) * normalize(x) + shift
        # After a modulation too, as the official code has it.
        out: Tensor = self.out(normalize(x))
        return out


class Transformer(nn.Module):
    """Encoder or decoder, of patches N×L×pixels and tokens N×T×bits. Both have all parts, as in the
    published files; the encoder has no use for those of the time, nor either for the head of its
    input."""

    def __init__(self, pixels: int, bits: int, width: int, heads: int, depth: int) -> None:
        super().__init__()
        self.picture_in, self.code_in = nn.Linear(pixels, width), nn.Linear(bits, width)
        self.time_in = TimeEmbedding(TIME_INPUTS, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.picture_out, self.code_out = Head(width, pixels), Head(width, bits)
        head = width // heads
        self.axes = (head // 8, 7 * head // 16, 7 * head // 16)

    def forward(
        self, picture: Tensor, code: Tensor, grid: tuple[int, int], time: Tensor | None = None
    ) -> Tensor:
        """Return the encoder's N×T×bits or, for a time, the decoder's N×L×pixels."""
        # A code token's place is its number on all three axes, a patch has row and column.
        tokens = torch.arange(code.shape[1])[:, None].expand(-1, 3)
        patches = functional.pad(make_grid(*grid), (1, 0))
        rotations = make_rotations(torch.cat([tokens, patches]), self.axes).to(code.device)
        picture, code = self.picture_in(picture), self.code_in(code)
        vector = None if time is None else self.time_in(time)
        for block in self.blocks:
            code, picture = block(code, picture, vector, rotations)
        out: Tensor = (
            self.code_out(code, None) if time is None else self.picture_out(picture, vector)
        )
        return out


class FlowMoNetwork(DiffusionNetwork):
    """Encoder, signs, and a decoder that gives the velocity of a rectified flow (time 1: noise, 0:
    image). Its tokens carry, beside the code, a one; all zeros are "no code"."""

    def __init__(self, plan: FlowMoPlan, side: int) -> None:
        super().__init__()
        self.plan, self.side = plan, side
        self.grid = (side // plan.patch, side // plan.patch)
        self.quantizer = BinaryCode(plan.word)
        sizes = (
            (plan.bits, plan.encoder_width, plan.heads, plan.encoder_depth),
            (plan.bits + 1, plan.decoder_width, plan.heads, plan.decoder_depth),
        )
        self.encoder, self.decoder = (Transformer(3 * plan.patch**2, *size) for size in sizes)

    def _split(self, images: Tensor) -> Tensor:
        return split_patches(images, self.plan.patch, channels_last=True)

    def compute_latents(self, images: Tensor) -> Tensor:
        """Return N×bits×1×tokens: what the signs are taken of."""
        none = images.new_zeros(len(images), self.plan.tokens, self.plan.bits)
        tokens: Tensor = self.encoder(self._split(images), none, self.grid)
        return tokens.mT[:, :, None]

    def encode(self, images: Tensor) -> Tensor:
        """Return the indices N×K×1×tokens, of K codebooks of 2^word words. Bit b of the word of
        codebook k is channel b·K + k."""
        bits = self.compute_latents(images)
        words = bits.reshape(len(bits), self.plan.word, -1, self.plan.tokens)
        return self.quantizer.encode(words)[:, :, None]

    def denoise(self, code: Tensor, noise: Tensor) -> Tensor:
        """Return N×3×side×side images."""
        dtype, steps = self.decoder.code_in.weight.dtype, self.plan.steps
        signs = self.quantizer.decode(code.squeeze(2)).flatten(1, 2).mT
        tokens = functional.pad(signs, (0, 1), value=1.0).to(dtype)
        times = torch.arange(steps + 1).flip(0) ** float(TIME_POWER) / float(steps) ** TIME_POWER

        def velocity(_: int, time: Tensor, x: Tensor) -> Tensor:
            patches = self._split(x.to(dtype))
            flow: Tensor = self.decoder(patches, tokens, self.grid, time)
            if self.plan.guidance != 1 and GUIDED[0] <= float(time) <= GUIDED[1]:
                without = self.decoder(patches, torch.zeros_like(tokens), self.grid, time)
                flow = without + self.plan.guidance * (flow - without)
            return join_patches(flow, self.grid, channels_last=True).float()

        return integrate(velocity, noise, times)


class FlowMo(DiffusionTokenizer[FlowMoPlan]):
    """FlowMo with the names of kylesargent/FlowMo."""

    PLAN = FlowMoPlan
    NAMES = (
        (r"\.picture_in\.", ".img_in."),
        (r"\.code_in\.", ".txt_in."),
        (r"\.time_in\.0\.", ".time_in.in_layer."),
        (r"\.time_in\.2\.", ".time_in.out_layer."),
        (r"\.blocks\.(\d+)\.picture\.", r".double_blocks.\1.img_"),
        (r"\.blocks\.(\d+)\.code\.", r".double_blocks.\1.txt_"),
        (r"_modulation\.", "_mod.lin."),
        (r"_qkv\.", "_attn.qkv."),
        (r"_q_norm\.weight", "_attn.norm.query_norm.scale"),
        (r"_k_norm\.weight", "_attn.norm.key_norm.scale"),
        (r"_out\.(weight|bias)", r"_attn.proj.\1"),
        (r"\.picture_out\.", ".final_layer_img."),
        (r"\.code_out\.", ".final_layer_txt."),
        (r"\.modulation\.", ".adaLN_modulation.1."),
        (r"\.out\.", ".linear."),
    )
    OTHERS = r"$^"

    @classmethod
    def make_network(cls, spec: Spec, plan: FlowMoPlan) -> FlowMoNetwork:
        """Return the network with random weights. Raises RegistryError where the entry contradicts
        the plan."""
        if plan.bits % plan.word:
            raise RegistryError(f"{spec.name}: {plan.bits} bits are no words of {plan.word}")
        facts = {
            "codebook_size": (spec.codebook_size, 2**plan.bits),
            "input_range": (spec.input_range, cls.INPUT_RANGE),
        }
        check_facts(spec, facts)
        return FlowMoNetwork(plan, cls.check_size(spec))

    @classmethod
    def list_codebooks(cls, spec: Spec, plan: FlowMoPlan) -> tuple[int, ...]:
        """Return the sizes of the codebooks."""
        return (2**plan.word,) * (plan.bits // plan.word)
