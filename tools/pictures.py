"""Makes the pictures of the documentation from generated recordings.

``python tools/pictures.py docs/images`` trains two configurations for some minutes on
generated corpora, in ``results/pictures``, and takes the figure of the comparison and
the cycles of the page of ``qlung report``. It needs chromium and ``pip install
".[browser]"``.

Authors
 * qlung_plugin contributors
"""

import argparse
import io
import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
# As `make demo` trains.
TRAINING = {
    "--pretrained_weights": "none",
    "--number_of_epochs": "20",
    "--batch_size": "8",
    "--backbone": "{batch_norm_momentum: 0.1}",
    "--fix_length": "{duration: 3.0}",
}
COLOURS = 128  # enough for these pages and figures, at a third of the bytes


def python(*command: str | Path) -> None:
    """Runs Python in the clone; what fails is an error."""
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True)


def compare(folder: Path) -> Path:
    """Trains and judges two configurations; returns the folder of results.

    What is there already is not trained again.
    """
    for corpus in ("icbhi", "sprsound"):
        python("-m", f"qlung_plugin.synthetic.{corpus}", folder / corpus)
    python(
        "recipes/run_experiments.py",
        *("--hparams", "hparams/ce.yaml", "hparams/qlung.yaml"),
        *("--seeds", "1", "2", "3", "--output", folder / "results"),
        *("--icbhi", folder / "icbhi", "--sprsound", folder / "sprsound"),
        *(word for option in TRAINING.items() for word in option),
    )
    return folder / "results"


def photograph(page: Path) -> bytes:
    """The cycles of a page of runs, as PNG."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=path, args=["--no-sandbox"]
        )
        tab = browser.new_page(
            viewport={"width": 1100, "height": 900}, color_scheme="light"
        )
        tab.goto(page.as_uri())
        tab.wait_for_selector("#cycle-name:not(:empty)")
        cycles = tab.locator("#cycles")
        cycles.evaluate("one => one.scrollIntoView({behavior: 'instant'})")
        picture = tab.screenshot()
        browser.close()
    return picture


def save(picture: bytes, path: Path) -> None:
    """Writes a PNG of few colours, and so of few bytes."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    image.quantize(COLOURS).save(path, optimize=True)


def main() -> None:
    """Makes both pictures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("output", type=Path, help="folder for the pictures")
    output = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    results = compare(ROOT / "results" / "pictures")
    page = results / "report.html"
    python("-m", "qlung_plugin.cli.main", "report", results, "-o", page)
    save(photograph(page), output / "report.png")
    save((results / "scores.png").read_bytes(), output / "scores.png")


if __name__ == "__main__":
    main()
