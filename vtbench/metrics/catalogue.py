"""What every metric is: label, unit, direction, how images pool, definition and source. No torch.

The code that computes a metric is named after its key or stands in its module: `pixel`, `haarpsi`,
`perceptual`, `dists`, `detail`, `text`, `rate`. `bpp`, `bits`, `tokens`, what is counted of a
codebook and the costs come from the run itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from vtbench.records import Metric

_MEAN = "arithmetic mean over images, each image with the same weight"

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
        source="vtbench.tokenizers.base.Code.quantize8",
        decimals=4,
    ),
    Metric(
        key="psnr_q8_db",
        label="PSNR of 8-bit latents",
        unit="dB",
        better="higher",
        version=1,
        pooled=_MEAN,
        definition="PSNR of what the latents quantized as for bpp_q8 decode to. Continuous codes only.",
        source="vtbench.tokenizers.base.Code.quantize8; PSNR as psnr_db",
        decimals=2,
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
    ),
    Metric(
        key="encode_images_per_s",
        label="Encode",
        unit="image/s",
        better="higher",
        version=1,
        pooled="images over the sum of their seconds",
        definition="Images over wall-clock seconds in encode, device synchronized, after warm-up.",
        source="vtbench.runner",
        decimals=2,
    ),
    Metric(
        key="decode_images_per_s",
        label="Decode",
        unit="image/s",
        better="higher",
        version=1,
        pooled="images over the sum of their seconds",
        definition="Images over wall-clock seconds in decode, device synchronized, after warm-up.",
        source="vtbench.runner",
        decimals=2,
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
    ),
)

METRICS: Mapping[str, Metric] = MappingProxyType({metric.key: metric for metric in _ALL})
"""Every metric that a suite may name, by key, in the order of the tables."""
