"""The catalogue is complete, consistent with the code, and light."""

from __future__ import annotations

import subprocess
import sys

from vtbench.metrics.catalogue import METRICS

KEYS = {
    "psnr_db",
    "ssim",
    "ms_ssim",
    "lpips_alex",
    "lpips_vgg",
    "psnr_pooled_db",
    "mae",
    "haarpsi",
    "dists",
    "psnr_q8_db",
    "psnr_q8_loss_db",
    "bpp_q8",
    "entropy_bpp",
    "tokens_counted",
    "codebooks",
    "codewords",
    "token_bits",
    "token_entropy_bits",
    "codebook_usage",
    "codebook_perplexity",
    "rfid",
    "rfid@torch-fidelity",
    "rfid@pytorch-fid",
    "rfid@clean-fid",
    "rfid@torchmetrics",
    "rfid@float64",
    "rfid_inf",
    "kid",
    "inception_score",
    "fd_dinov2",
    "cmmd",
    "dinov2_cos",
    "clip_cos",
    "siglip_cos",
    "face_cos",
    "contrast_transfer",
    "mtf50_cpp",
    "cer",
    "wer",
    "ned",
    "bpp",
    "bits",
    "tokens",
    "encode_images_per_s",
    "decode_images_per_s",
    "peak_memory_mib",
}


def test_every_metric_states_its_facts() -> None:
    assert set(METRICS) == KEYS
    for key, metric in METRICS.items():
        assert metric.key == key
        assert metric.version >= 1
        assert metric.label and metric.definition and metric.source and metric.pooled


def test_the_texts_name_the_limits_of_the_code() -> None:
    from vtbench.metrics import dists, haarpsi, perceptual, pixel, rate

    assert f"below {pixel.SSIM_MIN_SIDE} px" in METRICS["ssim"].definition
    assert f"below {pixel.MS_SSIM_MIN_SIDE} px" in METRICS["ms_ssim"].definition
    assert f"{pixel.PSNR_CAP_DB:.0f} dB" in METRICS["psnr_db"].definition
    assert f"below {haarpsi.MIN_SIDE} px" in METRICS["haarpsi"].definition
    assert f"C {haarpsi.C:.0f}, α {haarpsi.ALPHA}" in METRICS["haarpsi"].definition
    assert f"below {dists.MIN_SIDE} px" in METRICS["dists"].definition
    assert rate.MAX_COUNTED == 2**20 and "2^20" in METRICS["codebook_usage"].definition
    for net, side in perceptual.MIN_SIDE.items():
        assert f"below {side} px" in METRICS[f"lpips_{net}"].definition


def imported_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_catalogue_imports_neither_torch_nor_numpy() -> None:
    assert not {"torch", "numpy"} & imported_by("import vtbench.metrics.catalogue")
    # The check sees an import when there is one.
    assert "numpy" in imported_by("import vtbench.metrics.catalogue, numpy")


def test_detail_and_text_import_no_torch() -> None:
    modules = imported_by("import vtbench.metrics.detail, vtbench.metrics.text")
    assert not {"torch", "cv2", "rapidocr", "onnxruntime"} & modules
