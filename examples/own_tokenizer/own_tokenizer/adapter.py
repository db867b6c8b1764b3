"""A tokenizer of one's own: the mean of each block, in so many levels."""

from __future__ import annotations

import torch
from torch import Tensor

from own_tokenizer.blocks import join_blocks, mean_blocks
from vtbench.base.records import Spec
from vtbench.tokenizers.base import Code, Tokenizer


class BlockMeans(Tokenizer):
    """Each block of pixels becomes a token of three words: the level of each channel's mean.

    Images arrive in the range that the entry declares, here [0, 1], in a size that the entry's
    `multiple` divides.

    Args:
        block: the side of a block in pixels, an option of the entry.
        levels: of each channel, an option of the entry; its cube is the entry's `codebook_size`.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        block: int,
        levels: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        seed: int = 0,
    ) -> None:
        super().__init__(spec, device=device, dtype=dtype, seed=seed)
        self.block, self.levels = block, levels

    def _encode(self, images: Tensor) -> Code:
        means = mean_blocks(images, self.block)
        indices = (means * (self.levels - 1)).round().long().clamp(0, self.levels - 1)
        return Code.discrete(indices.flatten(2), (self.levels,) * 3)

    def _decode(self, code: Code) -> Tensor:
        assert isinstance(code.indices, Tensor) and code.fit is not None
        height, width = (side // self.block for side in code.fit.fitted)
        means = code.indices.reshape(-1, 3, height, width) / (self.levels - 1)
        return join_blocks(means, self.block)
