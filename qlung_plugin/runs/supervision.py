"""Results of runs whose quality measure was learned from annotations.

Who has learned from a database is not judged on its patients, nor set beside
those who have not, without a word.

Authors
 * qlung_plugin contributors
"""

from dataclasses import replace

from qlung_plugin.runs.databases import complete_database


def set_supervised_apart(evaluations):
    """Marks such runs, and judges them on patients that nothing learned from.

    On a database that a quality measure was learned from, the runs with that
    measure are taken out of the comparison, and all runs are compared once
    more, without the patients that the measure was learned from.

    Arguments
    ---------
    evaluations : list of qlung_plugin.runs.evaluations.Evaluation
        In the order in which configurations are to be shown.

    Returns
    -------
    list of qlung_plugin.runs.evaluations.Evaluation
        In the same order; those of the further comparisons at the end.

    Example
    -------
    >>> set_supervised_apart([])
    []
    """
    supervised = [one for one in evaluations if one.supervision]
    patients = {}  # by database, those that any measure was learned from
    for one in supervised:
        database = one.supervision["database"]
        learned = patients.setdefault(database, set())
        learned.update(one.supervision["patients"])
    apart, further = [], []
    for one in map(_marked, evaluations):
        learned = patients.get(complete_database(one.database))
        if learned is None:
            apart.append(one)
            continue
        if not one.supervision or complete_database(
            one.database
        ) != complete_database(one.supervision["database"]):
            apart.append(one)
        kept = ~one.predictions["patient"].astype(str).isin(learned)
        if kept.any():
            further.append(_without(one, kept))
    return apart + further


def _marked(one):
    if not one.supervision:
        return one
    mark = f"quality supervised on {one.supervision['database']}"
    return replace(one, configuration=f"{one.configuration} ({mark})")


def _without(one, kept):
    left_out = one.predictions.loc[~kept, "patient"].nunique()
    text = f"without the {left_out} patients that a quality was learned from"
    return replace(
        one,
        partition=f"{one.partition}, {text}",
        predictions=one.predictions[kept].reset_index(drop=True),
    )
