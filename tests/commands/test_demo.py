"""The demo in a real Chromium: an image in, pictures and numbers out, nothing beyond this machine."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
from builders import page as text_page

from vtbench.base.locations import package_dir
from vtbench.cli import main
from vtbench.images import encode_png

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

needs_gradio = pytest.mark.skipif(
    importlib.util.find_spec("gradio") is None, reason="needs the extra demo (gradio)"
)
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None or importlib.util.find_spec("playwright") is None,
    reason="needs playwright and Chromium (Debian's package chromium)",
)

START_S = 600  # two busy cores: gradio and torch are imported first
WAIT_MS = 600_000
MAX_PIXELS = 100_000


@dataclass
class Demo:
    """A running demo: its address, process, and the folders that it could write to."""

    address: str
    process: subprocess.Popen[str]
    folders: dict[str, Path]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """Serve the demo in a process of its own; at its end nothing that it wrote is left."""
    with serve(tmp_path_factory.mktemp("demo")) as running:
        yield running
        assert running.process.poll() is None


@contextmanager
def serve(root: Path) -> Iterator[Demo]:
    """Run a demo; it ends by SIGTERM with status 0, a closed port and no file left."""
    folders = {name: root / name for name in ("home", "temporary", "here", "cache", "config")}
    for folder in folders.values():
        folder.mkdir()
    environment = os.environ | {
        "HOME": str(folders["home"]),
        "TMPDIR": str(folders["temporary"]),
        "XDG_CACHE_HOME": str(folders["cache"]),
        "XDG_CONFIG_HOME": str(folders["config"]),
        "PYTHONPATH": os.pathsep.join(
            [str(package_dir().parent), os.environ.get("PYTHONPATH", "")]
        ),
        "PYTHONUNBUFFERED": "1",
    }
    command = [sys.executable, "-m", "vtbench", "demo", "--port", "0", "-t", "jpeg-q50"]
    command += ["--max-pixels", str(MAX_PIXELS), "--device", "cpu"]
    process = subprocess.Popen(
        command,
        cwd=folders["here"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        found = re.match(r"http://127\.0\.0\.1:\d+(?= )", line)
        assert found is not None, line + process.stdout.read()
        wait_for(found[0])
        yield Demo(found[0], process, folders)
    finally:
        running = process.poll() is None
        children = psutil.Process(process.pid).children(recursive=True) if running else []
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert "Traceback" not in said
    assert psutil.wait_procs(children, timeout=60)[1] == []
    left = [path for folder in folders.values() for path in folder.rglob("*") if path.is_file()]
    assert left == []


def wait_for(address: str) -> None:
    """Return when the page answers."""
    with urllib.request.urlopen(address, timeout=START_S) as answer:  # the socket queues it
        assert answer.status == 200


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of an image with text."""
    path = tmp_path_factory.mktemp("pictures") / "page.png"
    path.write_bytes(encode_png(text_page()[0]))
    return path


@pytest.mark.slow
@needs_gradio
@needs_chromium
def test_an_image_and_two_tokenizers_give_pictures_and_numbers(demo: Demo, picture: Path) -> None:
    from playwright.sync_api import sync_playwright

    import vtbench

    said: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1400, "height": 900})
        tab.set_default_timeout(WAIT_MS)
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("console", lambda m: said.append(m.text) if m.type == "error" else None)
        tab.on("request", lambda request: check_address(request.url, demo.address, said))
        tab.goto(demo.address)
        choose = tab.locator("#tokenizers input")
        for name in ("ref-vq-f8", "sd-vae-ft-mse"):
            choose.fill(name)
            choose.press("Enter")
        tab.set_input_files("#image input[type=file]", picture)
        tab.locator("#image").get_by_text(".png").first.wait_for()
        tab.click("#compare")
        tab.locator("#shown .side").nth(3).wait_for()
        pictures = tab.locator("#shown img")
        tab.wait_for_function(
            "() => [...document.querySelectorAll('#shown img')].every(i => i.complete)"
        )
        sizes = pictures.evaluate_all("all => all.map(i => [i.naturalWidth, i.naturalHeight])")
        sides = tab.locator("#shown .side").all_inner_texts()
        browser.close()
    height, width = text_page()[0].shape[:2]
    assert sizes == [[width, height]] * 5  # the original, and two of each measured one
    original, jpeg, network, missing = sides
    assert "page.png" in original and "OCR" in original
    tokenizer = vtbench.load("jpeg-q50", device="cpu")
    scores = vtbench.evaluate(tokenizer, [picture], name="jpeg-q50").scores
    assert f"{scores['reconstruction.psnr_db']:.4g}" in find_row(jpeg, "PSNR")
    assert f"{scores['reconstruction.ssim']:.4g}" in find_row(jpeg, "SSIM")
    assert f"{scores['reconstruction.bpp']:.4f}" in find_row(jpeg, "bits per pixel")
    assert "CER 0." in jpeg and "CER " in network
    assert find_row(network, "PSNR") != find_row(jpeg, "PSNR")
    assert "missing: " in missing and "vtbench fetch sd-vae-ft-mse" in missing
    assert said == []


@pytest.mark.slow
@needs_gradio
@pytest.mark.skipif(os.name == "nt", reason="needs SIGSTOP")
def test_a_comparison_that_does_not_end_does_not_hold_up_the_end(tmp_path: Path) -> None:
    with serve(tmp_path) as demo:
        # As inside a library's call: the process takes no signal that it could act on.
        children = psutil.Process(demo.process.pid).children()
        # The other child is multiprocessing's own, which waits for its pipe to close.
        (server,) = (child for child in children if "spawn_main" in " ".join(child.cmdline()))
        server.send_signal(signal.SIGSTOP)
        demo.process.send_signal(signal.SIGINT)
        assert demo.process.wait(timeout=120) == 0
        assert psutil.wait_procs(children, timeout=60)[1] == []


def find_row(side: str, label: str) -> str:
    """Return the row of a table that begins with a label."""
    return next(line for line in side.splitlines() if line.startswith(label))


def check_address(url: str, address: str, said: list[str]) -> None:
    if not url.startswith((address + "/", "data:", "blob:")):
        said.append(f"request: {url}")


@pytest.mark.slow
@needs_gradio
@needs_chromium
@pytest.mark.parametrize(
    ("content", "why"),
    [
        (encode_png(np.zeros((400, 400, 3), np.uint8)), "400×400 is more than 100,000 pixels"),
        (b"no picture", "not an image of a format that is read"),
    ],
    ids=["too large", "no image"],
)
def test_what_cannot_be_read_is_said_on_the_page(
    demo: Demo, tmp_path: Path, content: bytes, why: str
) -> None:
    from playwright.sync_api import sync_playwright

    (tmp_path / "bad.png").write_bytes(content)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = browser.new_page()
        tab.set_default_timeout(WAIT_MS)
        tab.goto(demo.address)
        tab.set_input_files("#image input[type=file]", tmp_path / "bad.png")
        tab.locator("#image").get_by_text(".png").first.wait_for()
        tab.click("#compare")
        said = tab.locator("#shown [role=alert]").inner_text()
        browser.close()
    assert why in said and "Traceback" not in said and str(demo.folders["temporary"]) not in said


@pytest.mark.slow
@needs_gradio
def test_nothing_listens_beyond_localhost(demo: Demo) -> None:
    process = psutil.Process(demo.process.pid)
    connections = [
        connection
        for one in (process, *process.children(recursive=True))
        for connection in one.net_connections(kind="inet")
    ]
    port = int(demo.address.rpartition(":")[2])
    listening = {c.laddr for c in connections if c.status == psutil.CONN_LISTEN}
    assert [(place.ip, place.port) for place in listening] == [("127.0.0.1", port)]
    others = [c for c in connections if c.raddr and c.raddr.ip != "127.0.0.1"]
    assert not others and not [c for c in connections if c.type == socket.SOCK_DGRAM and c.laddr]


@pytest.mark.slow
@needs_gradio
def test_other_hosts_names_and_other_files_of_the_machine_are_refused(
    demo: Demo, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("of nobody else")
    for path in (f"/gradio_api/file={secret}", f"/gradio_api/file={demo.folders['here']}/../x"):
        assert ask(demo.address + path) in (403, 404)
    assert ask(demo.address, Host="stranger.example") == 400
    assert ask(demo.address) == 200


def ask(address: str, **headers: str) -> int:
    """Return the status of an answer."""
    try:
        with urllib.request.urlopen(
            urllib.request.Request(address, headers=headers), timeout=60
        ) as answer:
            status: int = answer.status
            return status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_without_the_extra_a_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["demo", "--port", "0"]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and 'pip install "vtbench[demo]"' in said[0]


def test_a_taken_port_and_unknown_names_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main(["demo", "--port", str(port)]) == 2
    assert f"port {port} cannot be used" in capsys.readouterr().err
    assert main(["demo", "-t", "jpeg-q5O"]) == 2
    assert "did you mean" in capsys.readouterr().err
    assert main(["demo", "--ocr", "rapid"]) == 2
    assert "no ocr engine named 'rapid'" in capsys.readouterr().err
