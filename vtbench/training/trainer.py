"""One trainer for all families of reference tokenizers.

The network is built by the entry's own adapter, so what is trained is what the adapter loads; what is
exported is a file under the names of the family's official code, in float16. All randomness is a
function of the seed and the step: a run that was cut off goes on as if it had not been.
"""

from __future__ import annotations

import copy
import hashlib
import io
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from vtbench import images as pixels
from vtbench.base.errors import OutputError, RegistryError
from vtbench.base.files import write_atomic
from vtbench.registry.entries import Entry
from vtbench.registry.recipe import Training
from vtbench.tokenizers import build_tokenizer, load_adapter
from vtbench.tokenizers.base import Tokenizer
from vtbench.tokenizers.network import NetworkTokenizer
from vtbench.tokenizers.nn.quantize import Codebook
from vtbench.tokenizers.reference import SmallRaeNetwork
from vtbench.training.data import Pictures, describe_sources
from vtbench.training.initialization import initialize
from vtbench.training.losses import reconstruction_loss
from vtbench.training.quantization import CodebookAverage
from vtbench.training.steps import count_masked, freeze_encoder, reconstruct

SAVE_SECONDS = 180.0
"""Between two checkpoints; each is evaluated and exported."""

LOG_STEPS = 100
"""Between two lines of the log: means over the steps since the last."""

REVIVE_STEPS = 20
"""Between two looks for dead codewords; none in the last fifth, where the others settle."""

USE_TOKENS, MAX_USE_TOKENS = 16, 1 << 20
"""Of training crops for each codeword, and in all, that the use of a codebook is counted over."""

STATISTICS_STEPS = 16
"""Whose crops the mean and the deviation of a frozen encoder's features are of."""

MAX_NORM = 0.5
"""Of the gradient of a step; a longer one is shortened."""

Report = Callable[[int, int, str], None]


def train_reference(
    entry: Entry,
    out: Path,
    *,
    steps: int | None = None,
    seed: int | None = None,
    device: str = "auto",
    resume: bool = False,
    report: Report = lambda done, total, note: None,
) -> Path:
    """Train the entry's network by its recipe and return the exported weights, `out`/NAME.safetensors.

    Beside them: checkpoint.pt, log.jsonl (a line every `LOG_STEPS` steps and at each save) and, at
    the end, curve.svg. steps, seed: instead of the recipe's. resume: go on from checkpoint.pt where
    there is one. Raises RegistryError for an entry without a recipe, OutputError for a folder that
    holds another run or, without resume, a checkpoint.
    """
    if entry.training is None:
        raise RegistryError(f"{entry.name} has no recipe (training:), so it cannot be trained here")
    given = {"steps": steps, "seed": seed}
    recipe = entry.training.model_copy(update={k: v for k, v in given.items() if v is not None})
    trainer = Trainer(entry, recipe, out, device=device)
    checkpoint = out / "checkpoint.pt"
    if checkpoint.is_file():
        if not resume:
            raise OutputError(
                f"{checkpoint} exists: --resume goes on with it, another --out does not"
            )
        trainer.restore()
    else:
        # Of a run that ended before its first checkpoint.
        (out / "log.jsonl").unlink(missing_ok=True)
        trainer.log("sources", **describe_sources())
    trainer.run(report)
    return trainer.weights


class Trainer:
    """The state of one training and what moves it."""

    def __init__(self, entry: Entry, recipe: Training, out: Path, *, device: str) -> None:
        if entry.size.fixed not in (None, (recipe.crop, recipe.crop)):
            raise RegistryError(
                f"{entry.name}: training.crop is {recipe.crop}, but the network takes "
                f"{entry.size.fixed} and no other size"
            )
        self.entry, self.recipe, self.out = entry, recipe, out
        self.tokenizer = build_tokenizer(
            entry, device=device, random_weights=True, seed=recipe.seed
        )
        self.device = self.tokenizer.device
        self.model: Any = self.tokenizer.model  # type: ignore[attr-defined]
        initialize(self.model, recipe.seed)
        self.model.to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.model)
        self.model.train().requires_grad_(True)
        books = [module for module in self.model.modules() if isinstance(module, Codebook)]
        self.codebook = books[0] if books else None
        self.words: CodebookAverage | None = None
        if self.codebook is not None:
            self.codebook.entries.requires_grad_(False)
            self.words = CodebookAverage(self.codebook).to(self.device)
        learned = [p for p in self.model.parameters() if p.requires_grad]
        # A short memory of the second moment: no norms tame a sudden gradient.
        self.optimizer = torch.optim.AdamW(
            learned, lr=recipe.rate, betas=(0.9, 0.95), weight_decay=1e-3, fused=True
        )
        self.pictures = Pictures(recipe)
        self.step, self.seconds = 0, 0.0
        self.weights = out / f"{entry.name}.safetensors"
        content = {
            "entry": entry.model_dump(mode="json", include={"adapter", "options", "codebook_size"}),
            "recipe": recipe.model_dump(mode="json"),
        }
        self.digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def run(self, report: Report) -> None:
        """Train from the step reached to the last, and save now and then and at the end."""
        saved = time.perf_counter()
        sums: dict[str, float] = {}
        while self.step < self.recipe.steps:
            for key, value in self.train_step().items():
                sums[key] = sums.get(key, 0.0) + value
            last = self.step == self.recipe.steps
            if self.step % LOG_STEPS and not last:
                continue
            count = (self.step - 1) % LOG_STEPS + 1
            means = {key: round(value / count, 6) for key, value in sums.items()}
            self.log("train", **means, rate=round(self._rate(), 7))
            report(self.step, self.recipe.steps, f"loss {means['loss']:.4f}")
            sums = {}
            if last or time.perf_counter() - saved > SAVE_SECONDS:
                self.seconds += time.perf_counter() - saved
                self.save()
                saved = time.perf_counter()
        self._finish()

    def train_step(self) -> dict[str, float]:
        """Take one step and return its losses."""
        recipe = self.recipe
        low, high = self.entry.input_range
        if isinstance(self.model, SmallRaeNetwork) and self.step == count_masked(recipe):
            self._freeze()
        batch = self.pictures.make_batch(self.step).to(self.device) * (high - low) + low
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + self.step)
        half = recipe.precision == "bfloat16"
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=half):
            done = reconstruct(
                self.tokenizer, batch, recipe=recipe, step=self.step, generator=generator
            )
        images = done.images.float()
        terms = {"loss": reconstruction_loss(images, batch, recipe)}
        terms["mse"] = (images - batch).detach().square().mean()
        for key, value in done.penalties.items():
            terms[key] = value
            terms["loss"] = terms["loss"] + getattr(recipe, key) * value
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate()
        self.optimizer.zero_grad(set_to_none=True)
        terms["loss"].backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), MAX_NORM)
        self.optimizer.step()
        values = {key: float(value.detach()) for key, value in terms.items()}
        if not math.isfinite(values["loss"]):
            raise OutputError(f"{self.entry.name}: the loss is not finite at step {self.step}")
        if self.words is not None and self.codebook is not None and done.choices:
            begun = self.step == recipe.unquantized
            due = self.step % REVIVE_STEPS == 0 and self.step < 0.8 * recipe.steps
            revived = self.words.follow(
                self.codebook, done.choices, revive=begun or due, generator=generator
            )
            values["revived"] = float(revived)
        self._follow()
        self.step += 1
        return values

    def _rate(self) -> float:
        recipe = self.recipe
        if self.step < recipe.warmup:
            return recipe.rate * (self.step + 1) / recipe.warmup
        done = (self.step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
        return recipe.rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))

    def _freeze(self) -> None:
        low, high = self.entry.input_range
        batches = (self.pictures.make_batch(self.step + n) for n in range(STATISTICS_STEPS))
        images = (batch.to(self.device) * (high - low) + low for batch in batches)
        # What is frozen is the average, which then is the same network as the one that is trained.
        self.model.load_state_dict(self.average.state_dict())
        freeze_encoder(self.model, images)
        self.average.load_state_dict(self.model.state_dict())

    @torch.no_grad()
    def _follow(self) -> None:
        decay = min(self.recipe.average, (1 + self.step) / (10 + self.step))
        for mean, value in zip(
            self.average.state_dict().values(), self.model.state_dict().values(), strict=True
        ):
            if mean.is_floating_point():
                mean.lerp_(value, 1 - decay)
            else:
                mean.copy_(value)

    def save(self) -> None:
        """Export the averaged weights, evaluate the export, write the checkpoint."""
        write_atomic(self.weights, self.export())
        self.log("held-out", psnr_db=round(self.evaluate(), 3), seconds=round(self.seconds))
        state = {
            "digest": self.digest,
            "step": self.step,
            "seconds": self.seconds,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "words": self.words.state_dict() if self.words is not None else {},
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_atomic(self.out / "checkpoint.pt", buffer.getvalue())

    def restore(self) -> None:
        """Go back to the checkpoint.

        Raises:
            OutputError: it is of another recipe or entry, no checkpoint of a training, or damaged.
        """
        path = self.out / "checkpoint.pt"
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
        except Exception as error:
            raise OutputError(
                f"{path} cannot be read ({type(error).__name__}): remove it"
            ) from error
        if not isinstance(state, dict) or "digest" not in state:
            held = ", ".join(map(str, state)) if isinstance(state, dict) else type(state).__name__
            raise OutputError(f"{path} is no checkpoint of a training; it has {held[:200]}")
        if state["digest"] != self.digest:
            raise OutputError(
                f"{path} is of another recipe, entry, seed or number of steps: give another --out"
            )
        try:
            self._take(state)
        except (LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise OutputError(f"{path} or log.jsonl beside it is damaged ({first[:200]})") from None

    def _take(self, state: dict[str, Any]) -> None:
        """Take over what a checkpoint holds, and of the log what was written before it."""
        self.step, self.seconds = state["step"], state["seconds"]
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.words is not None:
            self.words.load_state_dict(state["words"])
        lines = [json.loads(line) for line in read_log(self.out)]
        kept = [json.dumps(line) + "\n" for line in lines if line["step"] <= self.step]
        write_atomic(self.out / "log.jsonl", "".join(kept).encode())

    def export(self) -> bytes:
        """Return the averaged weights as safetensors: float16, named as the family's files are."""
        names = {key: key for key in self.average.state_dict()}
        if isinstance(self.tokenizer, NetworkTokenizer):
            plan = self.tokenizer.parse_config(self.entry.spec, self.entry.options["config"])
            official = self.tokenizer.name_tensors(self.average, plan)
            names = {here: there for there, here in official.items()}
        state = {
            names[key]: (value.half() if value.is_floating_point() else value).contiguous().cpu()
            for key, value in self.average.state_dict().items()
        }
        made_by = f"vtbench train-reference {self.entry.name}, seed {self.recipe.seed}"
        # One key only: safetensors writes several in a random order.
        return save(state, {"made_by": f"{made_by}, step {self.step} of {self.recipe.steps}"})

    def load_export(self) -> Tokenizer:
        """Return the entry's tokenizer with the exported weights."""
        adapter = load_adapter(self.entry)
        options = {**self.entry.options, "weights": self.weights}
        return adapter(self.entry.spec, device=self.device, **options)

    def evaluate(self) -> float:
        """Return the mean PSNR in dB of the exported tokenizer on the held-out squares, 8 bit."""
        tokenizer = self.load_export()
        total = 0.0
        for square in self.pictures.held_out:
            seen = pixels.to_uint8(tokenizer.decode(tokenizer.encode(square[None]))).cpu()
            error = (seen.double() - pixels.to_uint8(square[None]).double()).square().mean()
            total += 10 * math.log10(255**2 / float(error))
        return total / len(self.pictures.held_out)

    def measure_use(self, size: int) -> tuple[float, int]:
        """Return the share of a codebook of that size that training crops use, of the exported
        tokenizer, and how many tokens were looked at."""
        tokenizer = self.load_export()
        used = torch.zeros(size, dtype=torch.bool)
        tokens, step = 0, self.recipe.steps
        while tokens < min(USE_TOKENS * size, MAX_USE_TOKENS):
            images = self.pictures.make_batch(step)
            code = tokenizer.encode(images)
            for image in range(len(images)):
                for words in code.words(image):
                    used[words] = True
            tokens, step = tokens + sum(code.tokens), step + 1
        return float(used.float().mean()), tokens

    def log(self, kind: str, **values: object) -> None:
        """Append a line to log.jsonl."""
        self.out.mkdir(parents=True, exist_ok=True)
        line = {"step": self.step, "kind": kind, **values}
        with (self.out / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def _finish(self) -> None:
        lines = [json.loads(line) for line in read_log(self.out)]
        size = self.entry.codebook_size
        if size is not None and not any(line["kind"] == "use" for line in lines):
            share, tokens = self.measure_use(size)
            self.log("use", codebook=round(share, 4), tokens=tokens)
        write_atomic(self.out / "curve.svg", draw_curve(lines, self.entry.name))


def read_log(out: Path) -> list[str]:
    """Return the lines of a training's log; none where there is no log."""
    path = out / "log.jsonl"
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def draw_curve(lines: list[dict[str, Any]], title: str) -> bytes:
    """Return an SVG of loss and held-out PSNR over steps, from a training's log."""
    import matplotlib
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {"svg.hashsalt": "vtbench", "font.size": 8, "svg.fonttype": "none"}
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(style)
        figure = Figure(figsize=(6, 3), layout="constrained")
        left = figure.subplots()
        right = left.twinx()
        for axes, kind, key, colour, scale in (
            (left, "train", "mse", "#4269d0", "log"),
            (right, "held-out", "psnr_db", "#ff725c", "linear"),
        ):
            points = [(line["step"], line[key]) for line in lines if line["kind"] == kind]
            axes.plot(*zip(*points, strict=True), color=colour, linewidth=1)
            axes.set_yscale(scale)
        left.set(title=title, xlabel="step", ylabel="training MSE (blue)")
        right.set_ylabel("held-out PSNR, dB (red)")
        content = io.BytesIO()
        figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None})
    return content.getvalue()
