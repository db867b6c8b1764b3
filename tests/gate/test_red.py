"""The cases of the red team's tables, and the test in which each is refused.

A case is named as its row of `RED.md`; where that file is, every row of its tables that was "WRONG" has
its test here. "open" rows have one where a check exists by now.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
RED = HERE.parent.parent.parent / "shared" / "RED.md"

YAML = "test_reading.py::test_yaml_that_is_not_plain_is_refused"
ENTRY = "test_entries.py::test_entries_that_mislead_are_refused"
NAME = "test_entries.py::test_names_that_are_no_folder_of_a_run_are_refused"
SIZE = "test_architectures.py::test_an_architecture_that_is_too_large_is_refused"
NO_FILE = "test_reading.py::test_what_is_no_regular_file_is_not_read"
SHOWN = "test_reading.py::test_text_is_shown_as_it_is"
TABLE = "test_reading.py::test_a_table_of_the_terminal_has_a_line_a_row"
ROWS = "test_tampering.py::test_rows_that_were_made_up_are_found"
RECORD = "test_tampering.py::test_records_that_were_made_up_are_found"
UNFIT = "test_tampering.py::test_what_is_unfit_to_be_published_is_refused"
SUITE = "test_tampering.py::test_a_suite_that_was_made_up_is_found"
FILES = "test_tampering.py::test_files_that_were_changed_are_found"
OTHERS = "test_tampering.py::test_one_tokenizers_rows_under_anothers_name_are_found"
SEALED = "test_sealed_results.py::test_a_row_that_cannot_be_is_named"
SET = "test_sealed_results.py::test_a_set_metric_that_no_other_run_has_breaks_no_table"
NO_RUN_FILE = "test_sealed_results.py::test_what_is_no_file_of_a_run_is_not_read"
JSON = "test_sealed_results.py::test_json_that_is_none_is_named"
TEXT = "test_sealed_results.py::test_text_of_strangers_reaches_no_table_as_it_is"
RUN = "test_sealed_results.py::test_a_runs_name_is_a_name"
TYPES = "test_reading.py::test_parquet_of_other_columns_is_refused"
HUGE = "test_reading.py::test_small_parquet_files_that_would_be_huge_are_refused"
KEY = "test_pixel_hashes.py::test_an_edited_record_has_not_its_key"
PUBLISH = "../commands/test_publish.py::test_the_files_of_a_run_are_published_and_no_other"

TESTS: dict[str, tuple[str, ...]] = {
    YAML: (
        "M2",
        *("tag-float-of-text", "tag-bool-of-text", "tag-binary-title", "tag-binary-option-show"),
        *("date-that-is-none", "time-that-is-none", "int-hex-of-200000"),
        *("float-sexagesimal-overflow", "nesting-flow-300-show", "nesting-flow-300-run"),
        *("merge-of-name", "merge-of-path", "merge-of-reported", "key-with-newline-fakes-a-line"),
        *("key-bidi", "key-10000-characters", "control-raw", "digest-of-a-set"),
        *("digest-date-is-text", "title-escape-list", "title-zero-width", "gmac-inf"),
        *("input-range-nan", "parameters-1e400"),
    ),
    ENTRY: (
        *("H5", "M3"),
        *("title-newline-list", "title-blank", "parameters-bool", "size-fixed-1e9", "size-fixed-0"),
        *("adapter-os-system", "adapter-cli-main", "weights-package-dotdot"),
        *("weights-package-absolute", "weights-local-dotdot", "weights-page-file-dotdot"),
        *("weights-page-beside-dotdot", "weights-page-userinfo", "weights-hub-repo-dots"),
        *("weights-hub-file-backslash", "weights-hub-pinned-by-nothing"),
        *("weights-hub-pinned-in-part", "paper-javascript"),
    ),
    NAME: (
        *("name-bidi", "name-dots", "name-con", "name-com1-dots", "name-suite-json"),
        *("name-originals", "name-250-characters", "name-250-characters-run"),
    ),
    SIZE: ("channels-1e9-random", "channels-20000-random", "blocks-1e9-measure"),
    NO_FILE: ("fifo-list", "symlink-dev-zero", "symlink-proc-environ", "symlink-outside-good"),
    "test_tampering.py::test_plots_do_nothing": ("svg-script",),
    ROWS: (
        "H1",
        *("psnr-raised-mse-kept", "mae-above-rmse", "mae-tiny", "ms-ssim-above-one"),
        *("haarpsi-above-one", "metric-null-in-some-rows", "contrast-transfer-above-one"),
        *("patches-dropped", "cer-zero-reading-kept", "chars-inflated", "char-edits-negative"),
        *("original-edits-raised", "bits-halved-discrete", "tokens-alone", "bits-negative"),
        *("width-doubled", "q8-claimed", "time-negative", "batch-size-zero"),
        *("image-sha256-changed", "image-sha256-null", "subset-moved", "glyphs-relabelled"),
    ),
    "test_tampering.py::test_a_picture_of_more_error_than_its_image_is_found": (
        "psnr-and-mse-raised-10db",
    ),
    "test_tampering.py::test_a_codecs_bits_are_its_bytes": ("bits-halved-codec",),
    "../commands/test_verify.py::test_rows_that_were_made_up_differ": (
        *("bits-and-bytes-halved-codec", "ssim-raised-plausibly"),
    ),
    "test_tampering.py::test_entropy_stays_with_its_tokens": ("entropy-moved-between-tasks",),
    "test_tampering.py::test_codes_are_of_all_tokens": ("codes-fewer-than-tokens",),
    "test_tampering.py::test_numbers_of_another_image_are_found": (
        *("numbers-of-an-easy-image", "image-duplicated-under-another-id"),
    ),
    SEALED: (
        "M8",
        *("mse-negative", "width-zero", "memory-negative", "parquet-nan-without-tables"),
        *("parquet-null-id", "parquet-null-subset"),
    ),
    FILES: (
        *("tables-removed", "panel-is-the-original", "panel-errors-black", "panel-missing"),
        *("panel-png-bomb", "panel-png-polyglot", "panel-unlisted-picture", "extra-so"),
        *("extra-hidden", "extra-huge", "extra-symlink-passwd"),
    ),
    OTHERS: ("identity-as-another", "identity-as-an-unknown-name"),
    RECORD: (
        *("facts-changed", "family-sanity", "weights-digest-changed", "weights-none"),
        *("seed-changed", "dtype-changed", "posterior-sample", "metric-record-removed"),
        *("tasks-fewer", "run-json-seconds-negative", "run-json-started-in-2999"),
    ),
    "test_tampering.py::test_metrics_have_a_version_that_there_is": ("metric-version-changed",),
    UNFIT: ("dirty", "no-commit"),
    KEY: ("versions-changed", "code-digest-changed"),
    SET: ("set-metric-claimed", "set-metric-negative", "M7"),
    SUITE: (
        *("suite-digest-of-all-changed", "suite-title-changed", "suite-cost-subset-changed"),
        *("suite-unpinned-claimed-published", "suite-skipped-invented"),
    ),
    "test_tampering.py::test_panel_sizes_are_those_of_the_pictures": ("suite-panel-sizes",),
    NO_RUN_FILE: (
        *("run-json-symlink-zero", "parquet-symlink-zero", "run-json-4gb", "parquet-4gb"),
    ),
    JSON: ("run-json-deep-inside", "run-json-key-twice", "suite-json-deep"),
    TYPES: (
        *("parquet-psnr-as-decimal", "parquet-psnr-as-bool", "parquet-psnr-as-timestamp"),
        *("parquet-tokens-as-float", "parquet-task-as-int", "parquet-readings-as-text"),
        *("parquet-null-in-list",),
    ),
    "test_tampering.py::test_a_count_without_its_errors_is_found": (
        "parquet-chars-null-edits-not",
    ),
    HUGE: ("parquet-30-million-rows",),
    RUN: ("run-name-markup", "run-name-bidi", "run-name-trailing-space", "run-name-pipe-newline"),
    TEXT: ("inject-text", "inject-csv-formula", "L1", "L2"),
    PUBLISH: ("publish-extra-py", "publish-hidden"),
    "../commands/test_publish.py::test_a_suite_that_names_a_path_is_refused": (
        "publish-suite-name-leaves-results",
    ),
    # The findings in words. H1, M2, M3 and M8 are whole tables, each with a test above. The low ones
    # are numbered as they stand there.
    SHOWN: ("L1",),
    "test_tampering.py::test_plots_are_the_boards": ("L3",),
    "../faults/test_changing.py::test_a_picture_that_is_replaced_during_a_run_fails_by_name": (
        "L4",
    ),
    "../faults/test_output.py::test_a_run_that_cannot_be_printed_is_measured_and_written": ("L5",),
    "../test_picture_file.py::test_16_bit_png_is_rounded_and_not_cut": ("L6",),
    "../faults/test_output.py::test_a_home_that_cannot_be_written_says_nothing_of_other_programs": (
        "L6",
    ),
    "test_entries.py::test_a_tokenizer_that_cannot_be_built_fails_alone": ("M1",),
    "../faults/test_folders.py::test_a_run_of_any_folder_ends_and_accounts_for_everything": ("M6",),
    "../commands/test_publish.py::test_a_linked_file_is_not_copied": ("C2",),
    "../test_images.py::test_postscript_is_no_image_and_starts_no_program": ("H2",),
    "../test_images.py::test_a_damaged_file_is_an_image_error_whatever_its_decoder_raises": ("H3",),
    "../faults/test_exits.py::test_some_twenty_processes_end_by_themselves": ("H4",),
    "test_weights.py::test_a_claim_counts_for_no_other_file": ("H6",),
    "test_weights.py::test_a_compressed_archive_is_not_inflated": ("M9",),
    "test_weights.py::test_the_process_cannot_fork_nor_write_its_parents_memory": ("M10",),
    "../faults/test_large_pictures.py::test_24_megapixels_are_measured_within_2_gib": ("M11",),
    "../faults/test_kills.py::test_five_kills_leave_the_same_rows_and_pictures": ("M12",),
    "../faults/test_kills.py::test_a_run_that_another_process_writes_is_refused": ("M4",),
    "../faults/test_surroundings.py::test_what_no_run_wrote_into_a_partial_file_is_dropped": (
        "M5",
    ),
}
"""By test, the rows that it refuses."""


@pytest.mark.parametrize("test", TESTS)
def test_the_case_has_its_test(test: str) -> None:
    file, _, name = test.partition("::")
    tree = ast.parse((HERE / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_row_that_was_wrong_has_a_test() -> None:
    if not RED.is_file():
        pytest.skip("shared/RED.md is not here")
    text = RED.read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([a-z0-9-]+) \| WRONG \|", text, re.MULTILINE)
    rows += re.findall(r"^\*\*([HM][0-9]+|C2) ", text, re.MULTILINE)
    low = text.partition("\n## Low\n")[2].partition("\n## ")[0]
    rows += [f"L{n + 1}" for n in range(len(re.findall(r"^- ", low, re.MULTILINE)))]
    assert "L6" in rows
    assert len(rows) > 100
    known = {case for cases in TESTS.values() for case in cases}
    assert set(rows) - known == set()
