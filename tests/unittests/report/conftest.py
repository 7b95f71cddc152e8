"""What the tests of the page share.

Authors
 * qlung_plugin contributors
"""

import pytest

from qlung_plugin.report import page
from tests.unittests.report_runs import write_recordings


@pytest.fixture
def without_quality(monkeypatch):
    """Pages without the section on quality, which takes the longest."""
    empty = {"missing": 0, "histogram": "", "curves": "", "measures": {}}
    monkeypatch.setattr(page, "_quality", lambda runs: [empty] * len(runs))


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory):
    """Recordings that are not to be changed."""
    return write_recordings(tmp_path_factory.mktemp("data"))
