"""The README's table of KAUH, on the real recordings.

Authors
 * qlung_plugin contributors
"""

import re
import subprocess
import sys
from pathlib import Path

import yaml

from recipes.CSV.csv_prepare import prepare_csv, read_labels

README = Path(__file__).parents[3] / "recipes/CSV/classification/README.md"


def test_the_readmes_table_of_kauh(real_data, tmp_path):
    text = README.read_text()
    (block,) = re.findall("```python\n(.*?)```", text, re.DOTALL)
    (quoted,) = re.findall(r'"(\{N: normal.*?\})"', text)
    folder = tmp_path / "KAUH"
    folder.mkdir()
    for path in (real_data / "kauh" / "audio").glob("*.wav"):
        (folder / path.name).symlink_to(path)
    subprocess.run([sys.executable, "-c", block], cwd=folder, check=True)
    mapping = yaml.safe_load(quoted)
    mapping.pop("I E W")  # not in this part of the database
    assert read_labels(folder, label_mapping=mapping) == [
        "normal",
        "crackle",
        "wheeze",
    ]
    summary = prepare_csv(folder, tmp_path / "out", label_mapping=mapping)
    assert summary["recordings"] == 159  # as recipes/KAUH has them
    parts = summary["partitions"].values()
    counts = [list(part["counts"].values()) for part in parts]
    assert [sum(part) for part in zip(*counts)] == [57, 51, 51]
    assert sum(part["patients"] for part in parts) == 53
    (warning,) = summary["warnings"]
    assert "I C (3), I C B (6)" in warning
