"""A real browser, without a screen or a network, and a page of runs for it.

Authors
 * qlung_plugin contributors
"""

import shutil

import numpy as np
import pytest

from qlung_plugin.report.page import render_page
from qlung_plugin.report.recordings import use_recordings
from qlung_plugin.report.sources import find_runs
from qlung_plugin.runs.predictions import read_predictions
from tests.browser.report_page import SOUNDS, UNMEASURED
from tests.unittests.report_runs import write_recordings, write_run

# Chromium's own wish to talk to its makers is not what is tested.
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
]
PATIENCE = 120_000  # ms to wait for at most: machines may be busy
WIDTHS = {"desktop": (1280, 900), "phone": (390, 844)}


def pytest_collection_modifyitems(items):
    """Whatever lies here needs the browser."""
    for item in items:
        if "browser" in item.fixturenames:
            item.add_marker(pytest.mark.browser)


def chromium_path():
    """Where chromium is, or None."""
    return shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="session")
def browser():
    """Chromium, or a skip where it or playwright is not installed."""
    playwright = pytest.importorskip("playwright.sync_api")
    path = chromium_path()
    if path is None:
        pytest.skip("needs chromium (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=path, args=OPTIONS)
        yield chromium
        chromium.close()


@pytest.fixture
def microphone_page(browser):
    """A page with a microphone into which chromium beeps once a second."""
    fake = [
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
    ]
    chromium = browser.browser_type.launch(
        executable_path=chromium_path(), args=[*OPTIONS, *fake]
    )
    try:
        context = chromium.new_context(permissions=["microphone"])
        context.set_default_timeout(PATIENCE)
        yield context.new_page()
    finally:
        chromium.close()


@pytest.fixture(params=list(WIDTHS))
def width(request):
    """Name of a screen's width, once per kind of screen."""
    return request.param


@pytest.fixture
def open_page(browser):
    """Opens an address at a width; errors of the page fail the test.

    ``open_page(address, width="desktop", scheme="light", harmless=(),
    **options)`` returns a page of playwright in a context of its own with these
    options. A request to anything but the page's own host is an error, too; a
    message of the console that is among the harmless ones is not.
    """
    contexts, errors = [], []

    def watch(page, address, harmless):
        host = address.split("/")[2]  # empty for a file

        def request(request):
            scheme = request.url.split(":")[0]
            if scheme in ("data", "blob", "about"):
                return
            if request.url.split("/")[2] != host:
                errors.append(f"request to {request.url}")

        page.on("request", request)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on(
            "console",
            lambda message: (
                errors.append(message.text)
                if message.type in ("error", "warning")
                and message.text not in harmless
                else None
            ),
        )

    def opened(
        address, width="desktop", scheme="light", harmless=(), **options
    ):
        size = dict(zip(("width", "height"), WIDTHS[width]))
        context = browser.new_context(
            viewport=size,
            color_scheme=scheme,
            reduced_motion="reduce",  # what is clicked stands still
            **options,
        )
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        page = context.new_page()
        watch(page, address, harmless)
        page.goto(address)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not errors


@pytest.fixture(scope="session")
def report_folder(tmp_path_factory):
    """Two runs on the same cycles."""
    folder = tmp_path_factory.mktemp("results")
    data_folder = write_recordings(folder / "data")
    for place, name in enumerate(("ce", "qlung")):
        write_run(
            folder / name / "1",
            data_folder,
            seed=10 * place,
            unmeasured=UNMEASURED,
        )
    return folder


@pytest.fixture(scope="session")
def report_tables(report_folder):
    """Predictions of both, with the confidence and whether they are right."""
    found = {}
    for name in ("ce/1", "qlung/1"):
        table = read_predictions(report_folder / name / "predictions.csv")
        table["confidence"] = table.filter(like="p_").max(axis=1)
        table["right"] = table["label"] == table["prediction"]
        table["device"] = table["device"].fillna("unknown")
        found[name] = table.set_index("id")
    return found


@pytest.fixture(scope="session")
def report(report_folder):
    """Address of their page on disk. Its maps are a spiral: there is no model."""
    runs, evaluations, notes = find_runs(
        [report_folder / "ce/1", report_folder / "qlung/1"]
    )
    recordings = use_recordings(runs, method="none", sounds=SOUNDS)
    count = len(runs[0].predictions)
    angle = np.linspace(0, 20, count)
    for turn, run in enumerate(runs):
        radius = 0.05 + 0.45 * np.linspace(0, 1, count)
        x, y = radius * np.cos(angle + turn), radius * np.sin(angle + turn)
        recordings.maps[run.name] = (0.5 + np.stack([x, y], 1)).tolist()
        recordings.differences[run.name] = 0.0
    path = report_folder / "report.html"
    path.write_text(
        render_page(runs, evaluations, notes, recordings), encoding="utf-8"
    )
    return path.as_uri()
