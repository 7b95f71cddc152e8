"""Results of runs whose quality measure was learned from annotations.

Who has learned from a database is not judged on its patients, nor set beside
those who have not, without a word.

Authors
 * qlung_plugin contributors
"""

from collections.abc import Iterable
from dataclasses import replace

from qlung_plugin.runs.databases import complete_database
from qlung_plugin.runs.evaluations import Evaluation


def set_supervised_apart(evaluations: Iterable[Evaluation]) -> list[Evaluation]:
    """Marks such runs, and judges them on patients that nothing learned from.

    On a database that a measure was learned from, runs with it are not compared;
    all are once more, at the end, without the patients of any measure.
    """
    evaluations = list(evaluations)
    patients: dict[str, set[str]] = {}  # that any measure was learned from
    for evaluation in evaluations:
        if evaluation.supervision:
            database = complete_database(evaluation.supervision["database"])
            learned_from = evaluation.supervision["patients"]
            patients.setdefault(database, set()).update(learned_from)
    apart, further = [], []
    for evaluation in map(_marked, evaluations):
        database = complete_database(evaluation.database)
        if not _is_supervised_on(evaluation, database):
            apart.append(evaluation)
        if database in patients:
            who = "that a quality was learned from"
            rest = evaluation.without(patients[database], who)
            if len(rest.predictions):
                further.append(rest)
    return apart + further


def _is_supervised_on(evaluation: Evaluation, database: str) -> bool:
    supervision = evaluation.supervision
    if not supervision:
        return False
    return database == complete_database(supervision["database"])


def _marked(evaluation: Evaluation) -> Evaluation:
    if not evaluation.supervision:
        return evaluation
    mark = f"quality supervised on {evaluation.supervision['database']}"
    name = f"{evaluation.configuration} ({mark})"
    return replace(evaluation, configuration=name)
