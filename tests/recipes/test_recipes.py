"""Every recipe runs with the flags of its row, and keeps upstream's rules.

Authors
 * qlung_plugin contributors
"""

import csv
import dataclasses
import re
import shlex
import shutil

import pytest
import yaml
from speechbrain.utils.run_opts import RunOptions

from tests.recipes.conftest import ROOT, run_train

TABLES = sorted((ROOT / "tests" / "recipes").glob("*.csv"))
COLUMNS = (
    "Task,Dataset,Script_file,Hparam_file,Data_prep_file,Readme_file,"
    "Result_url,HF_repo,test_debug_flags,test_debug_checks,performance"
)


def read_rows():
    for table in TABLES:
        with open(table, newline="", encoding="utf-8") as file:
            yield from csv.DictReader(file)


ROWS = list(read_rows())

# Which Brain looks up in the YAML by itself.
BRAIN_OPTIONS = {field.name for field in dataclasses.fields(RunOptions)}


def flags(text):
    """`--key={a: 1} --other=x` as a mapping."""
    return dict(
        re.match(r"--(\w+)=(.*)", flag.strip(), re.DOTALL).groups()
        for flag in re.split(r"\s(?=--)", text)
    )


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["Hparam_file"])
def test_recipe_runs(row, corpus, cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = flags(row["test_debug_flags"])
    shutil.copytree(corpus, options["data_folder"])
    options |= {"output_folder": "output", "cache_folder": str(cache)}
    run_train(ROOT / row["Hparam_file"], options)

    exists = re.search(r"file_exists=\[(.*?)\]", row["test_debug_checks"])
    for name in exists[1].split(","):
        assert (tmp_path / "output" / name.strip()).exists(), name
    check = re.search(
        r"performance_check=\[(.*?), (.*?), <(.*?), (.*?)\]",
        row["test_debug_checks"],
    )
    log, variable, bound, epoch = check.groups()
    line = next(
        line
        for line in (tmp_path / "output" / log).read_text().splitlines()
        if epoch in line
    )
    value = re.search(rf"{variable}: ([0-9.e+-]+)", line)[1]
    assert float(value) < float(bound)


@pytest.mark.parametrize("table", TABLES, ids=lambda path: path.name)
def test_table_is_in_upstream_format(table):
    assert table.read_text().splitlines()[0] == COLUMNS


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["Hparam_file"])
def test_row_names_existing_files(row):
    for column in COLUMNS.split(",")[2:6]:
        assert (ROOT / row[column]).is_file(), row[column]
    assert shlex.split(row["test_debug_flags"])
    assert row["test_debug_checks"].startswith("file_exists=[")


@pytest.mark.parametrize(
    "hparams", sorted(ROOT.glob("recipes/*/*/hparams/**/*.yaml")), ids=str
)
def test_every_recipe_has_a_row(hparams):
    named = {ROOT / row["Hparam_file"] for row in ROWS}
    assert hparams in named


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["Hparam_file"])
def test_yaml_keys_are_used(row):
    """A top-level key is used by the script or by a later reference."""
    text = (ROOT / row["Hparam_file"]).read_text()
    script = (ROOT / row["Script_file"]).read_text()
    keys = re.findall(r"^(\w+):", text, re.MULTILINE)
    assert {"data_folder", "output_folder"} <= set(keys)
    unused = [
        key
        for key in keys
        if not key.startswith("__")
        and key not in BRAIN_OPTIONS
        and f"<{key}>" not in text
        and f'hparams["{key}"]' not in script
        and f"hparams.{key}" not in script
        and f"modules.{key}" not in script
    ]
    assert unused == []
    assert re.findall(r"^(\w+): !PLACEHOLDER", text, re.MULTILINE) == [
        "data_folder"
    ]


def load_blocks(path):
    """The top-level blocks of a YAML as text, comments removed."""
    loader = yaml.SafeLoader
    text = re.sub(r"\s+#.*", "", path.read_text())
    node = yaml.compose(text, Loader=loader)
    return {key.value: yaml.serialize(value) for key, value in node.value}


def test_baseline_differs_by_classifier_and_loss_alone():
    folder = ROOT / "recipes" / "ICBHI" / "classification" / "hparams"
    qlung, ce = (
        load_blocks(folder / "qlung.yaml"),
        load_blocks(folder / "ce.yaml"),
    )
    different = {key for key in qlung | ce if qlung.get(key) != ce.get(key)}
    assert different == {
        "output_folder",
        "classifier",
        "quality_margin",
        "imbalance_margin",
        "margin",
        "margin_loss",
        "loss",
    }
