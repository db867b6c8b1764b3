"""Latent diffusion's autoencoders with a Gaussian posterior, and those that took its network over."""

from __future__ import annotations

from vtbench.base.records import Spec
from vtbench.tokenizers.convnet import ConvTokenizer
from vtbench.tokenizers.nn.conv import ConvPlan


class LdmKl(ConvTokenizer):
    """AutoencoderKL of CompVis/latent-diffusion (ldm/models/autoencoder.py), of LTH14/mar
    (models/vae.py) and of hustvl/LightningDiT (tokenizer/autoencoder.py). The code is the
    posterior's mean or a sample, neither scaled nor shifted. VA-VAE's file has its foundation model
    and the projection to it as well."""

    OTHERS = ConvTokenizer.OTHERS + r"|foundation_model\.|linear_proj\."

    @classmethod
    def make_quantizer(cls, spec: Spec, plan: ConvPlan, width: int) -> None:
        """Return none: the code is continuous."""
        return None
