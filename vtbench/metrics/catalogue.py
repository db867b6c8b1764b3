"""What every metric is: label, unit, direction, how images pool, definition and source. No torch.

The code that computes a metric is named after its key or stands in its module: `pixel`, `haarpsi`,
`perceptual`, `dists`, `detail`, `text`, `rate`. `bpp`, `bits`, `tokens`, what is counted of a
codebook and the costs come from the run itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from vtbench.base import plugins
from vtbench.base.errors import RegistryError
from vtbench.base.records import Metric
from vtbench.metrics.catalogue_detail import CHARTS_1, DETAIL, PICTURES_1, PICTURES_2
from vtbench.metrics.catalogue_faces import FACES

_MEAN = "arithmetic mean over images, each image with the same weight"

_SET = "one number of all images of the task: no mean over images"

_INCEPTION = (
    "Fréchet distance between pool_3 features (2048) of originals and reconstructions of the same "
    "images, FID Inception-v3 of the TensorFlow graph, float32 features of 8-bit RGB, float64 moments"
)

_FID_PAPER = "Heusel, Ramsauer, Unterthiner, Nessler, Hochreiter, NeurIPS 2017"


_TEXT_COLUMNS: Mapping[str, str] = {
    "script": "string",
    "glyph_px": "float64",
    "chars": "int64",
    "char_edits": "int64",
    "words": "int64",  # null where the script has no spaces
    "word_edits": "int64",
    "ned": "float64",  # normalized edit similarity, mean over the page's lines
    "lines": "int64",
    "reading": "list<string>",  # what the engine read, line by line
    "original_char_edits": "int64",  # the same of the original: the engine's own error
    "original_word_edits": "int64",
    "original_ned": "float64",
    "original_reading": "list<string>",
}

_TOKBENCH_COLUMNS: Mapping[str, str] = {
    "word_exact": "list<float64>",  # of each annotated word 1 where it was read as it stands, else 0
    "word_similar": "list<float64>",  # 1 − normalized edit distance
    "word_ratio": "list<float64>",  # its height over the picture's longer side, as annotated
}

_LEGIBILITY_COLUMNS: Mapping[str, str] = {
    **_TEXT_COLUMNS,
    "words_read": "int64",  # true words that were read as they stand; null where no spaces
    "exact_lines": "int64",  # lines read without an error
    "glyphs_readable": "int64",  # true characters that the engine read on the original
    "glyphs_lost": "int64",  # of these, not read on the reconstruction
}


def _rfid(convention: str, resizing: str, source: str) -> Metric:
    return Metric(
        key=f"rfid@{convention}",
        label=f"rFID@{convention}",
        unit="",
        better="lower",
        version=1,
        pooled=_SET,
        definition=f"{_INCEPTION}; resized to 299 as {convention} does: {resizing}.",
        source=source,
        decimals=4,
        takes="set",
        tolerance=1e-4,
        minimum_n=2049,
    )


_ALL = (
    Metric(
        key="psnr_db",
        label="PSNR",
        unit="dB",
        better="higher",
        version=1,
        pooled=_MEAN,
        definition=(
            "10·log10(255² / MSE) of an image, MSE over all pixels and the three channels of 8-bit "
            "RGB, exact; 100 dB for identical images and for whatever would be above."
        ),
        source="ITU-T J.340; skimage.metrics.peak_signal_noise_ratio",
        decimals=2,
        takes="pair",
        tolerance=0.0,
        function="vtbench.metrics.pixel:measure_psnr",
        columns={"mse": "float64", "psnr_db": "float64"},
        shown="overview",
        nonnegative=("mse", "psnr_db"),
    ),
    Metric(
        key="psnr_pooled_db",
        label="Pooled PSNR",
        unit="dB",
        better="higher",
        version=1,
        pooled="sum of squared errors over sum of samples of all images, then the logarithm",
        definition=(
            "10·log10(255² / MSE) of all images as if they were one: each pixel with the same "
            "weight, so the worst and the largest images decide. 1 to 3 dB below the mean PSNR; for "
            "comparison with papers that pool. 100 dB as PSNR."
        ),
        source="torchmetrics.image.PeakSignalNoiseRatio(data_range=255) over a data set",
        decimals=2,
        takes="rows",
        shown="breakdown",
    ),
    Metric(
        key="psnr_y_db",
        label="PSNR-Y",
        unit="dB",
        better="higher",
        version=1,
        pooled=_MEAN,
        definition=(
            "10·log10(255² / MSE) of Rec. 601 luma, 0.299 R + 0.587 G + 0.114 B of full-range levels, "
            "unrounded; 100 dB for identical images. For comparison with papers of codecs: several dB "
            "above the PSNR of RGB where colour is what was lost."
        ),
        source="skimage.metrics.peak_signal_noise_ratio of luma, data_range=255",
        decimals=2,
        takes="pair",
        tolerance=1e-9,
        function="vtbench.metrics.pixel:psnr_y_db",
        shown="breakdown",
    ),
    Metric(
        key="mae",
        label="MAE",
        unit="level",
        better="lower",
        version=1,
        pooled=_MEAN,
        definition=(
            "Mean absolute error of an image in 8-bit levels, over all pixels and the three channels "
            "of RGB, exact."
        ),
        source="skimage and numpy: mean of |x − y|",
        decimals=3,
        takes="pair",
        tolerance=0.0,
        function="vtbench.metrics.pixel:mae",
        shown="breakdown",
        nonnegative=("mae",),
    ),
    Metric(
        key="ssim",
        label="SSIM",
        unit="",
        better="higher",
        version=1,
        pooled=_MEAN,
        definition=(
            "Mean structural similarity: 11×11 gaussian window of σ 1.5, K1 0.01, K2 0.03, L 255, "
            "valid region only, population covariance, each RGB channel alone, then their mean. "
            "Not applicable when a side is below 11 px."
        ),
        source="Wang, Bovik, Sheikh, Simoncelli, IEEE TIP 13(4) 2004; pytorch-msssim 1.0",
        decimals=4,
        takes="pair",
        tolerance=1e-6,
        function="vtbench.metrics.pixel:ssim",
        shown="overview",
    ),
    Metric(
        key="ms_ssim",
        label="MS-SSIM",
        unit="",
        better="higher",
        version=1,
        pooled=_MEAN,
        definition=(
            "Five scales with exponents 0.0448, 0.2856, 0.3001, 0.2363, 0.1333; 2×2 means between "
            "them (odd sides padded with zeros, counted); window as SSIM; negative terms are 0; "
            "each RGB channel alone, then their mean. Not applicable when a side is below 161 px."
        ),
        source="Wang, Simoncelli, Bovik, Asilomar 2003; pytorch-msssim 1.0",
        decimals=4,
        takes="pair",
        tolerance=1e-6,
        function="vtbench.metrics.pixel:measure_ssims",
        columns={"ssim": "float64", "ms_ssim": "float64"},
        shown="overview",
    ),
    Metric(
        key="lpips_alex",
        label="LPIPS (Alex)",
        unit="",
        better="lower",
        version=1,
        pooled=_MEAN,
        definition=(
            "Learned perceptual distance v0.1, AlexNet features, 8-bit RGB scaled to [−1, 1], full "
            "size, float32. Not applicable when a side is below 31 px."
        ),
        source="Zhang, Isola, Efros, Shechtman, Wang, CVPR 2018; lpips 0.1.4",
        decimals=4,
        takes="pair",
        tolerance=1e-6,
        function="vtbench.metrics.perceptual:open_alex",
        weights=("lpips-alex",),
        shown="overview",
        nonnegative=("lpips_alex",),
    ),
    Metric(
        key="lpips_vgg",
        label="LPIPS (VGG)",
        unit="",
        better="lower",
        version=1,
        pooled=_MEAN,
        definition=(
            "Learned perceptual distance v0.1, VGG-16 features, 8-bit RGB scaled to [−1, 1], full "
            "size, float32. Not applicable when a side is below 16 px."
        ),
        source="Zhang, Isola, Efros, Shechtman, Wang, CVPR 2018; lpips 0.1.4",
        decimals=4,
        takes="pair",
        tolerance=1e-6,
        function="vtbench.metrics.perceptual:open_vgg",
        weights=("lpips-vgg",),
        shown="overview",
        nonnegative=("lpips_vgg",),
    ),
    Metric(
        key="haarpsi",
        label="HaarPSI",
        unit="",
        better="higher",
        version=1,
        pooled=_MEAN,
        definition=(
            "Haar wavelet-based perceptual similarity of YIQ channels, C 30, α 4.2, three scales; "
            "each channel first halved by 2×2 means, which stands for the viewing distance and is "
            "part of the definition. Needs no weights. Not applicable when a side is below 16 px."
        ),
        source=(
            "Reisenhofer, Bosse, Kutyniok, Wiegand, Signal Processing: Image Communication 61, 2018; "
            "haarPsi.py of rgcda/haarpsi"
        ),
        decimals=4,
        takes="pair",
        tolerance=1e-6,
        function="vtbench.metrics.haar_similarity:haarpsi",
        shown="breakdown",
    ),
    Metric(
        key="dists",
        label="DISTS",
        unit="",
        better="lower",
        version=1,
        pooled=_MEAN,
        definition=(
            "Deep image structure and texture similarity: VGG-16 features with the authors' α and β, "
            "8-bit RGB, full size (the authors' demonstration and piq bring the shorter side to "
            "256 px first), float32. Not applicable when a side is below 17 px."
        ),
        source=(
            "Ding, Ma, Wang, Simoncelli, IEEE TPAMI 44(5) 2022; DISTS_pytorch of dingkeyan93/DISTS"
        ),
        decimals=4,
        takes="pair",
        tolerance=1e-6,
        function="vtbench.metrics.dists:Dists",
        weights=(
            "lpips-vgg",
            "dists",
        ),
        shown="breakdown",
        nonnegative=("dists",),
    ),
    Metric(
        key="rfid",
        label="rFID",
        unit="",
        better="lower",
        version=1,
        pooled=_SET,
        definition=(
            f"{_INCEPTION}; resized to 299 as TensorFlow 1 does (bilinear, grid i·in/out). ±: "
            "delete-one-group jackknife of ten. Refused up to 2048 images."
        ),
        source=f"{_FID_PAPER}; torch-fidelity 0.4",
        decimals=4,
        takes="set",
        tolerance=1e-4,
        minimum_n=2049,
    ),
    _rfid("torch-fidelity", "TensorFlow 1 bilinear; the same number as rFID", "torch-fidelity 0.4"),
    _rfid("pytorch-fid", "bilinear, half-pixel centres, not antialiased", "pytorch-fid 0.3"),
    _rfid("clean-fid", "Pillow's antialiased bicubic of float channels", "clean-fid 0.1.35"),
    _rfid("torchmetrics", "bilinear, antialiased (its default since 1.8)", "torchmetrics 1.9"),
    Metric(
        key="rfid@float64",
        label="rFID@float64",
        unit="",
        better="lower",
        version=1,
        pooled=_SET,
        definition=(
            "As rFID with the network in float64: what float32 features cost in precision. Some ten "
            "times slower."
        ),
        source=f"{_FID_PAPER}; torch-fidelity 0.4 with an internal dtype of float64",
        decimals=4,
        takes="set",
        tolerance=1e-4,
        minimum_n=2049,
    ),
    Metric(
        key="rfid_inf",
        label="rFID (n→∞, extrapolated)",
        unit="",
        better="lower",
        version=1,
        pooled=_SET,
        definition=(
            "Not measured but extrapolated: intercept of a straight line through the rFID of eight "
            "random subsets (both sides together) against 1/n. ±: of the regression. Refused below "
            "4096 images."
        ),
        source="Chong, Forsyth, CVPR 2020",
        decimals=4,
        takes="set",
        tolerance=1e-4,
        minimum_n=2049,
    ),
    Metric(
        key="kid",
        label="KID",
        unit="",
        better="lower",
        version=1,
        pooled=_SET,
        definition=(
            "Squared maximum mean discrepancy of rFID's features under (x·y/2048 + 1)³, unbiased, "
            "mean over 100 random subsets of 1000 images (all, where there are fewer). ±: jackknife "
            "over twenty groups of images and the choice of subsets. Can be below 0: the two sides "
            "are pairs, which pulls it down by about 2/n of an image's kernel with itself."
        ),
        source="Bińkowski, Sutherland, Arbel, Gretton, ICLR 2018; torch-fidelity 0.4",
        decimals=6,
        takes="set",
        tolerance=1e-4,
    ),
    Metric(
        key="inception_score",
        label="Inception Score",
        unit="",
        better=None,
        version=1,
        pooled=_SET,
        definition=(
            "exp of the mean divergence of p(class|reconstruction) from its mean, ten splits of the "
            "shuffled images, logits without bias. ±: of the mean over splits. It does not look at "
            "the originals: more of it is not a better reconstruction."
        ),
        source="Salimans et al., NeurIPS 2016; torch-fidelity 0.4",
        decimals=3,
        takes="set",
        tolerance=1e-4,
    ),
    Metric(
        key="fd_dinov2",
        label="FD-DINOv2",
        unit="",
        better="lower",
        version=1,
        pooled=_SET,
        definition=(
            "Fréchet distance between class tokens (1024) of DINOv2 ViT-L/14, both sides of the "
            "picture to 224 by Pillow's bicubic. ±: jackknife of ten groups. Refused up to 1024 "
            "images."
        ),
        source="Stein et al., NeurIPS 2023 (dgm-eval); Oquab et al., TMLR 2024",
        decimals=3,
        takes="set",
        tolerance=1e-4,
        minimum_n=1025,
    ),
    Metric(
        key="cmmd",
        label="CMMD",
        unit="",
        better="lower",
        version=1,
        pooled=_SET,
        definition=(
            "1000 × squared maximum mean discrepancy under a gaussian kernel of σ 10, biased, of "
            "unit-length CLIP ViT-L/14-336 embeddings (768), middle square to 336 by Pillow's "
            "bicubic. ±: jackknife of twenty groups."
        ),
        source="Jayasumana et al., CVPR 2024; google-research/cmmd",
        decimals=4,
        takes="set",
        tolerance=1e-4,
    ),
    Metric(
        key="dinov2_cos",
        label="DINOv2 cosine",
        unit="",
        better="higher",
        version=1,
        pooled=_MEAN,
        definition=(
            "Cosine between the class tokens of original and reconstruction, DINOv2 ViT-L/14, as for "
            "FD-DINOv2."
        ),
        source="Oquab et al., TMLR 2024",
        decimals=4,
        takes="features",
        tolerance=1e-5,
        shown="overview",
    ),
    Metric(
        key="clip_cos",
        label="CLIP cosine",
        unit="",
        better="higher",
        version=1,
        pooled=_MEAN,
        definition=(
            "Cosine between the image embeddings of original and reconstruction, CLIP ViT-L/14-336, "
            "as for CMMD."
        ),
        source="Radford et al., ICML 2021",
        decimals=4,
        takes="features",
        tolerance=1e-5,
        shown="overview",
    ),
    Metric(
        key="siglip_cos",
        label="SigLIP cosine",
        unit="",
        better="higher",
        version=1,
        pooled=_MEAN,
        definition=(
            "Cosine between the pooled image embeddings of original and reconstruction, SigLIP "
            "so400m/14-384, both sides to 384 by Pillow's bicubic."
        ),
        source="Zhai et al., ICCV 2023; google/siglip-so400m-patch14-384",
        decimals=4,
        takes="features",
        tolerance=1e-5,
        shown="overview",
    ),
    Metric(
        key="face_cos",
        label="Face cosine",
        unit="",
        better="higher",
        version=1,
        pooled=_MEAN,
        definition=(
            "Cosine between the ArcFace embeddings of original and reconstruction (insightface's "
            "antelopev2), of the face in a portrait aligned as FFHQ's are: at 256 px rows 35 to 223, "
            "columns 32 to 220, to 112 px by area."
        ),
        source="Deng et al., CVPR 2019; deepinsight/insightface; the crop of pixel2style2pixel",
        decimals=4,
        takes="features",
        tolerance=1e-5,
        shown="overview",
    ),
    Metric(
        key="contrast_transfer",
        label="Contrast transfer",
        unit="",
        better="higher",
        version=1,
        pooled="arithmetic mean over the grating patches of all charts, each with the same weight",
        definition=(
            "Coherent gain of a grating patch on Rec. 601 luma: ⟨y−ȳ, x−x̄⟩ / ⟨x−x̄, x−x̄⟩ of "
            "reconstruction y and original x. 1: kept. 0: gone. Below 0: inverted. Above 1: "
            "sharpened."
        ),
        source="after the modulation transfer of ISO 12233:2017; least-squares gain of y on x",
        takes="samples",
        tolerance=0.0,
        function="vtbench.metrics.detail:measure_gratings",
        columns={"contrast_transfer": "list<float64>", "patch_cpp": "list<float64>"},
        nonnegative=("patch_cpp",),
    ),
    Metric(
        key="mtf50_cpp",
        label="MTF50",
        unit="cycles/px",
        better="higher",
        version=1,
        pooled="one curve: the mean contrast transfer at each frequency over all charts",
        definition=(
            "Lowest frequency at which the curve falls through 0.5, linear between the measured "
            "frequencies; '≥' the highest measured one when it never does, '<' the lowest when it "
            "starts below."
        ),
        source="ISO 12233:2017 (MTF50)",
    ),
    Metric(
        key="cer",
        label="CER",
        unit="",
        better="lower",
        version=1,
        pooled="sum of edits over sum of true characters, all lines of all pages; not clipped",
        definition=(
            "Character error rate of the OCR engine's reading against the true text: Levenshtein "
            "edits / true characters, after Unicode NFKC and single spaces; case counts. Spaces do "
            "not count in scripts without words. Can pass 1."
        ),
        source="Levenshtein 1966; as jiwer.cer",
        decimals=4,
        takes="ocr",
        function="vtbench.metrics.text_pages:PageMeter",
        columns=_TEXT_COLUMNS,
        shown="overview",
    ),
    Metric(
        key="wer",
        label="WER",
        unit="",
        better="lower",
        version=1,
        pooled="sum of edits over sum of true words, all lines of all pages; not clipped",
        definition=(
            "Word error rate: Levenshtein edits over words / true words, text as for CER, words "
            "between spaces. Not applicable to scripts without spaces. Can pass 1."
        ),
        source="Levenshtein 1966; as jiwer.wer",
        decimals=4,
        takes="ocr",
        function="vtbench.metrics.text_pages:PageMeter",
        columns=_TEXT_COLUMNS,
        shown="overview",
    ),
    Metric(
        key="ned",
        label="T-NED",
        unit="",
        better="higher",
        version=1,
        pooled="mean over all lines of all pages, each line with the same weight",
        definition=(
            "Normalized edit similarity of a line: 1 − d / max(length of truth, length of reading), "
            "d the Levenshtein distance over characters, text as for CER."
        ),
        source="ICDAR 2019 ReCTS (1−N.E.D.); T-NED of TokBench, arXiv 2505.18142",
        decimals=4,
        takes="ocr",
        function="vtbench.metrics.text_pages:PageMeter",
        columns=_TEXT_COLUMNS,
        shown="overview",
        nonnegative=("glyph_px", "ned", "original_ned"),
    ),
    Metric(
        key="t_acc",
        label="T-ACC",
        unit="",
        better="higher",
        version=1,
        pooled="sum of words read over sum of true words, all lines of all pages",
        definition=(
            "Share of true words that stand unchanged in the shortest alignment of the line's words "
            "and the reading's, text as for CER: Unicode NFKC without invisible characters, single "
            "spaces. Not applicable to scripts without spaces."
        ),
        source="T-ACC of TokBench, arXiv 2505.18142, for words of lines in place of single words",
        decimals=4,
        takes="ocr",
        function="vtbench.metrics.text_pages:PageMeter",
        columns=_LEGIBILITY_COLUMNS,
    ),
    Metric(
        key="exact_lines",
        label="Exact lines",
        unit="",
        better="higher",
        version=1,
        pooled="lines read without an error over all lines of all pages",
        definition="Share of lines whose reading equals the true text, text as for CER.",
        source="vtbench.metrics.text.score_lines",
        decimals=4,
        takes="ocr",
        function="vtbench.metrics.text_pages:PageMeter",
        columns=_LEGIBILITY_COLUMNS,
    ),
    Metric(
        key="glyphs_lost",
        label="Glyphs lost",
        unit="",
        better="lower",
        version=1,
        pooled="sum of lost glyphs over sum of glyphs that were readable on the original",
        definition=(
            "Share of the true characters that the engine read on the original and did not read on "
            "the reconstruction. Read is a character that stands unchanged in the shortest alignment "
            "of truth and reading, text as for CER. What the engine misreads on the original does "
            "not count; what a reading adds does not either."
        ),
        source="vtbench.metrics.legibility.count_lost",
        decimals=4,
        takes="ocr",
        function="vtbench.metrics.text_pages:PageMeter",
        columns=_LEGIBILITY_COLUMNS,
    ),
    Metric(
        key="tokbench_t_acc",
        label="TokBench T-ACC",
        unit="",
        better="higher",
        version=1,
        pooled="mean of three buckets of word height, in each the mean over the words of all sets",
        definition=(
            "TokBench's protocol: padded to a black square by Lanczos, reconstructed, back to the "
            "picture's size by Lanczos, each word cut out at its annotated box and read alone; share "
            "of words read as they stand, case and accents and all."
        ),
        source="TokBench, arXiv 2505.18142, code at a77070c",
        decimals=4,
        takes="ocr",
        function="vtbench.metrics.text_pages:TokBenchMeter",
        columns=_TOKBENCH_COLUMNS,
    ),
    Metric(
        key="tokbench_t_ned",
        label="TokBench T-NED",
        unit="",
        better="higher",
        version=1,
        pooled="mean of three buckets of word height, in each the mean over the words of all sets",
        definition=(
            "As TokBench T-ACC; of each word 1 − Levenshtein / the longer length, no normalization."
        ),
        source="TokBench, arXiv 2505.18142, code at a77070c",
        decimals=4,
        takes="ocr",
        function="vtbench.metrics.text_pages:TokBenchMeter",
        columns=_TOKBENCH_COLUMNS,
    ),
    Metric(
        key="omnidoc_ned",
        label="OmniDoc NED",
        unit="",
        better="higher",
        version=1,
        pooled="mean over the images whose original reads as something",
        definition=(
            "OmniDoc-TokenBench's protocol: 1 − Levenshtein / the longer length of what the engine "
            "reads on the whole reconstruction against what it reads on the original, lines put "
            "together without spaces, no normalization. No true text. Its authors read by PaddleOCR."
        ),
        source="OmniDoc-TokenBench, arXiv 2605.13565, code at f2815a7",
        decimals=4,
        takes="ocr",
        function="vtbench.metrics.text_pages:OmniDocMeter",
        columns={"omnidoc_ned": "float64"},
    ),
    Metric(
        key="bpp",
        label="bpp",
        unit="bit/px",
        better="lower",
        version=1,
        pooled="sum of bits over sum of pixels",
        definition=(
            "Bits of the code per pixel of the original image: tokens × log2(codebook), continuous "
            "values × 16, codec bytes × 8; before any entropy coding of the tokens."
        ),
        source="vtbench.tokenizers.base.Code",
        decimals=4,
        takes="run",
        heading="bpp",
    ),
    Metric(
        key="entropy_bpp",
        label="Entropy bpp",
        unit="bit/px",
        better="lower",
        version=1,
        pooled="sum of ideal code lengths over sum of pixels",
        definition=(
            "Ideal code length of an image's tokens under the empirical order-0 distribution of all "
            "the suite's tokens, each codebook its own, per pixel of the original: what an "
            "arithmetic coder without context reaches once it has that distribution, which is not "
            "counted. Too low where tokens are few beside the codewords. Discrete codes only."
        ),
        source="Shannon 1948; vtbench.metrics.rate.code_length",
        decimals=4,
        takes="run",
    ),
    Metric(
        key="bpp_q8",
        label="bpp of 8-bit latents",
        unit="bit/px",
        better="lower",
        version=1,
        pooled="sum of bits over sum of pixels",
        definition=(
            "Bits per pixel of continuous latents quantized to 8 bits a value, evenly between the "
            "minimum and maximum of each image and channel, with these as float32. No entropy coding."
        ),
        source="vtbench.tokenizers.base.Code.quantize_8bit",
        decimals=4,
        takes="rows",
    ),
    Metric(
        key="psnr_q8_db",
        label="PSNR of 8-bit latents",
        unit="dB",
        better="higher",
        version=1,
        pooled=_MEAN,
        definition="PSNR of what the latents quantized as for bpp_q8 decode to. Continuous codes only.",
        source="vtbench.tokenizers.base.Code.quantize_8bit; PSNR as psnr_db",
        decimals=2,
        takes="quantized",
        tolerance=0.0,
        columns={"q8_bits": "float64", "psnr_q8_db": "float64"},
        nonnegative=("q8_bits",),
    ),
    Metric(
        key="psnr_q8_loss_db",
        label="PSNR lost by 8-bit latents",
        unit="dB",
        better="lower",
        version=1,
        pooled=_MEAN,
        definition="PSNR less the PSNR of 8-bit latents, image by image.",
        source="psnr_db, psnr_q8_db",
        decimals=3,
    ),
    Metric(
        key="tokens_counted",
        label="Tokens counted",
        unit="",
        better=None,
        version=1,
        pooled="sum over all images of the suite",
        definition="Tokens that the codebook's numbers were counted on, of all images of the suite.",
        source="vtbench.metrics.rate.Histogram",
        decimals=0,
        takes="run",
    ),
    Metric(
        key="codebooks",
        label="Codebooks",
        unit="",
        better=None,
        version=1,
        pooled="of the tokenizer",
        definition="Codebooks that a token has a word of: 1, or several for product quantizers.",
        source="vtbench.tokenizers.base.Code",
        decimals=0,
        takes="run",
    ),
    Metric(
        key="codewords",
        label="Codewords",
        unit="",
        better=None,
        version=1,
        pooled="sum over codebooks",
        definition="Words of the codebook; of all codebooks together where there are several.",
        source="vtbench.tokenizers.base.Code",
        decimals=0,
        takes="run",
    ),
    Metric(
        key="codebook_usage",
        label="Usage",
        unit="",
        better="higher",
        version=1,
        pooled="over all tokens of the suite; the mean over codebooks where there are several",
        definition=(
            "Share of the codewords that were used at least once. It grows with the tokens counted "
            "and cannot pass their number. Not applicable to codebooks counted bit by bit (more "
            "than 2^20 words)."
        ),
        source="VQGAN-LC, arXiv 2406.11837; vtbench.metrics.rate.codebook_usage",
        decimals=4,
        takes="run",
    ),
    Metric(
        key="codebook_perplexity",
        label="Perplexity",
        unit="",
        better="higher",
        version=1,
        pooled="over all tokens of the suite; 2^(mean entropy) where there are several codebooks",
        definition=(
            "2^H, H the empirical entropy of a codebook's words: how many evenly used words would "
            "be as hard to guess. Not applicable to codebooks counted bit by bit."
        ),
        source="van den Oord, Vinyals, Kavukcuoglu, NeurIPS 2017; vtbench.metrics.rate",
        decimals=1,
        takes="run",
    ),
    Metric(
        key="token_bits",
        label="Bits",
        unit="bit/token",
        better=None,
        version=1,
        pooled="of the tokenizer",
        definition="Nominal bits of a token: log2 of the codewords, summed over its codebooks.",
        source="vtbench.tokenizers.base.Code",
        decimals=2,
        takes="run",
    ),
    Metric(
        key="token_entropy_bits",
        label="Entropy",
        unit="bit/token",
        better=None,
        version=1,
        pooled="over all tokens of the suite",
        definition=(
            "Empirical order-0 entropy of a token, summed over its codebooks; of a codebook counted "
            "bit by bit the sum of its bits' entropies, an upper bound. Maximum likelihood: too low "
            "where tokens are few beside the codewords."
        ),
        source="Shannon 1948; vtbench.metrics.rate.token_entropy",
        decimals=3,
        takes="run",
    ),
    Metric(
        key="bits",
        label="Bits",
        unit="bit/image",
        better="lower",
        version=1,
        pooled=_MEAN,
        definition="Nominal bits of an image's code, counted as for bpp.",
        source="vtbench.tokenizers.base.Code",
        decimals=0,
        takes="run",
        heading="Bits/image",
    ),
    Metric(
        key="tokens",
        label="Tokens",
        unit="token/image",
        better="lower",
        version=1,
        pooled=_MEAN,
        definition=(
            "Positions of the code that a generator would have to predict: latent positions or "
            "indices; bytes of a codec's file; pixels for rows that are pixels. Tokens of different "
            "tokenizers carry different bits: read it beside bpp."
        ),
        source="vtbench.tokenizers.base.Code",
        decimals=0,
        takes="run",
        heading="Tokens/image",
    ),
    Metric(
        key="encode_images_per_s",
        label="Encode",
        unit="image/s",
        better="higher",
        version=1,
        pooled="images over the sum of their seconds",
        definition="Images over wall-clock seconds in encode, device synchronized, after warm-up.",
        source="vtbench.runs.runner",
        decimals=2,
        takes="run",
    ),
    Metric(
        key="decode_images_per_s",
        label="Decode",
        unit="image/s",
        better="higher",
        version=1,
        pooled="images over the sum of their seconds",
        definition="Images over wall-clock seconds in decode, device synchronized, after warm-up.",
        source="vtbench.runs.runner",
        decimals=2,
        takes="run",
    ),
    Metric(
        key="peak_memory_mib",
        label="Peak memory",
        unit="MiB",
        better="lower",
        version=1,
        pooled="maximum over batches",
        definition=(
            "Peak memory of encode and decode of a batch: allocated on the device (CUDA), or resident "
            "in the process above what it held before the tokenizer was built (Linux)."
        ),
        source="torch.cuda.max_memory_allocated; VmHWM of /proc/self/status",
        decimals=0,
        takes="run",
    ),
    *DETAIL,
    *FACES,
)


Distance = Literal[
    "frechet",
    "frechet-jackknife",
    "frechet-limit",
    "kernel",
    "clip-mmd",
    "inception-score",
    "cosine",
]
"""How two sets of features are compared: `metrics.distribution.measure_set`; cosine is an image's."""


@dataclass(frozen=True)
class FeatureSource:
    """Which network's features a metric compares, how, which resizing of the FID Inception, and the
    dtype that the network runs in."""

    network: str
    distance: Distance
    resizing: str = ""
    dtype: str = "float32"


FEATURE_SOURCES: Mapping[str, FeatureSource] = MappingProxyType(
    {
        "rfid": FeatureSource("fid-inception", "frechet-jackknife", "tf1"),
        "rfid@torch-fidelity": FeatureSource("fid-inception", "frechet", "tf1"),
        "rfid@pytorch-fid": FeatureSource("fid-inception", "frechet", "half-pixel"),
        "rfid@clean-fid": FeatureSource("fid-inception", "frechet", "pil-bicubic"),
        "rfid@torchmetrics": FeatureSource("fid-inception", "frechet", "antialias"),
        "rfid@float64": FeatureSource("fid-inception", "frechet", "tf1", "float64"),
        "rfid_inf": FeatureSource("fid-inception", "frechet-limit", "tf1"),
        "kid": FeatureSource("fid-inception", "kernel", "tf1"),
        "inception_score": FeatureSource("fid-inception", "inception-score", "tf1"),
        "fd_dinov2": FeatureSource("dinov2-vitl14", "frechet-jackknife"),
        "cmmd": FeatureSource("clip-vitl14-336", "clip-mmd"),
        "dinov2_cos": FeatureSource("dinov2-vitl14", "cosine"),
        "clip_cos": FeatureSource("clip-vitl14-336", "cosine"),
        "siglip_cos": FeatureSource("siglip-so400m", "cosine"),
        "face_cos": FeatureSource("antelopev2", "cosine"),
    }
)
"""The metrics of deep features, in the order of the tables."""

COSINE_METRICS = tuple(key for key, s in FEATURE_SOURCES.items() if s.distance == "cosine")
"""Those of them that have a value an image."""

SET_METRICS = tuple(key for key in FEATURE_SOURCES if key not in COSINE_METRICS)
"""Those that have one value for all images of a task."""

SET_TASK = "reconstruction"
"""The only task whose images are alike enough to be a distribution."""


def _all_metrics() -> Mapping[str, Metric]:
    """Return vtbench's metrics and, after them, those of installed packages."""
    metrics = {metric.key: metric for metric in _ALL}
    for module, offered in plugins.load_offers(plugins.METRICS, "METRICS"):
        if not isinstance(offered, list | tuple) or not all(isinstance(m, Metric) for m in offered):
            plugins.leave_out(module, plugins.METRICS, "METRICS is no sequence of Metric")
            continue
        for metric in offered:
            if metric.key in metrics:
                raise RegistryError(f"{module}: a metric {metric.key!r} exists already")
            metrics[metric.key] = metric
    return metrics


METRICS: Mapping[str, Metric] = plugins.LazyMapping(_all_metrics)
"""Every metric that a suite may name, by key, in the order of the tables."""

METRIC_LISTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "standard@1": (
            *("psnr_db", "mae", "ssim", "ms_ssim", "lpips_alex", "lpips_vgg", "haarpsi", "dists"),
        ),
        "semantic@1": ("dinov2_cos", "clip_cos", "siglip_cos"),
        "sets@1": ("rfid", "kid", "inception_score", "fd_dinov2", "cmmd"),
        "text@1": ("cer", "wer", "ned"),
        "charts@1": CHARTS_1,
        "pictures@1": PICTURES_1,
        "pictures@2": PICTURES_2,
        "text@2": ("cer", "wer", "ned", "t_acc", "exact_lines", "glyphs_lost"),
    }
)
"""Lists that suites name in place of their members. A list never changes; a longer one is another
version. They are resolved before a suite's digest, so naming one or its members is the same."""
