"""The page itself, and its command, without a browser.

Authors
 * qlung_plugin contributors
"""

import asyncio
import importlib
import sys

import pytest

from qlung_plugin.cli import demo
from qlung_plugin.cli.demo import page
from qlung_plugin.cli.demo.page import build
from qlung_plugin.cli.main import main
from qlung_plugin.scores.icbhi_score import LABELS
from tests.unittests.recording_checks import make_model


@pytest.fixture
def event_loops(monkeypatch):
    """Closes the event loops that Gradio makes and leaves to the collector.

    Wherever that comes by, in a test that takes warnings for errors, it fails.
    """
    made, make = [], asyncio.new_event_loop

    def new_event_loop():
        made.append(make())
        return made[-1]

    monkeypatch.setattr(asyncio, "new_event_loop", new_event_loop)
    yield
    asyncio.set_event_loop(None)
    for loop in made:
        loop.close()


def test_the_page_is_built_quietly(event_loops):
    pytest.importorskip("gradio")
    built = build(make_model(LABELS), "Model: `a`.")
    assert built.analytics_enabled is False
    assert built.delete_cache == (page.CLEANED, page.KEPT)


def test_without_gradio_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(demo, "find_spec", lambda name: None)
    assert main(["demo", "--model", "nowhere"]) == 2
    assert capsys.readouterr().err == (
        'qlung: the page needs Gradio: pip install "qlung_plugin[demo]"\n'
    )


def test_the_page_imports_without_gradio(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, page.__name__)
    assert importlib.import_module(page.__name__).CYCLES == page.CYCLES
