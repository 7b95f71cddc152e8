"""Refusing models: how soon, how cheaply, and in what words.

Authors
 * qlung_plugin contributors
"""

import json
import re
import time
from pathlib import Path

import pytest

# Importing them, which a backbone does when it is made, is no part of refusing.
from transformers import ASTModel, ClapAudioModelWithProjection  # noqa: F401

from qlung_plugin.inference.models import open_model

SECONDS = 5  # of the processor's, to refuse anything in
MEMORY = 2**28  # bytes that refusing may take
PROCESS = Path("/proc/self")  # of Linux; elsewhere, memory is not measured


def start_peak():
    """Lets the largest size of this process begin anew."""
    if PROCESS.exists():
        (PROCESS / "clear_refs").write_text("5")


def read_peak():
    """The largest size of this process in memory, in bytes.

    Also of what PyTorch allocates, and much faster than tracing Python.
    """
    if not PROCESS.exists():
        return 0
    status = (PROCESS / "status").read_text()
    return 1024 * int(re.search(r"VmHWM:\s+(\d+)", status)[1])


def refuses(folder, *phrases, error=ValueError, opened_by=open_model):
    """Opens a model, which has to be refused soon, cheaply and by name."""
    start_peak()
    before = read_peak()
    start = time.process_time()  # whatever else the machine has to do
    with pytest.raises(error) as caught:
        opened_by(folder)
    assert time.process_time() - start < SECONDS
    assert read_peak() - before < MEMORY
    for phrase in (str(folder), *phrases):
        assert phrase in str(caught.value)
    return str(caught.value)


def edit_json(folder, change):
    """Changes the description in a model.json."""
    path = folder / "model.json"
    description = json.loads(path.read_text())
    change(description)
    path.write_text(json.dumps(description))
