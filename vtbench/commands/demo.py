"""`vtbench demo`: a page on this machine that takes an image through several tokenizers."""

from __future__ import annotations

import importlib
import os
import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click

from vtbench.base.errors import VtbenchError
from vtbench.base.locations import cache_dir
from vtbench.commands.options import (
    device_option,
    dtype_option,
    max_pixels_option,
    registry_option,
    weights_option,
)

HOST = "127.0.0.1"
"""The only address that the page listens on; there is no option for another."""

PORT = 7860

NEEDS_GRADIO = 'demo: gradio cannot be imported ({}): `pip install "vtbench[demo]"`'


@click.command("demo")
@click.option(
    "--tokenizer",
    "-t",
    "names",
    multiple=True,
    metavar="NAME",
    help="Chosen when the page opens. Repeatable, or separated by commas.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=PORT,
    show_default=True,
    help="Port on 127.0.0.1; 0 takes a free one.",
)
@click.option(
    "--ocr", default="rapidocr", show_default=True, help="The OCR engine that reads text."
)
@dtype_option
@device_option
@max_pixels_option
@registry_option
@weights_option
def demo_command(
    names: tuple[str, ...],
    port: int,
    ocr: str,
    dtype: str,
    device: str,
    max_pixels: int | None,
    registries: tuple[Path, ...],
    weights: tuple[str, ...],
) -> None:
    """Open a local page that shows an image after several tokenizers, side by side.

    The page takes an image and the names of tokenizers. It shows reconstructions, error maps, rates,
    scores, and what an OCR engine reads. It listens on 127.0.0.1 alone, sends nothing to the network
    and keeps its files in a temporary folder until Ctrl-C ends it. It needs the extra `demo`.
    """
    from vtbench.metrics.ocr import ENGINES
    from vtbench.registry.entries import load_registry

    registry = load_registry(registries)
    chosen = [part for name in names for part in name.split(",") if part]
    for name in chosen:
        registry[name]  # raises UnknownName
    if ocr not in ENGINES:
        from vtbench.base.errors import UnknownName

        raise UnknownName("ocr engine", ocr, list(ENGINES))
    with private_folder() as folder, listen(port) as listener:
        try:
            importlib.import_module("gradio")
        except ImportError as error:
            raise VtbenchError(NEEDS_GRADIO.format(error)) from None
        from vtbench.commands.demo_page import build_page, serve_page
        from vtbench.commands.progress import silence_libraries
        from vtbench.evaluation.side_by_side import SideBySide
        from vtbench.runs.request import parse_weights

        silence_libraries()
        local = parse_weights(weights, registry)
        comparer = SideBySide(
            registry, device=device, dtype=dtype, weights=local, ocr=ocr, max_pixels=max_pixels
        )
        for name in local:  # files that do not fit end the command, as they end any other
            comparer.open(name)
        page = build_page(comparer, chosen, folder)
        click.echo(f"http://{HOST}:{listener.getsockname()[1]}  (Ctrl-C ends it)")
        try:
            serve_page(page, listener, folder)
        except KeyboardInterrupt:  # how it ends
            click.echo()


@contextmanager
def private_folder() -> Iterator[Path]:
    """Make a temporary folder that holds every file of this process, and remove it at the end.

    The folder is removed after SIGTERM too. Libraries read from the environment where
    they may write, when they are imported.
    """
    usual, environment = tempfile.tempdir, dict(os.environ)
    before = signal.signal(signal.SIGTERM, _interrupt)
    with tempfile.TemporaryDirectory(prefix="vtbench-demo-", ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        os.environ |= place_files(folder)
        tempfile.tempdir = str(folder)
        try:
            yield folder
        finally:
            tempfile.tempdir = usual
            os.environ.clear()
            os.environ |= environment
            signal.signal(signal.SIGTERM, before)


def place_files(folder: Path) -> dict[str, str]:
    """Return the environment variables by which libraries write into a folder and report nothing.

    Downloaded weights are read where they are: below the usual cache.
    """
    usual = cache_dir().parent
    return {
        "GRADIO_TEMP_DIR": str(folder / "gradio"),
        "GRADIO_ANALYTICS_ENABLED": "False",
        "MPLCONFIGDIR": str(folder / "matplotlib"),
        "TORCH_HOME": os.environ.get("TORCH_HOME", str(usual / "torch")),
        "HF_HOME": os.environ.get("HF_HOME", str(usual / "huggingface")),
        "XDG_CACHE_HOME": str(folder / "cache"),
    }


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextmanager
def listen(port: int) -> Iterator[socket.socket]:
    """Return a socket that is bound to a port of 127.0.0.1. Raises VtbenchError where it is taken."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        if os.name == "posix":  # a port that was closed a moment ago is free
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
            listener.listen()  # who comes before the page is ready waits
        except OSError as error:
            raise VtbenchError(
                f"demo: port {port} cannot be used ({error.strerror}): give another --port, or 0"
            ) from None
        yield listener
