"""TA-TiTok: TiTok whose detokenizer also reads a text (https://arxiv.org/abs/2501.07730,
bytedance/1d-tokenizer, modeling/tatitok.py).

A tokenizer is given a picture and no text, so the entry fixes one; what it says is part of the row. The
text's features are those of the text encoder of CLIP-L at 336² before its projection, all 77 of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from vtbench.base.records import Spec
from vtbench.base.schema import Strict
from vtbench.tokenizers.network import Names
from vtbench.tokenizers.nn.conv import Count
from vtbench.tokenizers.nn.quantize import Codebook
from vtbench.tokenizers.nn.vit import Transformer, VitPlan, make_tokens
from vtbench.tokenizers.titok import Titok, TitokNetwork, TitokPlan

TOKENIZER, TEXT = "model.safetensors", "clip.safetensors"
"""The official files of a folder: TA-TiTok's, and that of openai/clip-vit-large-patch14-336."""


class TextPlan(Strict):
    """A text and its encoder. text: as people write it; ids: its tokens between start and end, and
    both of these; padding with 0 follows, up to `length`. words: of the vocabulary."""

    text: str
    ids: tuple[Annotated[int, Field(ge=0)], ...]
    vit: VitPlan = VitPlan(width=768, depth=12, heads=12, apart=True, gelu="quick", norm_in=False)
    words: Count = 49408
    length: Count = 77


class TaTitokPlan(TitokPlan):
    """A TiTok that answers with pixels, and the text."""

    text: TextPlan


class TextEncoder(nn.Module):
    """CLIP's (https://arxiv.org/abs/2103.00020): features 1×length×width of the plan's text, each of
    the tokens up to it."""

    def __init__(self, plan: TextPlan) -> None:
        super().__init__()
        self.ids = plan.ids + (0,) * (plan.length - len(plan.ids))
        self.words = make_tokens(plan.words, plan.vit.width)
        self.positions = make_tokens(plan.length, plan.vit.width)
        self.trunk = Transformer(plan.vit)

    def forward(self) -> Tensor:
        ids = torch.tensor(self.ids, device=self.words.device)
        mask = torch.ones(len(ids), len(ids), dtype=torch.bool, device=ids.device).tril()
        features: Tensor = self.trunk((self.words[ids] + self.positions)[None], mask=mask)
        return features


class TaTitokNetwork(TitokNetwork):
    """TiTok and the text encoder."""

    def __init__(
        self, plan: TaTitokPlan, grid: tuple[int, int], quantizer: Codebook | None
    ) -> None:
        super().__init__(plan, grid, quantizer)
        self.text = TextEncoder(plan.text)
        self.text_in = nn.Linear(plan.text.vit.width, plan.decoder.width)
        self.text_positions = make_tokens(plan.text.length, plan.decoder.width)

    def guide(self, n: int) -> Tensor:
        """Return the text's features N×length×width."""
        features: Tensor = self.text_in(self.text()) + self.text_positions
        return features.expand(n, -1, -1)


class TaTitok(Titok):
    """One TA-TiTok. weights: a folder of the two files, or one file of both. CLIP's other half is not
    read."""

    PLAN = TaTitokPlan
    OTHERS = r"vision_model\.|visual_projection\.|text_projection\.|logit_scale$|.*\.position_ids$"
    NAMES: ClassVar[Names] = (
        (r"^text\.words$", "text_model.embeddings.token_embedding.weight"),
        (r"^text\.positions$", "text_model.embeddings.position_embedding.weight"),
        (r"^text\.trunk\.norm_out\.", "text_model.final_layer_norm."),
        (r"^text\.trunk\.", "text_model.encoder."),
        (r"^(text_model.*)\.norm(\d)\.", r"\1.layer_norm\2."),
        (r"^(text_model.*)\.attention\.(q|k|v|out)\.", r"\1.self_attn.\2_proj."),
        (r"^(text_model.*)\.mlp\.0\.", r"\1.mlp.fc1."),
        (r"^(text_model.*)\.mlp\.2\.", r"\1.mlp.fc2."),
        *Titok.NAMES,
        (r"^text_in\.", "decoder.text_guidance_proj."),
        (r"^text_positions$", "decoder.text_guidance_positional_embedding"),
    )

    @classmethod
    def make_network(cls, spec: Spec, plan: TitokPlan) -> TaTitokNetwork:
        """Return the network with random weights. Raises RegistryError where the entry contradicts
        the plan."""
        assert isinstance(plan, TaTitokPlan)
        return TaTitokNetwork(plan, *cls.make_parts(spec, plan))

    def read_state(self, weights: Path, plan: TitokPlan, **layout: Any) -> dict[str, Tensor]:
        """Return the tensors of both files. Raises WeightsMissing or WeightsMismatch."""
        if not weights.is_dir():
            return super().read_state(weights, plan, **layout)
        read = super().read_state
        return read(weights / TOKENIZER, plan, **layout) | read(weights / TEXT, plan, **layout)
