"""What the tests of the page share.

Authors
 * qlung_plugin contributors
"""

import pytest

from qlung_plugin.report import page


@pytest.fixture
def without_quality(monkeypatch):
    """Pages without the section on quality, which takes longer than the rest."""
    empty = {"missing": 0, "histogram": "", "curves": "", "measures": []}
    monkeypatch.setattr(page, "_quality", lambda runs: [empty] * len(runs))
