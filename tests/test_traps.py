"""The traps in which published numbers of the field fell, and the test that each now falls in.

The numbers are those of the list of traps that the project started from. Those of reading other
people's tables rather than of measuring (23: rFID and gFID have different references; 25: rFID and
fidelity disagree) have no test: the board shows both kinds of score and orders by neither.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import skimage.data
import skimage.metrics
import torch
from torch import Tensor

from vtbench.metrics.luma import luma
from vtbench.metrics.pixel import psnr_db, ssim

HERE = Path(__file__).parent

TRAPS = {
    1: (
        "another reference set",
        "runs/test_set_features.py::test_originals_go_through_a_network_once_a_suite",
    ),
    2: ("another FID", "metrics/test_inception.py::test_it_is_torch_fidelity"),
    3: ("another n", "metrics/test_distribution.py::test_too_few_images_are_refused"),
    4: ("crop and interpolation", "suites/test_crops.py::test_no_two_crops_are_the_same"),
    5: ("JPEG in between", "runs/test_runner.py::test_what_is_measured_is_the_8_bit_image"),
    6: ("truncation", "metrics/test_pixel.py::test_truncation_is_not_rounding"),
    7: ("pooled PSNR", "metrics/test_pixel.py::test_psnr_is_not_pooled_over_the_batch"),
    8: ("PSNR of luma", "test_traps.py::test_psnr_of_luma_is_another_number"),
    9: ("SSIM's range, window, gray", "metrics/test_pixel.py::test_a_data_range_off_by_two_shows"),
    10: ("LPIPS's network and range", "metrics/test_perceptual.py::test_it_is_the_package"),
    11: (
        "sample or mode",
        "tokenizers/test_diffusers.py::test_a_sampled_posterior_is_seeded_and_declared",
    ),
    12: (
        "TF32 and 16 bit",
        "runs/test_runner.py::test_a_run_computes_without_tf32_and_leaves_the_flags_as_they_were",
    ),
    13: ("metrics after a squash", "metrics/test_pixel.py::test_a_squash_before_the_metric_shows"),
    14: ("off the native size", "test_images.py::test_fixed_size_networks_resize_and_come_back"),
    15: (
        "one name, several checkpoints",
        "commands/test_reproduce.py::test_an_ambiguous_name_chooses_nothing",
    ),
    16: (
        "decoders that draw",
        "commands/test_reproduce.py::test_a_decoder_that_draws_is_never_the_same_without_its_steps",
    ),
    17: (
        "training data",
        "commands/test_reproduce.py::test_reproduce_prints_measured_beside_published",
    ),
    18: ("tokens are not bits", "tokenizers/test_contract.py::test_rates"),
    19: ("usage of what", "metrics/test_rate.py::test_sub_codebooks_are_counted_apart"),
    20: (
        "shards padded and averaged",
        "leaderboard/test_intervals.py::test_trap_20_shards_are_neither_averaged_nor_padded",
    ),
    21: (
        "features follow the batch",
        "metrics/test_inception.py::test_batches_do_not_change_features",
    ),
    22: (
        "a stale reference",
        "runs/test_set_features.py::test_a_cached_reference_of_other_pixels_is_removed",
    ),
    24: (
        "rows of another protocol",
        "leaderboard/test_intervals.py::test_trap_24_rows_of_another_protocol_are_not_ranked_among_these",
    ),
}


@pytest.mark.parametrize("number", TRAPS)
def test_the_trap_has_its_test(number: int) -> None:
    file, _, name = TRAPS[number][1].partition("::")
    tree = ast.parse((HERE / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def photograph() -> tuple[Tensor, Tensor]:
    """Return a photograph and the same with its colours coarse and its luma little changed."""
    original = torch.from_numpy(skimage.data.astronaut()[:200, :240].copy()).permute(2, 0, 1)[None]
    chroma = original.float() - original.float().mean(dim=1, keepdim=True)
    coarse = (
        torch.nn.functional.avg_pool2d(chroma, 8).repeat_interleave(8, 2).repeat_interleave(8, 3)
    )
    image = (original.float().mean(dim=1, keepdim=True) + coarse).round().clamp(0, 255)
    return original, image.to(torch.uint8)


def gray(images: Tensor) -> Tensor:
    levels = luma(images).round().to(torch.uint8)
    return levels[:, None].expand(-1, 3, -1, -1).contiguous()


def test_psnr_of_luma_is_another_number() -> None:
    original, image = photograph()
    mutant = float(psnr_db(gray(original), gray(image))[0])
    assert mutant > float(psnr_db(original, image)[0]) + 3  # colour errors are not seen


def test_ssim_of_gray_is_another_number() -> None:
    original, image = photograph()
    true, mutant = ssim(original, image), ssim(gray(original), gray(image))
    assert true is not None and mutant is not None
    assert float(mutant[0]) > float(true[0]) + 0.005
