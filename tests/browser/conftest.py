"""A real browser, without a screen and without a network.

Authors
 * qlung_plugin contributors
"""

import shutil

import pytest

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
            viewport=size, color_scheme=scheme, **options
        )
        contexts.append(context)
        page = context.new_page()
        watch(page, address, harmless)
        page.goto(address)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not errors
