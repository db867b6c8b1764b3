"""The page of `vtbench demo`: its fields, what they show, and the server behind it."""

from __future__ import annotations

import html
import shutil
import socket
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio

from vtbench.base.errors import VtbenchError, WeightsMissing
from vtbench.base.files import write_atomic
from vtbench.evaluation.side_by_side import (
    ERROR_GAIN,
    Comparison,
    Reading,
    Reconstructed,
    SideBySide,
)
from vtbench.images import MAX_PIXELS, encode_png, load_rgb8
from vtbench.metrics.ocr.reader import SCRIPTS
from vtbench.weights.entries import find_weights

NOTHING = "none"
"""The choice of a script under which nothing is read."""

KEPT_COMPARISONS = 8
"""Comparisons whose pictures stay on the disk; older ones are removed."""

MAX_FILE_BYTES = 512 * 2**20
"""Largest file that the page takes, in bytes; the number of pixels is limited by itself."""

POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; "
    "style-src 'self' 'unsafe-inline'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "worker-src 'self' blob:; frame-ancestors 'none'"
)
"""The Content-Security-Policy: the browser asks no other host for anything."""

STYLE = """
.sides { display: flex; gap: 12px; overflow-x: auto; align-items: flex-start }
.side { flex: 0 0 auto; max-width: 520px }
.side h3 { margin: 0 0 4px; overflow-wrap: anywhere }
.side img { display: block; max-width: 100%; margin-bottom: 4px }
.side pre { white-space: pre-wrap; overflow-wrap: anywhere; max-height: 16em; overflow-y: auto }
.side td { padding: 0 10px 0 0 } .side td + td { text-align: right }
"""


def build_page(comparer: SideBySide, chosen: Sequence[str], folder: Path) -> Any:
    """Return the page, not yet served.

    Args:
        comparer: What measures.
        chosen: Names of tokenizers that are chosen when the page opens.
        folder: Where pictures go.
    """

    def compare(path: str | None, names: list[str], script: str) -> str:
        return show_comparison(comparer, path, names, script, folder)

    with gradio.Blocks(title="vtbench demo", analytics_enabled=False) as page:
        gradio.Markdown("## vtbench: one image after several tokenizers")
        with gradio.Row():
            with gradio.Column():
                image = gradio.File(label="Image", file_count="single", elem_id="image")
                # Beside the lists, not below them: an open list covers what is below it.
                button = gradio.Button("Compare", variant="primary", elem_id="compare")
            with gradio.Column():
                names = gradio.Dropdown(
                    label="Tokenizers",
                    choices=list_choices(comparer),
                    value=list(chosen),
                    multiselect=True,
                    elem_id="tokenizers",
                )
                script = gradio.Dropdown(
                    label="Read text with OCR, script",
                    choices=[*SCRIPTS, NOTHING],
                    value="latin",
                    elem_id="script",
                )
        shown = gradio.HTML(elem_id="shown")
        button.click(compare, [image, names, script], shown, concurrency_limit=1)
    return page


def list_choices(comparer: SideBySide) -> list[tuple[str, str]]:
    """Return (label, name) of each tokenizer: those whose weights are here first, the others marked."""
    here, missing = [], []
    for name, entry in comparer.registry.items():
        try:
            find_weights(entry, comparer.weights.get(name))
        except WeightsMissing:
            missing.append((f"{name} (weights missing)", name))
        else:
            here.append((name, name))
    return here + missing


def show_comparison(
    comparer: SideBySide, path: str | None, names: Sequence[str], script: str, folder: Path
) -> str:
    """Return the HTML of an image beside its reconstructions; what is wrong stands in it.

    Args:
        comparer: What measures.
        path: The image's file, below `folder`: a request may name any file of this machine.
        names: The tokenizers.
        script: A script, or NOTHING.
        folder: Where uploads are and pictures go.
    """
    if path is None or folder not in Path(path).resolve().parents:
        return _say("Choose an image first.")
    if not names:
        return _say("Choose one or more tokenizers.")
    try:
        picture = load_rgb8(Path(path), max_pixels=comparer.max_pixels or MAX_PIXELS)
    except VtbenchError as error:
        return _say(str(error).replace(f"{path}: ", ""))
    comparison = comparer.compare(picture, names, script=None if script == NOTHING else script)
    place = Path(tempfile.mkdtemp(prefix="shown-", dir=folder))
    _remove_older(folder)
    return render_comparison(comparison, Path(path).name, place)


def _remove_older(folder: Path) -> None:
    made = sorted(folder.glob("shown-*"), key=lambda path: path.stat().st_mtime_ns)
    for old in made[:-KEPT_COMPARISONS]:
        shutil.rmtree(old, ignore_errors=True)


def render_comparison(comparison: Comparison, title: str, place: Path) -> str:
    """Return the HTML of a comparison, and write its pictures as PNG files into a folder.

    Args:
        comparison: What is shown.
        title: The image's name.
        place: The folder, whose files the page may serve.
    """
    height, width = comparison.original.shape[:2]
    original = [
        f"<h3>{html.escape(title)}</h3>",
        _picture(comparison.original, place / "original.png", "original"),
        f"<p>original, {width}×{height}</p>",
        _reading(comparison.reading),
    ]
    if comparison.unread is not None:
        original.append(f"<p>not read: {html.escape(comparison.unread)}</p>")
    sides = ["".join(original)]
    for number, one in enumerate(comparison.reconstructed):
        sides.append(_side(one, place, number))
    return "<div class='sides'>" + "".join(f"<div class='side'>{s}</div>" for s in sides) + "</div>"


def _side(one: Reconstructed, place: Path, number: int) -> str:
    name = html.escape(one.name)
    head = f"<h3>{name}</h3>"
    if one.image is None or one.error is None:
        return f"{head}<p><b>{one.state}</b>: {html.escape(one.reason or '')}</p>"
    rows = {"tokens": f"{one.tokens:.0f}", "bits per pixel": f"{one.bpp:.4f}"}
    for score in one.scores:
        if score.key == "reconstruction.bpp":
            continue
        known = score.value is not None
        rows[score.label] = f"{score.value:.4g}" if known else f"{score.state}: {score.reason}"
    return "".join(
        [
            head,
            _picture(one.image, place / f"{number}.png", f"{one.name}: reconstruction"),
            _picture(one.error, place / f"{number}.error.png", f"{one.name}: error map"),
            f"<p>error map: largest difference of the channels × {ERROR_GAIN}</p>",
            _table(rows),
            _reading(one.reading),
        ]
    )


def _picture(pixels: Any, path: Path, what: str) -> str:
    write_atomic(path, encode_png(pixels))
    address = quote(str(path))
    return f"<img src='/gradio_api/file={address}' alt='{html.escape(what, quote=True)}'>"


def _table(rows: Mapping[str, str]) -> str:
    cells = (
        f"<tr><td>{html.escape(a)}</td><td>{html.escape(b)}</td></tr>" for a, b in rows.items()
    )
    return f"<table>{''.join(cells)}</table>"


def _reading(reading: Reading | None) -> str:
    if reading is None:
        return ""
    text = html.escape("\n".join(reading.lines)) or "(no text found)"
    rate = "" if reading.cer is None else f", CER {reading.cer:.4f} against the original's reading"
    return f"<p>OCR{rate}</p><pre>{text}</pre>"


def _say(text: str) -> str:
    return f"<p role='alert'>{html.escape(text)}</p>"


def serve_page(page: Any, listener: socket.socket, folder: Path) -> None:
    """Serve a page on a bound socket until the process is interrupted.

    Requests under another host's name are refused: a page of a stranger whose name leads to
    127.0.0.1 could read answers otherwise.
    """
    import uvicorn
    from fastapi import FastAPI, Request
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    async def add_policy(request: Request, answer: Any) -> Any:
        response = await answer(request)
        response.headers["Content-Security-Policy"] = POLICY
        return response

    app.middleware("http")(add_policy)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])
    system = gradio.themes.Default(
        font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    )
    gradio.mount_gradio_app(
        app,
        page,
        path="/",
        server_name="127.0.0.1",
        server_port=listener.getsockname()[1],
        allowed_paths=[str(folder)],
        max_file_size=MAX_FILE_BYTES,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        pwa=False,
        show_error=False,
        theme=system,
        css=STYLE,
    )
    settings = uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1)
    uvicorn.Server(settings).run(sockets=[listener])
