"""`vtbench demo`: a page on this machine that takes an image through several tokenizers."""

from __future__ import annotations

import importlib
import importlib.util
import multiprocessing
import multiprocessing.process
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import click

from vtbench.base.errors import VtbenchError
from vtbench.base.locations import cache_dir
from vtbench.commands.complaints import complain, open_log
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
    asked = Asked(
        names=tuple(chosen),
        device=device,
        dtype=dtype,
        ocr=ocr,
        max_pixels=max_pixels,
        registries=registries,
        weights=weights,
    )
    with private_folder() as folder:
        server: multiprocessing.process.BaseProcess | None = None
        try:
            with listen(port) as listener:
                if importlib.util.find_spec("gradio") is None:
                    raise VtbenchError(NEEDS_GRADIO.format("it is not installed"))
                server = multiprocessing.get_context("spawn").Process(
                    target=run_server, args=(asked, listener, folder)
                )
                server.start()
            server.join()
        except KeyboardInterrupt:  # how it ends
            click.echo()
            return
        finally:
            if server is not None and server.pid is not None:
                server.kill()
                server.join()
    if server is not None and server.exitcode:
        if server.exitcode < 0:
            complain(f"demo: the process of the page was ended by signal {-server.exitcode}")
        raise click.exceptions.Exit(max(server.exitcode, 1))


@dataclass(frozen=True)
class Asked:
    """What the command line asked for, as the options of `vtbench demo` say it."""

    names: tuple[str, ...]
    device: str
    dtype: str
    ocr: str
    max_pixels: int | None
    registries: tuple[Path, ...]
    weights: tuple[str, ...]


def run_server(asked: Asked, listener: socket.socket, folder: Path) -> None:
    """Serve the page in a process of its own until that process is killed.

    A comparison runs inside libraries that cannot be interrupted. Its process can be killed at any
    moment: it keeps nothing but files in the folder, which its parent removes. It exits with 2 and a
    line where gradio cannot be imported, and by itself when its parent is gone.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # Ctrl-C reaches both; the parent decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    tempfile.tempdir = str(folder)
    open_log()
    try:
        try:
            importlib.import_module("gradio")
        except ImportError as error:
            raise VtbenchError(NEEDS_GRADIO.format(error)) from None
        _serve(asked, listener, folder)
    except VtbenchError as error:
        complain(*error.args)
        raise SystemExit(error.exit_code) from None


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _serve(asked: Asked, listener: socket.socket, folder: Path) -> None:
    from vtbench.commands.demo_page import build_page, serve_page
    from vtbench.commands.progress import silence_libraries
    from vtbench.evaluation.side_by_side import SideBySide
    from vtbench.registry.entries import load_registry
    from vtbench.runs.request import parse_weights

    silence_libraries()
    registry = load_registry(asked.registries)
    local = parse_weights(asked.weights, registry)
    comparer = SideBySide(
        registry,
        device=asked.device,
        dtype=asked.dtype,
        weights=local,
        ocr=asked.ocr,
        max_pixels=asked.max_pixels,
    )
    for name in local:  # files that do not fit end the command, as they end any other
        comparer.open(name)
    page = build_page(comparer, asked.names, folder)
    click.echo(f"http://{HOST}:{listener.getsockname()[1]}  (Ctrl-C ends it)")
    serve_page(page, listener, folder)


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
        "TMPDIR": str(folder),
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
