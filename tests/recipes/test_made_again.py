"""A model that is made again, by the commands of the README, is the same.

Authors
 * qlung_plugin contributors
"""

import pytest

from qlung_plugin.inference.export import export_run


@pytest.mark.slow
def test_training_again_exports_the_same_bytes(train, corpus, tmp_path):
    """Also where nothing is in the cache yet."""
    made = []
    for place in ("one", "other"):
        run = train(corpus, f"{place}/run", cache_folder=tmp_path / place / "c")
        export_run(run, tmp_path / place / "exported")
        files = sorted((tmp_path / place / "exported").iterdir())
        made.append({path.name: path.read_bytes() for path in files})
    assert made[0] == made[1]
    assert {"model.safetensors", "model.json", "README.md"} <= made[0].keys()
