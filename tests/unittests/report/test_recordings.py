"""Which cycles of a page get a sound.

Authors
 * qlung_plugin contributors
"""

from types import SimpleNamespace

import pytest
from hypothesis import (
    given,
    strategies as st,
)

from qlung_plugin.report.recordings import _spread, choose_cycles
from qlung_plugin.scores.icbhi_score import LABELS
from tests.unittests.report_runs import (
    CYCLES,
    PATIENTS,
    make_manifest,
    make_table,
)

TOTAL = PATIENTS * CYCLES


@given(st.lists(st.integers(), max_size=40, unique=True))
def test_each_beginning_of_a_spread_is_spread(items):
    spread = _spread(items)
    assert sorted(spread) == sorted(items)
    if len(items) >= 8:
        places = sorted(items.index(one) for one in spread[:3])
        assert places[0] < len(items) / 3 < places[1] < 2 * len(items) / 3
        assert places[2] > 2 * len(items) / 3 - 1


def predicted(name, seed):
    """A run with predictions, which is all that the choice looks at."""
    table = make_table(make_manifest(), seed, list(LABELS))
    return SimpleNamespace(name=name, predictions=table)


@pytest.mark.parametrize("count", [0, 9, 30, TOTAL - 1, 10**6])
def test_sounds_are_chosen_by_the_rule(count):
    runs = [predicted("ce/1", seed=1), predicted("qlung/1", seed=2)]
    tables = {run.name: run.predictions.set_index("id") for run in runs}
    chosen = choose_cycles(runs, count, set(runs[0].predictions["id"]))
    assert len(chosen) == len(set(chosen)) == min(count, TOTAL)
    mistakes = {}
    for name, table in tables.items():
        sure = table.filter(like="p_").max(axis=1)
        wrong = table["label"] != table["prediction"]
        mistakes[name] = sure[wrong].sort_values(ascending=False)
    any_wrong = set().union(
        *(confidences.index for confidences in mistakes.values())
    )
    right = [key for key in chosen if key not in any_wrong]
    all_right = TOTAL - len(any_wrong)
    assert len(right) == min(
        all_right, max(count // 3, count - len(any_wrong)), len(chosen)
    )
    # No mistake is left out of which a run is surer than of one that is there.
    for confidences in mistakes.values():
        there = confidences.index.isin(chosen)
        least = len(chosen) - len(right)
        assert there[: least // 2].all()
    # As many of each class, unless there are no more of it.
    labels = tables["ce/1"]["label"]
    of_class = labels[right].value_counts()
    there = labels[~labels.index.isin(any_wrong)].value_counts()
    for label, number in of_class.items():
        assert number >= min(of_class.max() - 1, there[label])


def test_chosen_right_cycles_are_spread_over_the_confidence():
    runs = [predicted("ce/1", seed=1)]
    table = runs[0].predictions.set_index("id")
    ids = table.index[table["label"] == table["prediction"]]
    chosen = choose_cycles(runs, len(ids) // 2, set(ids))
    confidence = table.filter(like="p_").max(axis=1)
    middle = confidence[ids].quantile([0.33, 0.67])
    of_chosen = confidence[chosen]
    assert (of_chosen < middle.iloc[0]).any()
    assert (of_chosen > middle.iloc[1]).any()
