"""Every recipe runs with the flags of its row, and keeps upstream's rules.

Authors
 * qlung_plugin contributors
"""

import csv
import dataclasses
import re
import shlex

import pytest
import yaml

from qlung_plugin.runs import run_figures
from qlung_plugin.runs.hparams import read_hparams
from speechbrain.utils.run_opts import RunOptions
from tests.recipes.conftest import ROOT, run_script

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
# The ends of the ladder are links to files that have rows of their own.
DISTINCT = [r for r in ROWS if not (ROOT / r["Hparam_file"]).is_symlink()]

# Which Brain looks up in the YAML by itself.
BRAIN_OPTIONS = {field.name for field in dataclasses.fields(RunOptions)}


def flags(text):
    """`'--key={a: 1}' --other=x`, as a shell takes it, as a mapping."""
    return dict(
        re.fullmatch(r"--(\w+)=(.*)", flag, re.DOTALL).groups()
        for flag in shlex.split(text)
    )


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


# What the rows name as if it were beside them.
FOLDERS = {
    "tests/tmp/ICBHI": "corpus",
    "tests/tmp/SPRSound": "sprsound_corpus",
    "tests/tmp/KAUH": "kauh_corpus",
    "tests/tmp/heart": "heart_corpus",
    "tests/tmp/ICBHI_run": "icbhi_run",
    "tests/tmp/SPRSound_run": "sprsound_run",
}


# The others' scripts run in the tests of their own subject, their blocks in those
# of another row, or part by part.
DRAWN = "recipes/SPRSound/classification/hparams/qlung.yaml"
FAST = {DRAWN, "recipes/ICBHI/quality/hparams/quality.yaml"}


def as_case(row):
    """A row of the tables as a case that is slow, if it runs elsewhere too."""
    name = row["Hparam_file"]
    marks = [] if name in FAST else [pytest.mark.slow]
    return pytest.param(row, id=name, marks=marks)


@pytest.mark.parametrize("row", [as_case(row) for row in DISTINCT])
def test_recipe_runs(row, request, cache, tmp_path, monkeypatch):
    hparams = ROOT / row["Hparam_file"]
    training = "classification/train.py" in row["Script_file"]
    if training and row["Hparam_file"] != DRAWN:  # all draw the same figures
        monkeypatch.setattr(
            run_figures, "write_figure", lambda figure, path: touch(path)
        )
    options = flags(row["test_debug_flags"])
    for value in set(options.values()) & set(FOLDERS):
        folder = tmp_path / value
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.symlink_to(request.getfixturevalue(FOLDERS[value]))
    monkeypatch.chdir(tmp_path)
    options["output_folder"] = "output"
    if "cache_folder" in load_blocks(hparams):
        options["cache_folder"] = str(cache)
    run_script(ROOT / row["Script_file"], hparams, options)

    exists = re.search(r"file_exists=\[(.*?)\]", row["test_debug_checks"])
    for name in exists[1].split(","):
        assert (tmp_path / "output" / name.strip()).exists(), name
    check = re.search(
        r"performance_check=\[(.*?), (.*?), <(.*?), (.*?)\]",
        row["test_debug_checks"],
    )
    if check is None:  # an evaluation has no epochs
        assert "train.py" not in row["Script_file"]
        return
    log, variable, bound, epoch = check.groups()
    line = next(
        line
        for line in (tmp_path / "output" / log).read_text().splitlines()
        if epoch in line
    )
    value = re.search(rf"{variable}: ([0-9.e+-]+)", line)[1]
    assert float(value) < float(bound)


SCRIPTS = {row["Script_file"]: row["Hparam_file"] for row in ROWS}


@pytest.mark.parametrize("script", SCRIPTS)
def test_without_data_folder_one_line_says_what_to_pass(script):
    with pytest.raises(SystemExit) as ended:
        run_script(ROOT / script, ROOT / SCRIPTS[script], {})
    assert "--data_folder /path/to/" in str(ended.value.code)
    assert "\n" not in str(ended.value.code)


@pytest.mark.parametrize("table", TABLES, ids=lambda path: path.name)
def test_table_is_in_upstream_format(table):
    assert table.read_text().splitlines()[0] == COLUMNS


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["Hparam_file"])
def test_row_names_existing_files(row):
    for column in COLUMNS.split(",")[2:6]:
        assert (ROOT / row[column]).is_file(), row[column]
    assert flags(row["test_debug_flags"])
    checks = row["test_debug_checks"]
    assert checks.startswith("file_exists=[")
    performance = re.search(r"performance_check=\[(.*?)\]", checks)
    if performance:  # as upstream reads it, or its whole run stops
        _, _, threshold, line = performance[1].split(",")
        assert float(threshold.strip(" <>=")) > 0
        assert int(line.split(":")[-1]) >= 0


@pytest.mark.parametrize(
    "hparams", sorted(ROOT.glob("recipes/*/*/hparams/**/*.yaml")), ids=str
)
def test_every_recipe_has_a_row(hparams):
    named = {ROOT / row["Hparam_file"] for row in ROWS}
    assert hparams in named


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["Hparam_file"])
def test_yaml_keys_are_used(row):
    """A top-level key is used by the script or by a later reference."""
    text = read_hparams(ROOT / row["Hparam_file"])
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
    text = re.sub(r"\s+#.*", "", read_hparams(path))
    node = yaml.compose(text, Loader=loader)
    return {key.value: yaml.serialize(value) for key, value in node.value}


SHORT = [
    path
    for path in sorted(ROOT.glob("recipes/*/*/hparams/**/*.yaml"))
    if "\n!include:" in path.read_text()
]


@pytest.mark.parametrize("path", SHORT, ids=lambda path: path.stem)
def test_what_changes_another_yaml_says_no_more(path):
    text = path.read_text()
    (name,) = re.findall("^!include:(.*)", text, re.MULTILINE)
    before, now = load_blocks(path.parent / name), load_blocks(path)
    keys = set(re.findall(r"^(\w+):", text, re.MULTILINE))
    # The comment on the data folder names another database.
    assert keys - {"data_folder"} == {
        key for key in before | now if before.get(key) != now.get(key)
    }


LADDER = ROOT / "recipes/ICBHI/classification/hparams/ladder"
RUNGS = [
    # From the rung before it, this one differs by the block alone.
    ("2_fixed_margin", "loss"),
    ("3_quality_margin", "loss"),
    ("4_imbalance_margin", "loss"),
    ("5_angular_classifier", "classifier"),
]


def test_each_rung_differs_by_one_block():
    before = load_blocks(LADDER / "1_cross_entropy.yaml")
    for name, changed in RUNGS:
        blocks = load_blocks(LADDER / f"{name}.yaml")
        different = {k for k in blocks | before if blocks[k] != before[k]}
        assert different == {"output_folder", changed}, name
        before = blocks


def test_the_ladder_leads_from_the_baseline_to_qlung():
    for rung, name in (("1_cross_entropy", "ce"), (RUNGS[-1][0], "qlung")):
        path = (LADDER / f"{rung}.yaml").resolve()
        assert path == LADDER.parent / f"{name}.yaml"


@pytest.mark.parametrize("suffix", ["", "_ast", "_clap"])
def test_baseline_differs_by_classifier_and_loss_alone(suffix):
    qlung = load_blocks(LADDER.parent / f"qlung{suffix}.yaml")
    ce = load_blocks(LADDER.parent / f"ce{suffix}.yaml")
    different = {key for key in qlung | ce if qlung[key] != ce[key]}
    assert different == {"output_folder", "classifier", "loss"}


@pytest.mark.parametrize("backbone", ["ast", "clap"])
def test_the_papers_configuration_to_the_letter(backbone):
    """What Kim et al. 2026 state: rate, batch, epochs, constants."""
    text = read_hparams(LADDER.parent / f"qlung_{backbone}.yaml")
    own = load_blocks(LADDER.parent / f"qlung_{backbone}.yaml")
    stated = {
        "lr": "0.00005",
        "batch_size": "8",
        "number_of_epochs": "50",
    }
    for key, value in stated.items():
        assert own[key].split("\n")[0] == value, key
    assert "torch.optim.Adam\n" in text and "CosineScheduler\n" in text
    assert "normalisation: absolute" in text
    assert "duration: 8.0" in text
    for constant in (
        "alpha: 0.7",
        "beta: 0.3",
        "kappa: 0.5",
        "target_margin: 0.2",
        "weights: [0.5, 0.5]",
        "scale: 15.0",
        "scale: 37.0",
        "weight: 0.4",
    ):
        assert f" {constant}\n" in text, constant
