"""Tests of keeping supervised quality apart.

Authors
 * qlung_plugin contributors
"""

import pytest

from qlung_plugin.runs.experiment_report import write_experiments
from qlung_plugin.runs.supervision import set_supervised_apart
from tests.unittests.runs.conftest import evaluation

LEARNED = {"database": "SPRSound 2022", "patients": ["41", "42"]}


def supervised(configuration, database, supervision=None):
    """Four cycles of as many patients, the second judged wrong."""
    return evaluation(
        configuration,
        "1",
        ["normal", "crackle", "normal", "wheeze"],
        ["normal", "normal", "normal", "wheeze"],
        ["41", "42", "43", "44"],
        database=database,
        supervision=supervision,
    )


@pytest.fixture
def evaluations():
    """Two configurations, one supervised, on both databases."""
    return [
        supervised(name, database, supervision)
        for name, supervision in (("ce", None), ("expert", LEARNED))
        for database in ("ICBHI 2017, subset (2)", "SPRSound 2022, subset (9)")
    ]


def test_without_supervision_nothing_changes():
    ones = [supervised("ce", "SPRSound 2022"), supervised("qlung", "ICBHI")]
    assert set_supervised_apart(ones) == ones


def test_elsewhere_a_supervised_run_is_marked_only(evaluations):
    results = [
        one
        for one in set_supervised_apart(evaluations)
        if one.database.startswith("ICBHI")
    ]
    assert [one.configuration for one in results] == [
        "ce",
        "expert (quality supervised on SPRSound 2022)",
    ]
    assert all(len(one.predictions) == 4 for one in results)


def test_where_it_learned_it_is_judged_on_others(evaluations):
    results = [
        one
        for one in set_supervised_apart(evaluations)
        if one.database.startswith("SPRSound")
    ]
    whole = [one for one in results if "without" not in one.partition]
    assert [one.configuration for one in whole] == ["ce"]
    assert len(whole[0].predictions) == 4
    apart = [one for one in results if "without" in one.partition]
    assert [one.configuration.split()[0] for one in apart] == ["ce", "expert"]
    for one in apart:
        assert "without the 2 patients" in one.partition
        assert list(one.predictions["patient"]) == ["43", "44"]


def test_patients_of_two_measures_are_all_left_out(evaluations):
    other = {"database": "SPRSound 2022", "patients": ["43"]}
    evaluations.append(supervised("other", "SPRSound 2022, subset (9)", other))
    for one in set_supervised_apart(evaluations):
        if "without" in one.partition:
            assert list(one.predictions["patient"]) == ["44"]


def test_no_patient_left_is_no_block(evaluations):
    everyone = {**LEARNED, "patients": ["41", "42", "43", "44"]}
    ones = [supervised("expert", "SPRSound 2022", everyone)]
    assert set_supervised_apart(ones) == []


def test_the_report_has_a_block_of_its_own(evaluations, tmp_path):
    text = write_experiments(tmp_path, evaluations, ["expert", "ce"])
    heads = [line for line in text.splitlines() if line.startswith("## ")]
    assert len(heads) == 3
    assert sum("without the 2 patients" in head for head in heads) == 1
    assert "expert (quality supervised on SPRSound 2022)" in text
