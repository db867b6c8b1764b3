"""A vision-language model as a reader: a small one of the same class, with random weights, is run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from vtbench.base.errors import WeightsMismatch, WeightsMissing
from vtbench.images import RGB8
from vtbench.metrics.ocr import open_reader, vision_language
from vtbench.metrics.ocr.vision_language import PROMPT, VisionLanguageReader

pytest.importorskip("transformers", reason="transformers is not installed")

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% for part in message.content %}{% if part.type == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"),
    *("<|image_pad|>", "<|video_pad|>"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a Qwen3-VL of two layers with its processor, as the published one lies on the hub."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import (
        PreTrainedTokenizerFast,
        Qwen2VLImageProcessorFast,
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

    path = tmp_path_factory.mktemp("qwen")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: place for place, letter in enumerate(alphabet)}
    own = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    own.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    own.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=own,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL),
    )
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in SPECIAL}
    processor = Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessorFast(
            patch_size=16, min_pixels=1024, max_pixels=65536, merge_size=2
        ),
        tokenizer=tokenizer,
        video_processor=Qwen3VLVideoProcessor(patch_size=16),
        chat_template=TEMPLATE,
    )
    processor.save_pretrained(path)
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "rope_scaling": {"mrope_section": [2, 1, 1], "rope_type": "default"},
            "eos_token_id": ids["<|im_end|>"],
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 2,
            "out_hidden_size": 32,
            "patch_size": 16,
            "deepstack_visual_indexes": [0],
            "num_position_embeddings": 64,
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    torch.manual_seed(0)
    Qwen3VLForConditionalGeneration(config).save_pretrained(path)
    return path


@pytest.mark.slow
def test_it_answers_greedily_and_each_crop_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vision_language, "LINE_TOKENS", 6)
    monkeypatch.setattr(vision_language, "PAGE_TOKENS", 6)
    # A published model may come with sampling switched on: the adapter switches it off.
    (folder / "generation_config.json").write_text(
        json.dumps({"do_sample": True, "temperature": 9.0, "top_k": 50}), encoding="utf-8"
    )
    reader = VisionLanguageReader("cpu", folder=folder)
    assert reader.identity["prompt"] == PROMPT and reader.identity["dtype"] == "float32"
    assert reader.unit == "line" and "hindi" in reader.scripts
    page: RGB8 = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    boxes = [[[x, y], [x + 64, y], [x + 64, y + 32], [x, y + 32]] for x, y in ((0, 0), (40, 50))]
    outside = [[[200, 0], [210, 0], [210, 9], [200, 9]]]
    read = reader.read_lines(page, [*boxes, *outside], script="latin")
    assert len(read) == 3 and read[2] == "" and all(isinstance(line, str) for line in read)
    assert reader.read_lines(page, boxes[1:], script="latin") == read[1:2]
    again = VisionLanguageReader("cpu", folder=folder)
    assert again.read_lines(page, boxes, script="korean") == read[:2]
    assert isinstance(reader.read_page(page, script="latin"), list)


def test_what_is_missing_or_damaged_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VTBENCH_WEIGHTS", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsMissing, match="qwen3-vl-2b"):
        open_reader("vision-language", scripts={"latin"})
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(WeightsMismatch, match="cannot be opened"):
        VisionLanguageReader("cpu", folder=tmp_path)
