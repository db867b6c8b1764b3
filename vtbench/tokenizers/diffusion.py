"""Tokenizers whose decoder turns noise into an image, step by step: what their adapters share.

How many steps it takes, and with what guidance, is part of the plan (`steps`, `guidance`): another
number is another decoder, and `--decoder-steps` and `--guidance` put it into the run's name.
"""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from vtbench.base.errors import RegistryError
from vtbench.base.records import Spec
from vtbench.tokenizers.base import Code
from vtbench.tokenizers.network import Autoencoder, NetworkTokenizer, Plan
from vtbench.tokenizers.nn.diffusion import draw_noise


class DiffusionNetwork(Autoencoder):
    """An autoencoder whose decoder starts from noise of one square size, the same for each image.

    `side` and `channels` are of the noise: those of the image, or of latents. `seed` is of the noise.
    """

    side: int
    channels: int = 3
    seed: int = 0

    def decode(self, code: Tensor | tuple[Tensor, ...]) -> Tensor:
        """Return the N×3×side×side images that the seed's noise becomes."""
        assert isinstance(code, Tensor)
        noise = draw_noise(len(code), self.side, self.seed, channels=self.channels)
        return self.denoise(code, noise.to(code.device))

    @abstractmethod
    def denoise(self, code: Tensor, noise: Tensor) -> Tensor:
        """Return the images that float32 noise N×channels×side×side becomes; the state between the
        steps is float32 whatever the dtype of the network."""


class DiffusionTokenizer(NetworkTokenizer[Plan]):
    """One tokenizer with a diffusion decoder, whose entry is `stochastic` and of one square size."""

    model: DiffusionNetwork

    @classmethod
    def check_size(cls, spec: Spec) -> int:
        """Return the side of the image. Raises RegistryError where the entry has not declared a
        fixed square size, or that its decoder is stochastic."""
        fixed = spec.size.fixed
        if fixed is None or fixed[0] != fixed[1]:
            raise RegistryError(f"{spec.name}: size.fixed must be a square, got {fixed}")
        if not spec.stochastic:
            raise RegistryError(f"{spec.name}: stochastic must be true: it decodes from noise")
        return fixed[0]

    def _decode(self, code: Code) -> Tensor:
        self.model.seed = self.seed
        return super()._decode(code)
