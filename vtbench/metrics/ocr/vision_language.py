"""A vision-language model of transformers as a reader: greedy decoding, one fixed prompt."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from vtbench.base.errors import WeightsMismatch, WeightsMissing
from vtbench.images import RGB8
from vtbench.metrics.ocr.reader import SCRIPTS, Box, crop_line
from vtbench.weights.metrics import check_metric_weights, find_metric_weights

PROMPT = (
    "Transcribe the text in this image exactly as it is written. Do not correct, complete or translate "
    "it. Answer with the text alone; answer with nothing if there is no text."
)
LINE_TOKENS, PAGE_TOKENS = 128, 2048
"""Most tokens of an answer. A longer one is cut: a model that repeats itself would not end."""

KEY = "qwen3-vl-2b"


class VisionLanguageReader:
    """Qwen3-VL 2B through transformers' own classes, bfloat16 on a GPU and float32 on the CPU.

    Written against transformers 5 and run with a small model of the same class and random weights; the
    published weights were not to be had here. One crop an answer: a batch is padded, so that a
    reading would depend on its neighbours. What it returns it may have mended from its knowledge of
    language; see `legibility.measure_repair`.

    Args:
        device: "cpu", "cuda", "mps".
        folder: a model's folder; None looks for the catalogue's.

    Raises:
        WeightsMissing: transformers or the model's files are not on this machine.
        WeightsMismatch: they are others than the catalogue's, or cannot be opened.
    """

    unit: Literal["line", "word"] = "line"
    scripts = frozenset(SCRIPTS)

    def __init__(self, device: str, *, folder: Path | None = None) -> None:
        sums: dict[str, str] = {}
        if folder is None:
            found = find_metric_weights(KEY)
            sums, folder = check_metric_weights(KEY, found), found.path
        try:
            import transformers
        except ModuleNotFoundError as error:
            raise WeightsMissing(
                f'transformers cannot be imported ({error}): `pip install "vtbench[transformers]"`'
            ) from error
        import torch

        # No code from the folder, nothing from the hub, no pickle.
        safe = {"local_files_only": True, "trust_remote_code": False}
        dtype = torch.float32 if device == "cpu" else torch.bfloat16
        try:
            library: Any = transformers
            self._processor: Any = library.AutoProcessor.from_pretrained(folder, **safe)
            model: Any = library.AutoModelForImageTextToText.from_pretrained(
                folder, dtype=dtype, use_safetensors=True, **safe
            )
        except (OSError, ValueError, KeyError, ImportError) as error:
            first = (str(error).splitlines() or [repr(error)])[0]
            raise WeightsMismatch(f"{KEY}: {folder} cannot be opened: {first}") from error
        self._model = model.eval().to(device)
        self._device = device
        self.identity = {
            "engine": "vision-language",
            "transformers": version("transformers"),
            "torch": version("torch"),
            "dtype": str(dtype).removeprefix("torch."),
            "prompt": PROMPT,
            **sums,
        }

    def read_lines(self, image: RGB8, boxes: Sequence[Box], *, script: str) -> list[str]:
        """Return one reading a box, "" where nothing was recognised."""
        crops = [crop_line(image, box) for box in boxes]
        return [
            " ".join(self._answer(crop, LINE_TOKENS).split()) if crop.size else "" for crop in crops
        ]

    def read_page(self, image: RGB8, *, script: str) -> list[str]:
        """Return the lines of the model's answer to the whole page."""
        return [line for line in self._answer(image, PAGE_TOKENS).splitlines() if line.strip()]

    def _answer(self, image: RGB8, tokens: int) -> str:
        import torch
        from PIL import Image

        picture = Image.fromarray(image)
        content = [{"type": "image", "image": picture}, {"type": "text", "text": PROMPT}]
        inputs = self._processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        ).to(self._device)
        with torch.inference_mode():
            answer = self._model.generate(
                **inputs, do_sample=False, num_beams=1, max_new_tokens=tokens
            )
        told = answer[0, inputs["input_ids"].shape[1] :]
        return str(self._processor.decode(told, skip_special_tokens=True)).strip()
