"""Vector-quantized image tokenizers of the transformers library, driven as they are.

The library has them as parts of multimodal models, so a file may be the tokenizer's own or the whole
model's (`prefix`). Both take and return images in [-1, 1]. Importing the library costs seconds, so it
happens when a model is built.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vtbench.base.errors import RegistryError, WeightsMismatch, WeightsMissing
from vtbench.base.records import Spec
from vtbench.tokenizers.base import Code, Tokenizer
from vtbench.tokenizers.diffusers_vae import Wiring, check_config, check_entry, halvings
from vtbench.weights.states import build_network, load_state

WEIGHTS = "model.safetensors"

CODEBOOK = "quantize.embedding.weight"

OFFICIAL_NAMES = (
    (re.compile(r"\.(q|k|v)\.(weight|bias)$"), r".\1_proj.\2"),
    (re.compile(r"\.proj_out\.(weight|bias)$"), r".out_proj.\1"),
    (re.compile(r"\.mid\.attn_1\.norm\."), ".mid.attn_norm."),
    (re.compile(r"\.attn\.(\d+)\.norm\."), r".attn_norms.\1."),
    (re.compile(r"^encoder\.down\."), "encoder.down_block.down."),
    (re.compile(r"^decoder\.up\."), "decoder.up_block.up."),
    (re.compile(r"^(encoder|decoder)\.mid\."), r"\1.middle_block."),
)
"""From the names of BAAI's Emu3VisionVQModel to those of the library's Emu3VQVAE."""


JANUS_NAMES = (
    (re.compile(r"^encoder\.conv_blocks\."), "encoder.down."),
    (re.compile(r"^decoder\.conv_blocks\."), "decoder.up."),
    (re.compile(r"\.res\."), ".block."),
    (re.compile(r"\.mid\.0\."), ".mid.block_1."),
    (re.compile(r"\.mid\.1\."), ".mid.attn_1."),
    (re.compile(r"\.mid\.2\."), ".mid.block_2."),
)
"""From the names of deepseek-ai/Janus' VQModel to those of the library's JanusVQVAE."""


def _rename_emu3(key: str) -> str:
    for pattern, replacement in OFFICIAL_NAMES:
        key = pattern.sub(replacement, key)
    return key


def _rename_janus(key: str) -> str | None:
    for pattern, replacement in JANUS_NAMES:
        key = pattern.sub(replacement, key)
    # A training counter, which no forward pass reads: left out.
    return None if key == "quantize.codebook_used" else key


def _linear_attention(state: dict[str, Tensor]) -> dict[str, Tensor]:
    # Attention's 1×1 convolutions became linear layers in the library.
    return {
        key: tensor[:, :, 0, 0] if key.endswith("_proj.weight") and tensor.ndim == 4 else tensor
        for key, tensor in state.items()
    }


def _unit_entries(state: dict[str, Tensor]) -> dict[str, Tensor]:
    # The official code (LlamaGen's) compares directions: it normalizes entries and latents. The
    # library takes the nearest entry as it is stored, which is the same one for unit entries only.
    if CODEBOOK not in state:
        return state
    return {**state, CODEBOOK: torch.nn.functional.normalize(state[CODEBOOK].float(), dim=-1)}


def _encode_emu3(model: Any, images: Tensor, seed: int | None) -> Tensor:
    # One image at a time, as in diffusers_vae: a batch rounds differently.
    sizes = [tuple(images.shape[-2:])]
    tokens = [model.encode(image[None], image_sizes=sizes).image_tokens[0] for image in images]
    return torch.stack(tokens)


def _decode_emu3(model: Any, indices: Tensor, seed: int) -> Tensor:
    # An image is a clip of four equal frames to this network; the library keeps the first.
    images: Tensor = model.decode(indices)
    return images


def _encode_janus(model: Any, images: Tensor, seed: int | None) -> Tensor:
    factor = 2 ** (len(model.config.channel_multiplier) - 1)
    height, width = (side // factor for side in images.shape[-2:])
    tokens = [model.encode(image[None]).image_tokens.view(height, width) for image in images]
    return torch.stack(tokens)


def _decode_janus(model: Any, indices: Tensor, seed: int) -> Tensor:
    # The library's decode, step by step: it would insist on the square that the language model
    # generates, though the network is convolutional.
    entries = torch.nn.functional.normalize(model.quantize.embedding(indices), dim=-1)
    images: Tensor = model.decoder(model.post_quant_conv(entries.permute(0, 3, 1, 2).contiguous()))
    return images


WIRINGS: Mapping[str, Wiring] = {
    "Emu3VQVAE": Wiring(
        _encode_emu3,
        _decode_emu3,
        halvings("channel_multiplier"),
        size=lambda config: config["codebook_size"],
        discrete=True,
        module="transformers",
    ),
    "JanusVQVAE": Wiring(
        _encode_janus,
        _decode_janus,
        halvings("channel_multiplier"),
        size=lambda config: config["num_embeddings"],
        discrete=True,
        module="transformers",
    ),
}
"""The classes of the library that `TransformersVq` drives."""

RENAMES = {"Emu3VQVAE": _rename_emu3, "JanusVQVAE": _rename_janus}
PREPARED = {"Emu3VQVAE": _linear_attention, "JanusVQVAE": _unit_entries}


class TransformersVq(Tokenizer):
    """One vector-quantized tokenizer of transformers.

    Args:
        class_name: A key of `WIRINGS`.
        config: The arguments of the class's config.
        weights: A file, or a folder with model.safetensors; None for random weights.
        wrapper: The key in a pickle under which the state lies.
        prefix: Of the tokenizer's keys in it.

    Raises RegistryError where the entry contradicts the class or transformers is not installed,
    WeightsMissing and WeightsMismatch where the weights do.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        class_name: str,
        config: Mapping[str, Any],
        weights: Path | None,
        wrapper: str | None = None,
        prefix: str = "",
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        seed: int = 0,
    ) -> None:
        super().__init__(spec, device=device, dtype=dtype, seed=seed)
        self._wiring = check_entry(spec, WIRINGS, class_name)
        network, arguments = _library_classes(spec, class_name, config)
        try:
            state = None
            if weights is not None:
                file = weights / WEIGHTS if weights.is_dir() else weights
                rename: Callable[[str], str | None] | None = RENAMES.get(class_name)
                state = load_state(file, wrapper=wrapper, prefix=prefix, rename=rename)
                state = PREPARED[class_name](state)
            self.model: Any = build_network(
                lambda: network(arguments), state, device=self.device, dtype=dtype, seed=seed
            )
        except (WeightsMismatch, WeightsMissing) as error:
            raise type(error)(f"{spec.name}: {error}") from None
        except torch.OutOfMemoryError:
            raise
        except (ValueError, TypeError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise WeightsMismatch(f"{spec.name}: {class_name}: {reason}") from error
        check_config(spec, self._wiring, arguments.to_dict())

    @classmethod
    def libraries(cls, options: Mapping[str, object]) -> dict[str, str]:
        """Return transformers and its version: the network is the library's."""
        return {"transformers": version("transformers")}

    def _encode(self, images: Tensor) -> Code:
        assert self.spec.codebook_size is not None
        indices = self._wiring.encode(self.model, images.to(self.dtype), None)
        return Code.discrete(indices, self.spec.codebook_size)

    def _decode(self, code: Code) -> Tensor:
        if not isinstance(code.indices, Tensor):
            raise ValueError(f"{self.spec.name} decodes one tensor of indices")
        return self._wiring.decode(self.model, code.indices.to(self.device), self.seed)


def _library_classes(spec: Spec, class_name: str, config: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return the class and its config object. Raises RegistryError without the library, or for an
    argument that the config does not have (the library would take it and ignore it)."""
    try:
        library = importlib.import_module("transformers")
        network = getattr(library, class_name)
        make_config = getattr(library, f"{class_name}Config")
    except (ModuleNotFoundError, AttributeError):
        raise RegistryError(
            f'{spec.name} needs transformers with {class_name}: `pip install "vtbench[transformers]"`'
        ) from None
    known = make_config().to_dict()
    if unknown := sorted(str(key) for key in config if key not in known):
        raise RegistryError(
            f"{spec.name}: options.config.{unknown[0]}: {class_name}Config has no such argument"
        )
    return network, make_config(**config)
