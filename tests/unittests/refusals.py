"""Refusing models: how soon, how cheaply, and in what words.

Authors
 * qlung_plugin contributors
"""

import json
import resource
import time
import tracemalloc

import pytest

# Importing them, which a backbone does when it is made, is no part of refusing.
from transformers import ASTModel, ClapAudioModelWithProjection  # noqa: F401

from qlung_plugin.inference.models import open_model

SECONDS = 5  # of the processor's, to refuse anything in
MEMORY = 2**28  # bytes that refusing may take


def refuses(folder, *phrases, error=ValueError, opened_by=open_model):
    """Opens a model, which has to be refused soon, cheaply and by name."""
    tracemalloc.start()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()  # whatever else the machine has to do
    try:
        with pytest.raises(error) as caught:
            opened_by(folder)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert time.process_time() - start < SECONDS
    assert peak < MEMORY
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert 1024 * (after - before) < MEMORY
    for phrase in (str(folder), *phrases):
        assert phrase in str(caught.value)
    return str(caught.value)


def edit_json(folder, change):
    """Changes the description in a model.json."""
    path = folder / "model.json"
    description = json.loads(path.read_text())
    change(description)
    path.write_text(json.dumps(description))


def inference_yaml(run):
    """The YAML of the folder of a training."""
    return run / "save" / "inference.yaml"
