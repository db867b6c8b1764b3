"""TAEF2's network: TAESD's, as diffusers has it, whose blocks of lowest resolution see all of the
image through a group norm.

Its author says that the library's class does not fit (madebyollin/taesd, issue 35). Names are the
library's, as in the published taef2.safetensors. Imported when a model is built: the library costs
seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from diffusers import AutoencoderTiny
from torch import Tensor, nn

GROUPS, EXPANSION = 4, 4
"""Of that path (madebyollin/taesd, taesd.py, use_midblock_gn)."""


class GlobalBlock(nn.Module):
    """A block of the library behind a residual path of 1×1 convolutions, normalized over all
    positions: N×C×h×w to the same."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        width = block.conv[0].in_channels
        self.conv, self.skip, self.fuse = block.conv, block.skip, block.fuse
        self.pool = nn.Sequential(
            nn.Conv2d(width, EXPANSION * width, 1, bias=False),
            nn.GroupNorm(GROUPS, EXPANSION * width),
            nn.ReLU(),
            nn.Conv2d(EXPANSION * width, width, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the block of x + pool(x)."""
        x = x + self.pool(x)
        out: Tensor = self.fuse(self.conv(x) + self.skip(x))
        return out


class AutoencoderTinyFlux2(AutoencoderTiny):
    """AutoencoderTiny with such blocks in the encoder's last stage and the decoder's first; the
    arguments are the library's."""

    config: Any
    encoder: Any
    decoder: Any

    def __init__(
        self,
        *,
        latent_channels: int,
        encoder_block_out_channels: Sequence[int],
        decoder_block_out_channels: Sequence[int],
        num_encoder_blocks: Sequence[int],
        num_decoder_blocks: Sequence[int],
    ) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            latent_channels=latent_channels,
            encoder_block_out_channels=encoder_block_out_channels,
            decoder_block_out_channels=decoder_block_out_channels,
            num_encoder_blocks=num_encoder_blocks,
            num_decoder_blocks=num_decoder_blocks,
        )
        # After the encoder's blocks there is one convolution, before the decoder's a convolution
        # and an activation.
        end = len(self.encoder.layers) - 1
        for layers, places in (
            (self.encoder.layers, range(end - num_encoder_blocks[-1], end)),
            (self.decoder.layers, range(2, 2 + num_decoder_blocks[0])),
        ):
            for place in places:
                layers[place] = GlobalBlock(layers[place])
