"""What the whole test suite shares.

Authors
 * qlung_plugin contributors
"""

import os
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import settings

import speechbrain  # noqa: F401
from speechbrain.utils.importutils import LazyModule

# Hypothesis asks every loaded module for its file; SpeechBrain's lazy modules
# would answer by importing optional packages such as k2.
for module in list(sys.modules.values()):
    if isinstance(module, LazyModule):
        module.__file__ = None

# The same examples every time: what a change breaks is its own. To look for
# others, `pytest -m hypothesis --hypothesis-profile default`.
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")


@pytest.fixture(scope="session", autouse=True)
def torch_home(tmp_path_factory):
    """What torch.hub, and this package beside it, keeps goes with the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("torch")))
        yield


@pytest.fixture(scope="session")
def real_data():
    """The folder of real recordings that QLUNG_DATA names, or a skip."""
    folder = os.environ.get("QLUNG_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("QLUNG_DATA does not name a folder of real recordings")
    return Path(folder)


@pytest.fixture
def interruptible():
    """As at a terminal: in the background of a shell, SIGINT is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
