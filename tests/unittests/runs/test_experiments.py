"""From folders of runs to tables and a report, on hand-made folders.

Authors
 * qlung_plugin contributors
"""

import re

import numpy as np
import pandas as pd
import pytest

from qlung_plugin.runs.comparison import results_table
from qlung_plugin.runs.evaluations import Damage
from qlung_plugin.runs.experiment_report import write_experiments
from qlung_plugin.runs.experiments import collect_evaluations
from qlung_plugin.scores.icbhi_score import LABELS, prediction_metrics
from qlung_plugin.scores.operating_point import choose_operating_point
from qlung_plugin.training.selection import CHECKPOINTS
from qlung_plugin.utils.files import write_json

ICBHI = {
    "database": "ICBHI 2017",
    "subset": "188 of 920 recordings",
    "split": "official",
    "protocol": "official split, validation on fold 0 of 5",
    "partition": "test side of the official split",
}
FOLD = {**ICBHI, "split": "patient_folds", "protocol": "patient fold 0 of 5"}
SPRSOUND = {
    "database": "SPRSound 2022",
    "subset": None,
    "split": "official",
    "protocol": "tested on inter, rhonchi as wheeze",
    "partition": "inter partition",
    "training": {"folder": "ce/1", "data": ICBHI},
}
# Two patients, each class twice; what is predicted is given as digits.
TRUTH = "00112233"


def write_evaluation(
    folder,
    selected="00112233",
    last=None,
    test_selected=None,
    data=ICBHI,
    truth=TRUTH,
    prefix="c",
    epoch=2,
    device="",
    recording="",
):
    """A folder as a run writes it: metrics, and a table per checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    given = {"selected": selected, "last": last, "test_selected": test_selected}
    metrics = {"data": data}
    for checkpoint, digits in given.items():
        if digits is None:
            continue
        table = pd.DataFrame(
            {
                "id": [f"{prefix}{i}" for i in range(len(truth))],
                "patient": [f"{prefix}{i % 2:03d}" for i in range(len(truth))],
                "label": [LABELS[int(digit)] for digit in truth],
                "prediction": [LABELS[int(digit)] for digit in digits],
                **{
                    f"p_{name}": [0.7 if int(d) == k else 0.1 for d in digits]
                    for k, name in enumerate(LABELS)
                },
            }
        )
        table[["age", "sex", "location", "quality"]] = ""
        table["device"], table["recording"] = device, recording
        suffix = "" if checkpoint == "selected" else f"_{checkpoint}"
        table.to_csv(folder / f"predictions{suffix}.csv", index=False)
        metrics[checkpoint] = {
            "epoch": epoch,
            "selection": CHECKPOINTS[checkpoint].words,
            **prediction_metrics(table["label"], table["prediction"]),
            "patients": table["patient"].nunique(),
        }
    write_json(metrics, folder / "metrics.json")
    return folder


def scores(folder):
    """Scores by configuration, seed, database and checkpoint."""
    evaluations, notes = collect_evaluations(folder)
    keys = ["configuration", "seed", "database", "checkpoint"]
    return results_table(evaluations).set_index(keys)["score"].to_dict(), notes


DATABASE = "ICBHI 2017, subset (188 of 920 recordings)"


# Which runs there are


def test_every_checkpoint_and_database_of_every_run(tmp_path):
    write_evaluation(tmp_path / "ce" / "2", "00112233", "00002233", "01112233")
    write_evaluation(tmp_path / "ce" / "10", "00000000", "00112200")
    write_evaluation(tmp_path / "ce" / "2" / "validation", "11111111")
    write_evaluation(
        tmp_path / "ce" / "2" / "sprsound", "00112200", data=SPRSOUND
    )
    found, notes = scores(tmp_path)
    assert notes == []
    expected = {
        ("ce", "2", DATABASE, "selected"): 100,
        ("ce", "2", DATABASE, "last"): pytest.approx((100 + 200 / 3) / 2),
        ("ce", "2", DATABASE, "test_selected"): 75,
        ("ce", "2", "SPRSound 2022", "selected"): pytest.approx(
            (100 + 200 / 3) / 2
        ),
        ("ce", "10", DATABASE, "selected"): 50,
        ("ce", "10", DATABASE, "last"): pytest.approx((100 + 200 / 3) / 2),
    }
    assert list(found.items()) == list(expected.items())  # in natural order


@pytest.mark.parametrize(
    "run, collected, expected",
    [
        ("ce/1", ".", ("ce", "1")),
        ("ladder/ce/1", ".", ("ladder/ce", "1")),
        ("results/ce/1", "results/ce", ("ce", "1")),
        ("results/ce/1", "results/ce/1", ("ce", "1")),
    ],
)
def test_names_of_folders_are_configuration_and_seed(
    tmp_path, run, collected, expected
):
    write_evaluation(tmp_path / run)
    [one], _ = collect_evaluations(tmp_path / collected)
    assert (one.configuration, one.seed) == expected


def test_experiment_json_says_better_than_the_folder(tmp_path):
    folder = write_evaluation(tmp_path / "backup" / "run of Monday")
    known = {"configuration": "qlung", "seed": "4", "fold": None}
    write_json(known, folder / "experiment.json")
    [one], _ = collect_evaluations(tmp_path)
    assert (one.configuration, one.seed) == ("qlung", "4")
    write_json({"seed": 4}, folder / "experiment.json")
    _, [note] = collect_evaluations(tmp_path)
    assert note.endswith("experiment.json lacks configuration")


def test_unfinished_runs_are_noted(tmp_path):
    write_evaluation(tmp_path / "ce" / "1")
    write_evaluation(tmp_path / "ce" / "2" / "validation")  # and no more
    for folder in ("qlung/1", "ce/1/sprsound"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "experiment.json").write_text("{}")
    evaluations, notes = collect_evaluations(tmp_path)
    assert [(one.configuration, one.seed) for one in evaluations] == [
        ("ce", "1")
    ]
    assert sorted(notes) == [
        f"{name} has no metrics.json: unfinished or broken"
        for name in ("ce/1/sprsound", "ce/2", "qlung/1")
    ]


def test_no_results(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no result"):
        collect_evaluations(tmp_path)
    with pytest.raises(FileNotFoundError, match="is no folder"):
        collect_evaluations(tmp_path / "ce")


# Folds


def write_folds(folder, folds=range(5), **parts):
    """Folds of which the k-th has k wrong normal cycles of 8."""
    for k in folds:
        truth, digits = "0" * 8 + "123", "1" * k + "0" * (8 - k) + "123"
        for part, data in parts.items():
            write_evaluation(
                folder / f"fold_{k}" / ("" if part == "test" else part),
                digits,
                "00000000123",
                data=data,
                truth=truth,
                prefix=f"{'c' if part == 'sprsound' else k}_",
                epoch=k,
            )


def test_patient_folds_are_pooled(tmp_path):
    write_folds(
        tmp_path / "ce" / "1", test=FOLD, validation=FOLD, sprsound=SPRSOUND
    )
    evaluations, notes = collect_evaluations(tmp_path)
    table = results_table(evaluations).set_index(["database", "checkpoint"])
    assert notes == [] and len(table) == 4
    assert set(table["fold"]) == {"5 pooled"}
    icbhi = table.loc[DATABASE, "selected"]
    assert icbhi["sp"] == pytest.approx(100 * (1 - 10 / 40))
    assert icbhi["se"] == 100
    assert icbhi["cycles"] == 55 and icbhi["patients"] == 10
    assert icbhi["epoch"] == "0/1/2/3/4"
    assert "each tested out of fold" in icbhi["partition"]
    # The same events, judged by five models: the mean of their scores.
    other = table.loc["SPRSound 2022", "selected"]
    assert other["sp"] == pytest.approx(
        np.mean([100 * (1 - k / 8) for k in range(5)])
    )
    assert other["cycles"] == 11 and other["patients"] == 2
    assert "inter partition, judged by the models of all" in other["partition"]


def test_folds_of_the_training_side_are_judged_out_of_fold(tmp_path):
    write_folds(tmp_path / "ce" / "1", test=ICBHI, validation=ICBHI)
    for k in range(5):  # the test side must not be looked at
        write_evaluation(tmp_path / "ce" / "1" / f"fold_{k}", "11111111")
    evaluations, notes = collect_evaluations(tmp_path)
    table = results_table(evaluations).set_index("checkpoint")
    assert notes == [] and list(table.index) == ["selected", "last"]
    assert table.loc["selected", "sp"] == pytest.approx(75)
    assert table.loc["last", "sp"] == pytest.approx(100)
    assert "out of fold" in table.loc["selected", "partition"]
    selected, last = (one.selection for one in evaluations)
    assert "optimistic" in selected and "optimistic" not in last


def test_seeds_whose_folds_are_incomplete_are_left_out(tmp_path):
    write_folds(tmp_path / "ce" / "1", test=FOLD)
    write_folds(tmp_path / "ce" / "2", folds=(0, 3), test=FOLD)
    evaluations, notes = collect_evaluations(tmp_path)
    assert {one.seed for one in evaluations} == {"1"}
    assert len(notes) == 1 and "seed 2: of 5 folds only 0, 3" in notes[0]


def test_folds_beside_a_run_without(tmp_path):
    write_evaluation(tmp_path / "ce" / "1")
    write_folds(tmp_path / "ce" / "1", test=FOLD)
    evaluations, _ = collect_evaluations(tmp_path)
    selected = [one for one in evaluations if one.checkpoint == "selected"]
    assert [one.fold for one in selected] == ["", "5 pooled"]
    assert len({one.partition for one in selected}) == 2


def test_folds_that_overlap_are_left_out(tmp_path):
    write_folds(tmp_path / "ce" / "1", test=FOLD)
    write_evaluation(
        tmp_path / "ce" / "1" / "fold_4",
        "00112233",
        "00112233",
        data=FOLD,
        prefix="0_",
    )
    write_evaluation(tmp_path / "other" / "1")
    evaluations, [note] = collect_evaluations(tmp_path)
    assert {one.configuration for one in evaluations} == {"other"}
    assert isinstance(note, Damage)
    assert note.startswith("ce, seed 1 is left out: ")
    assert "do not complete each other" in note


# p_normal is 0.7 where normal is called, else 0.1: the AUROC is the mean of Sp
# and the two-class Se.
DEVICE_FOLDS = {
    "AKGC417L": ("00112233", 100, 100),
    "LittC2SE": ("01112233", 75, 75),
    "Meditron": ("00000000", 50, 50),
}


def write_device_folds(folder, devices=DEVICE_FOLDS):
    for device in devices:
        place = folder / f"fold_{device}"
        digits = DEVICE_FOLDS[device][0]
        write_evaluation(
            place / "validation",
            digits,
            prefix=device,
            device=device,
            recording=[f"{device}_{i // 2}" for i in range(8)],
        )
        write_evaluation(place, "11111111")  # must not be looked at


def test_devices_are_pooled_and_each_is_shown(tmp_path):
    write_device_folds(tmp_path / "ce" / "1")
    text = write_report(tmp_path)
    title = f"## {DATABASE}: devices of the training side, each held out"
    header, row = table_after(text.split(title)[1], "### By held-out device")
    figures = [
        f"{name}, {device}"
        for device in ("macro mean", *DEVICE_FOLDS)
        for name in ("AUROC", "Score")
    ]
    figures[1:1] = ["95 % interval", "to the first"]
    assert header[3:] == [*figures, "Offset of normal"]
    assert row[:3] == ["selected", "ce", "1"]
    low, high = map(float, row.pop(4).split(" to "))
    assert low <= 75 <= high and row.pop(4) == ""
    assert row[3:-1] == [
        format(value, ".2f")
        for values in (("", 75, 75), *DEVICE_FOLDS.values())
        for value in values[1:]
    ]
    evaluations, _ = collect_evaluations(tmp_path)
    point = choose_operating_point(evaluations[0].predictions, LABELS)
    assert row[-1] == f"{point['normal']:+.2f}"
    assert text.count("\n## ") == 1 and "Incomplete" not in text
    [_, _, pooled] = table_after(text, title)
    assert pooled[3:6] == ["83.33", "66.67", "75.00"]
    # Of each device one recording is normal. Called abnormal are 3 of AKGC417L,
    # 3 of LittC2SE (one of them, and a half of the normal one), none of Meditron.
    _, row = table_after(text, "### Recordings, by the share")
    assert row[:3] == ["selected", "ce", "0.500"]
    assert row[3:6] == ["100.00", "66.67", "83.33"]


def test_the_macro_mean_is_compared_with_the_first_configuration(tmp_path):
    for name in ("a", "b"):
        write_device_folds(tmp_path / name / "1")
    write_device_folds(tmp_path / "c" / "1")
    write_device_folds(tmp_path / "c" / "2")
    title = f"## {DATABASE}: devices of the training side, each held out"
    text = write_report(tmp_path).split(title)[1]
    _, a, b, c = table_after(text, "### By held-out device")
    assert [a[5], b[5]] == ["", "+0.00 (+0.00 to +0.00)"]
    assert (c[2], c[5]) == ("2", "")  # other seeds: not in pairs


def test_devices_beside_patients_and_incomplete_ones(tmp_path):
    write_folds(tmp_path / "ce" / "1", test=ICBHI, validation=ICBHI)
    write_device_folds(tmp_path / "ce" / "1", ("AKGC417L", "Meditron"))
    evaluations, [note] = collect_evaluations(tmp_path)
    assert {one.fold for one in evaluations} == {"5 pooled"}
    assert "of 3 devices only AKGC417L, Meditron finished" in note


def test_a_fold_of_an_unknown_device_is_named(tmp_path):
    write_evaluation(tmp_path / "ce" / "1" / "fold_Welch")
    _, [note] = collect_evaluations(tmp_path)
    assert isinstance(note, Damage) and "fold Welch is none of" in note


# Malformed folders


@pytest.mark.parametrize(
    "old, new, message",
    [
        (",both,both", ",rhonchi,both", "ce/1/predictions.csv: .*rhonchi"),
        (
            "c1,c001,normal,normal,0.7,0.1",
            "c1,c001,normal,crackle,0.1,0.7",
            "ce/1/metrics.json: selected: sp is 100.0, but predictions.csv"
            " gives 50.0",
        ),
        ("", None, "No such file.*ce/1/predictions.csv"),
    ],
)
def test_a_damaged_run_is_left_out_and_named(tmp_path, old, new, message):
    path = write_evaluation(tmp_path / "ce" / "1") / "predictions.csv"
    text = path.read_text()
    assert old in text
    if new is None:
        path.unlink()
    else:
        path.write_text(text.replace(old, new))
    write_evaluation(tmp_path / "ce" / "2")
    evaluations, [note] = collect_evaluations(tmp_path)
    assert {one.seed for one in evaluations} == {"2"}
    assert isinstance(note, Damage)
    assert re.match(".*/ce/1 is left out: ", note) and re.search(message, note)


def test_one_run_twice(tmp_path):
    for folder in ("a", "b"):
        run = write_evaluation(tmp_path / folder)
        known = {"configuration": "ce", "seed": "1", "fold": None}
        write_json(known, run / "experiment.json")
    with pytest.raises(ValueError, match="b and .*a are both configuration ce"):
        collect_evaluations(tmp_path)


def test_one_database_twice(tmp_path):
    write_evaluation(tmp_path / "ce" / "1")
    for folder in ("sprsound", "sprsound_again"):
        write_evaluation(tmp_path / "ce" / "1" / folder, data=SPRSOUND)
    with pytest.raises(ValueError, match="both of ce, 1, SPRSound"):
        collect_evaluations(tmp_path)


# Report


def write_report(folder, configurations=()):
    evaluations, notes = collect_evaluations(folder)
    return write_experiments(folder / "out", evaluations, configurations, notes)


def table_after(text, heading):
    """The rows of the first table after a heading, as lists of cells."""
    text = text.split(heading, 1)[1]
    lines = re.search(r"(\|.*\|\n)+", text)[0].splitlines()
    rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in lines]
    return [rows[0], *rows[2:]]


TEST_SIDE = f"## {DATABASE}: test side of the official split"


def write_two_configurations(folder):
    """Scores of seeds 1 and 2: 50 and 75 for ce, 75 and 100 for qlung."""
    for name, seed, digits in (
        ("ce", 1, "00000000"),
        ("ce", 2, "01112233"),
        ("qlung", 1, "01112233"),
        ("qlung", 2, "00112233"),
    ):
        run = folder / name / str(seed)
        write_evaluation(run, digits, "00112233", "00112233")
        write_evaluation(run / "sprsound", digits, data=SPRSOUND)
    return folder


@pytest.fixture(scope="module")
def two_configurations(tmp_path_factory):
    return write_two_configurations(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def report(two_configurations):
    return write_report(two_configurations)


def test_report_holds_means_differences_and_seeds(report):
    header, floor, *rows = table_after(report, TEST_SIDE)
    assert header[:6] == "Checkpoint,Configuration,Seeds,Sp,Se,Score".split(",")
    assert floor[1:6] == ['always "normal"', "", "100.00", "0.00", "50.00"]
    assert [row[:3] for row in rows] == [
        [checkpoint, name, "2"]
        for checkpoint in (
            "selected",
            "last",
            "test-selected (as published results mostly are)",
        )
        for name in ("ce", "qlung")
    ]
    assert rows[0][3:6] == ["75.00 ± 35.36", "50.00 ± 70.71", "62.50 ± 17.68"]
    assert rows[1][5] == "87.50 ± 17.68"
    assert re.fullmatch("[0-9.]+ to 100.00", rows[1][8])
    [header, first, *_] = table_after(report, "### Difference to ce")
    assert first[:3] == ["selected", "qlung", "2"]
    assert first[5].startswith("+25.00 (")
    header, *rows = table_after(report, "### Score of each seed")
    assert header == ["Checkpoint", "Configuration", "1", "2"]
    assert rows[0] == ["selected", "ce", "50.00", "75.00"]
    assert "Incomplete" not in report


def test_report_says_what_the_figures_are_of(report):
    text = " ".join(report.split())
    for part in (
        "exact class",
        "any abnormal class",
        "two-way bootstraps",
        "8 cycles of 2 patients (2 normal, 2 crackle, 2 wheeze, 2 both)",
        "Protocol: official split, validation on fold 0 of 5",
        f"Checkpoint selected: {CHECKPOINTS['selected'].words}",
        "## SPRSound 2022: inter partition",
        "Protocol: tested on inter, rhonchi as wheeze; trained on ICBHI 2017,"
        " subset (188 of 920 recordings).",
    ):
        assert part in text, part


def test_order_of_configurations_decides_what_is_compared(tmp_path):
    for name in ("ce", "qlung"):
        write_evaluation(tmp_path / name / "1")
    text = write_report(tmp_path, ["qlung"])
    assert "### Difference to qlung" in text
    assert "### Difference to ce" not in text
    [_, _, first, *_] = table_after(text, TEST_SIDE)
    assert first[1] == "qlung"


def test_published_results_are_in_their_own_block(report):
    icbhi, sprsound = report.split("## SPRSound 2022")
    for part, method, selection, score in (
        (icbhi, "PAFA (BEATs)", "test set or unstated", "64.84 ± 0.60"),
        (icbhi, "M2D2", "held-out patients, the operating point too", "64.30"),
        (sprsound, "QLung on AST", "test set or unstated", "58.23 ± 3.83"),
        (sprsound, "BTS-CARD", "test set or unstated", "61.96 ± 1.50"),
    ):
        rows = table_after(part, "### Published, full database")
        [row] = [row for row in rows if row[0] == method]
        assert row[1] == selection and row[4].startswith(score) and row[5]


@pytest.mark.parametrize(
    "data",
    [
        {**ICBHI, "database": "recordings in ICBHI's layout"},
        {**ICBHI, "protocol": "patient fold 0 of 5"},
        {**SPRSOUND, "protocol": "tested on inter+intra, merged"},
        {**SPRSOUND, "protocol": "trained on train, tested on inter, merged"},
        {**SPRSOUND, "training": {"folder": "ce/1", "data": None}},
        {**ICBHI, "training": {"folder": "ce/1", "data": SPRSOUND}},
    ],
)
def test_nothing_published_is_set_beside_other_data(tmp_path, data):
    write_evaluation(tmp_path / "ce" / "1", data=data)
    assert "Published" not in write_report(tmp_path)


def test_patients_on_both_sides_are_left_out_once_more(tmp_path):
    """Of the two patients, the second, all of whose cycles are called normal."""
    data = {**ICBHI, "patients_on_both_sides": ["c001", "999"]}
    write_evaluation(tmp_path / "ce" / "1", "00102030", data=data)
    other = {**SPRSOUND, "patients_on_both_sides": ["c001"]}
    write_evaluation(tmp_path / "ce" / "1" / "sprsound", data=other)
    text = write_report(tmp_path)
    who = "without the 1 patients who are on both sides of the split"
    assert text.count(who) == 1
    [_, _, all_of_them] = table_after(text, f"{TEST_SIDE}\n")
    [_, _, without] = table_after(text, f"{TEST_SIDE}, {who}")
    assert all_of_them[3:6] == ["100.00", "50.00", "75.00"]
    assert without[3:6] == ["100.00", "100.00", "100.00"]
    rest = text.split(who)[1]
    assert "4 cycles of 1 patients" in rest and "Published" not in rest


def test_enough_seeds_are_not_printed_one_by_one(tmp_path):
    for seed in range(5):
        write_evaluation(tmp_path / "ce" / str(seed))
    text = write_report(tmp_path)
    assert "Score of each seed" not in text
    assert "Difference" not in text  # to what?


def test_missing_seeds_are_noted(tmp_path):
    run = write_two_configurations(tmp_path) / "qlung" / "2"
    (run / "sprsound" / "metrics.json").unlink()
    (run / "sprsound" / "experiment.json").write_text("{}")
    text = write_report(tmp_path)
    notes = text.split("**Incomplete.**")[1].split("##")[0]
    assert "SPRSound 2022, inter partition: qlung lacks seed 2" in notes
    assert "qlung/2/sprsound has no metrics.json" in notes
    sprsound = text.split("## SPRSound 2022")[1]
    [_, row] = table_after(sprsound, "### Difference to ce")
    assert row[2] == "1"
    assert row[5].startswith("+25.00")
    seeds = table_after(sprsound, "### Score of each seed")
    assert seeds[-1] == ["selected", "qlung", "75.00", ""]


def test_configurations_on_different_cycles_are_not_compared(tmp_path):
    write_evaluation(tmp_path / "ce" / "1")
    write_evaluation(tmp_path / "qlung" / "1", "0011", truth="0011")
    text = write_report(tmp_path)
    [_, row] = table_after(text, "### Difference to ce")
    assert row[2] == "not judged on the same cycles as ce"
    assert set(row[3:]) == {"n/a"}
    assert "Data (ce): 8 cycles" in text and "Data (qlung): 4 cycles" in text


def test_files(two_configurations, report):
    out = two_configurations / "out"
    assert (out / "results.md").read_text(encoding="utf-8") == report
    assert (out / "scores.png").read_bytes().startswith(b"\x89PNG")
    table = pd.read_csv(out / "results.csv")
    assert len(table) == 2 * 2 * 4
    evaluations, _ = collect_evaluations(two_configurations)
    expected = results_table(evaluations)
    assert list(table) == list(expected)
    assert np.allclose(table["score"], expected["score"], atol=1e-4)
