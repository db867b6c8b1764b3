"""Try the cases of ../shared/faults, each as its row says, and print ok or not.

    python tests/faults/try_cases.py [--faults DIR] [ID ...]

A case is a public bug report of this field with an input of our own; the scripts of the folder make
the inputs. Where the folder is not there each case is skipped by name. Exit 1 if a case is not ok.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import unicodedata
from collections.abc import Callable
from pathlib import Path

from vtbench.images import load_rgb8, read_png_original

ROOT = Path(__file__).resolve().parent.parent.parent
PYTHON = sys.executable
VTBENCH = "import sys; from vtbench.cli import main; sys.exit(main(sys.argv[1:]))"


class Bench:
    """The folder of faults, a work folder, and ways to run things in it."""

    def __init__(self, faults: Path, work: Path) -> None:
        self.faults, self.work = faults, work
        self.env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        self.vtbench = work / "vtbench"
        self.vtbench.write_text(f"#!{PYTHON}\n{VTBENCH}\n")
        self.vtbench.chmod(0o755)
        self.pics = work / "pics"
        code = (
            f"from common import save; save('{self.pics}/a.png', 1); save('{self.pics}/b.png', 2)"
        )
        self.call(PYTHON, "-c", code, cwd=faults)

    def call(self, *command: object, cwd: Path | None = None, **env: str) -> tuple[int, str]:
        """Run a command; return its status and what it said. A traceback is never right."""
        done = subprocess.run(
            list(map(str, command)),
            cwd=cwd or self.work,
            env={**self.env, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        said = done.stdout.decode("utf-8", "replace")
        assert "Traceback" not in said, said[-1500:]
        return done.returncode, said

    def run(self, *arguments: object, code: str = VTBENCH, **env: str) -> tuple[int, str]:
        """Run vtbench, or other code with its arguments."""
        return self.call(PYTHON, "-c", code, *arguments, **env)

    def make(self, script: str, *arguments: object) -> Path:
        """Run a script of the faults that makes inputs; return where they are."""
        place = self.work / script.partition(".")[0]
        self.call(PYTHON, script, place, *arguments, cwd=self.faults)
        return place

    def rows(self, out: Path, run: str) -> list[dict[str, object]]:
        """Return the rows of a run."""
        from vtbench.results.folder import read_run

        return list(read_run(out / run).rows)


def b01(bench: Bench) -> None:
    status, said = bench.run("run", "--images", bench.make("b01_mpo.py"), "-t", "identity")
    assert status == 0, said


def b02(bench: Bench) -> None:
    status, said = bench.run("run", "--images", bench.make("b02_hidden.py"), "-t", "identity")
    assert status == 0 and "reconstruction 3." in said and "5 hidden" in said, said


def b03(bench: Bench) -> None:
    status, said = bench.run("run", "--images", bench.make("b03_exif.py"), "-t", "identity")
    assert status == 0 and "reconstruction 33." in said, said


def b04(bench: Bench) -> None:
    place = bench.make("b04_depth.py")
    assert abs(load_rgb8(place / "int32_0_255.tif").mean() - 114.4) < 0.1
    for name in ("gray16_trns", "rgb16_trns", "gray8_trns", "rgb8_trns", "bilevel_trns"):
        assert (load_rgb8(place / f"{name}.png") == 255).all(), name
    assert (load_rgb8(place / "rgb16_ramp.png") == load_rgb8(place / "gray16_ramp.png")).all()


def b05(bench: Bench) -> None:
    place = bench.make("b05_nan_weights.py", ROOT / "data/weights/patch-pca-f8c4.safetensors")
    entry = (ROOT / "registry/patch-pca-f8c4.yaml").read_text().split("weights:")[0]
    for name in ("nan", "big"):
        own = f"weights: {{source: local, path: {name}.safetensors}}\n"
        rest = [
            line
            for line in (ROOT / "registry/patch-pca-f8c4.yaml").read_text().splitlines()
            if line.startswith("description")
        ]
        (place / f"{name}-pca.yaml").write_text(
            entry + own + "\n".join(rest or ["description: x"]) + "\n"
        )
    refusals = (("nan", "fp32", 2, "has NaN"), ("big", "fp16", 1, "NaN or infinite"))
    for name, dtype, expected, message in refusals:
        status, said = bench.run(
            "reconstruct",
            bench.pics / "a.png",
            "-t",
            f"{name}-pca",
            "--registry",
            place,
            "--dtype",
            dtype,
            "--out",
            bench.work / f"o5{name}",
        )
        assert status == expected and message in said and " dB" not in said, said


def b06(bench: Bench) -> None:
    _, said = bench.call(
        "bash", bench.faults / "b06_gitdir.sh", bench.vtbench, bench.pics, bench.work / "b06"
    )
    own = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True
    )
    assert f'"commit": "{own.stdout.strip()}"' in said, said


def b07(bench: Bench) -> None:
    status, said = bench.run("run", "--images", bench.make("b07_formats.py"), "-t", "identity")
    assert (
        status == 0 and "reconstruction 8." in said and "2 other endings (.jpg_large, .tga)" in said
    ), said


def b08(bench: Bench) -> None:
    bench.call("bash", bench.faults / "b08_links.sh", PYTHON, bench.work / "b08")
    folder = bench.work / "b08" / "set"
    (folder / "x.png").mkdir()
    status, said = bench.run("run", "--images", folder, "-t", "identity")
    assert status == 1 and "reconstruction 8." in said, said
    assert "dangling.png: left out: " in said, said


def b09(bench: Bench) -> None:
    for encoding in ("ascii", "cp1252", "latin-1"):
        for command in (
            ["list", "metrics"],
            ["list"],
            ["show", "titok-l32"],
            ["run", "--images", bench.pics, "-t", "identity"],
        ):
            status, said = bench.run(*command, PYTHONIOENCODING=encoding)
            assert status == 0, (encoding, command, said)


def b12(bench: Bench) -> None:
    _, said = bench.call(
        "bash", bench.faults / "b12_out_inside.sh", bench.vtbench, bench.pics, bench.work / "b12"
    )
    assert said.count("reconstruction 2.") == 2, said
    status, said = bench.run(
        "reconstruct", bench.pics / "a.png", "-t", "identity", "--out", bench.pics
    )
    assert status == 2, said


def b13(bench: Bench) -> None:
    from vtbench.suites.suite_file import read_manifest_row

    place, out = bench.make("b13_lines.py"), bench.work / "odd.jsonl"
    status, said = bench.run("manifest", place, "--out", out)
    lines = out.read_bytes().removesuffix(b"\n").split(b"\n")
    assert status == 0 and len([read_manifest_row(line, "m") for line in lines]) == 9, said


def b14(bench: Bench) -> None:
    import hashlib

    place = bench.make("b14_nfd.py")
    assert (place / "nfd" / unicodedata.normalize("NFD", "café.png")).exists()
    common = ["--data", place]
    bench.run(
        "manifest",
        "cafe",
        *common,
        "--source",
        f"cafe={place}/nfc",
        "--out",
        place / "manifests/cafe.jsonl",
    )
    digest = hashlib.sha256((place / "manifests/cafe.jsonl").read_bytes()).hexdigest()
    with (place / "suites/cafe.yaml").open("a") as file:
        file.write(f"manifest: manifests/cafe.jsonl\nmanifest_sha256: {digest}\n")
    status, said = bench.run(
        "run", "--suite", "cafe", *common, "--source", f"cafe={place}/nfd", "-t", "identity"
    )
    assert status == 0, said


def b15(bench: Bench) -> None:
    status, said = bench.run("run", "--images", bench.make("b15_text.py"), "-t", "identity")
    assert status == 0 and "reconstruction 2." in said, said


def b16(bench: Bench) -> None:
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        raise NotImplementedError("needs root and setpriv")
    bench.work.chmod(0o755)
    _, said = bench.call(
        "bash", bench.faults / "b16_uid.sh", bench.vtbench, bench.pics, bench.work / "b16"
    )
    assert "Could not determine home" not in said, said


def b17(bench: Bench) -> None:
    place = bench.make("b17_parquet.py")
    written = []
    for form in ("string", "large_string"):
        path = bench.work / f"{form}.jsonl"
        status, said = bench.run(
            "manifest", "kodak", "--source", f"kodak={place}/{form}", "--out", path
        )
        assert status == 0, said
        written.append(path.read_bytes())
    assert written[0] == written[1]


def b18(bench: Bench) -> None:
    code = (
        "import sys, time; from vtbench.results.partial import PartialRows as P; old = P.append\n"
        "def append(self, rows): old(self, rows); time.sleep(0.5)\n"
        f"P.append = append\n{VTBENCH}"
    )
    folder, out = bench.work / "many", bench.work / "o18"
    make = (
        "from common import save\n"
        f"for i in range(12): save('{folder}/%02d.png' % i, i, width=48, height=40)"
    )
    bench.call(PYTHON, "-c", make, cwd=bench.faults)
    arguments = [
        "run",
        "--images",
        str(folder),
        "--batch-size",
        "1",
        "-t",
        "identity",
        "--out",
        str(out),
    ]
    both = [
        subprocess.Popen(
            [PYTHON, "-c", code, *arguments],
            env=bench.env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(2)
    ]
    import time

    end = time.monotonic() + 300
    partial = out / ".identity.partial.jsonl"
    while time.monotonic() < end and not (
        partial.exists() and len(partial.read_bytes().splitlines()) > 4
    ):
        time.sleep(0.2)
    for process in both:
        process.kill()
        process.wait()
    status, said = bench.run(*arguments)
    assert status == 0 and "reconstruction 12." in said, said


def b19(bench: Bench) -> None:
    folder, out = bench.work / "copies", bench.work / "o19"
    folder.mkdir()
    for n in range(10):
        shutil.copy(bench.pics / "a.png", folder / f"{n}.png")
    bench.run("run", "--images", folder, "-t", "jpeg-q50", "-t", "jpeg-q25", "--out", out)
    _, said = bench.run("compare", "jpeg-q50", "jpeg-q25", "--results", out)
    assert "10:0" not in said and "p 0.00" not in said, said
    assert "9 of these images are copies" in (out / "leaderboard.md").read_text(encoding="utf-8")


def b20(bench: Bench) -> None:
    for place in ("x/val", "y/val"):
        shutil.copytree(bench.pics, bench.work / place)
        status, said = bench.run(
            "run", "--images", bench.work / place, "-t", "identity", "--out", bench.work / "o20"
        )
    assert status == 2 and "holds results of images-val-" in said, said


def b23(bench: Bench) -> None:
    folder, out = bench.work / "umlaut", bench.work / "o23"
    folder.mkdir()
    for n in range(3):
        shutil.copy(bench.pics / "a.png", folder / f"größe_{n}.png")
    code = (
        "import os; from vtbench.results.partial import PartialRows as P; old = P.append\n"
        "def append(self, rows): old(self, rows); os._exit(137)\n"
        f"P.append = append\n{VTBENCH}"
    )
    arguments = ("run", "--images", folder, "-t", "identity", "--out", out)
    bench.run(*arguments, code=code)
    bench.call(PYTHON, bench.faults / "b23_torn.py", out / ".identity.partial.jsonl")
    status, said = bench.run(*arguments)
    assert status == 0, said


def b25(bench: Bench) -> None:
    code = (
        "import io; from pathlib import Path; from rich.console import Console\n"
        "from vtbench.leaderboard.aggregate import read_board\n"
        "from vtbench.leaderboard.terminal import terminal_table\n"
        f"board = read_board(Path({str(ROOT / 'results/embedded')!r}))\n"
        "Console(width=80).print(terminal_table(board, width=80))"
    )
    _, said = bench.run(code=code)
    assert "ref-…" not in said and "jpeg-q50" in said, said


def b28(bench: Bench) -> None:
    place, out = bench.make("b28_wide.py"), bench.work / "o28"
    status, said = bench.run(
        "reconstruct",
        place / "a_wide.png",
        place / "b_fine.png",
        "-t",
        "webp-q50",
        "-t",
        "jpeg-q50",
        "--out",
        out,
    )
    assert status == 1 and "a_wide  webp-q50" in said and (out / "sheet.png").is_file(), said


def b33(bench: Bench) -> None:
    from vtbench.base.files import sha256_file

    place, out = (
        bench.make("b05_nan_weights.py", ROOT / "data/weights/patch-pca-f8c4.safetensors"),
        bench.work / "o33",
    )
    path = place / "big.safetensors"
    bench.run(
        "run",
        "--images",
        bench.pics,
        "-t",
        "patch-pca-f8c4",
        "--weights",
        f"patch-pca-f8c4={path}",
        "--out",
        out,
    )
    assert (out / f"patch-pca-f8c4@weights-{sha256_file(path)[:8]}" / "run.json").is_file()


def b35(bench: Bench) -> None:
    bench.call(
        "bash", "-c", f"bash {bench.faults}/b35_eps.sh {bench.vtbench} {bench.work}/b35 2>&1; true"
    )
    assert not (bench.work / "b35" / "gs.log").exists()


def b36(bench: Bench) -> None:
    _, said = bench.call(
        "bash", bench.faults / "b36_replaced.sh", bench.vtbench, PYTHON, bench.work / "b36"
    )
    assert "reused" not in said, said


def b37(bench: Bench) -> None:
    code = (
        "import torch; from vtbench.metrics import pixel; old = pixel.mae; calls = []\n"
        "def mae(a, b):\n value = old(a, b)\n if not calls: value[0] = float('nan')\n"
        " calls.append(1)\n return value\n"
        f"pixel.mae = mae\n{VTBENCH}"
    )
    out = bench.work / "o37"
    arguments = ("run", "--images", bench.pics, "-t", "jpeg-q50", "-t", "jpeg-q25", "--out", out)
    status, said = bench.run(*arguments, code=code)
    board = (out / "leaderboard.md").read_text(encoding="utf-8")
    assert status == 1 and "jpeg-q25 | codec" in board and "jpeg-q50 (incomplete" in board, said


def b38(bench: Bench) -> None:
    bench.call("bash", bench.faults / "b38_panel.sh", bench.vtbench, bench.pics, bench.work / "b38")
    out = bench.work / "b38" / "out"
    shown = out / "leaderboard-site" / "pictures"
    of = read_png_original(out / "jpeg-q25" / "panel" / "0.png")
    assert of == read_png_original(out / "originals" / "1.png")  # 3.png is the second one now
    (own,) = shown.glob("*/jpeg-q25/1.png")
    assert own.read_bytes() == (out / "jpeg-q25" / "panel" / "0.png").read_bytes()


def b42(bench: Bench) -> None:
    out = bench.work / "o42"
    arguments = ("run", "--images", bench.pics, "-t", "identity", "--out", out)
    bench.run(*arguments)
    shutil.copytree(out / "identity", out / "identity (conflicted copy)")
    (out / "empty").mkdir()
    (out / "empty" / "run.json").write_bytes(b"")
    status, said = bench.run(*arguments)
    assert status == 1 and said.count("left out of the board") == 2 and "leaderboard.md" in said, (
        said
    )


def b51(bench: Bench) -> None:
    place = bench.make("b51_text_suite.py")
    for name in ("nometa", "empty", "badbox"):
        status, said = bench.run("validate", place / f"suites/{name}.yaml")
        assert status == 2 and f"{name}.jsonl:1: " in said, said


CASES: dict[str, Callable[[Bench], None]] = {
    name.upper(): value
    for name, value in list(globals().items())
    if name[0] == "b" and name[1:].isdigit()
}


def main() -> int:
    """Try the cases and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faults", type=Path, default=ROOT.parent / "shared" / "faults")
    parser.add_argument("ids", nargs="*", metavar="ID")
    given = parser.parse_args()
    bad = 0
    for name in given.ids or CASES:
        if not given.faults.is_dir():
            print(f"{name} skipped: {given.faults} is not there")
            continue
        with tempfile.TemporaryDirectory() as work:
            try:
                CASES[name](Bench(given.faults, Path(work)))
            except NotImplementedError as error:
                print(f"{name} skipped: {error}", flush=True)
            except Exception as error:
                bad += 1
                print(f"{name} NOT ok: {type(error).__name__}: {error}", flush=True)
            else:
                print(f"{name} ok", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
