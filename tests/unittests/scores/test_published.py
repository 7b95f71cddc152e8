"""Published results: each row is whole, and says how it was selected.

Authors
 * qlung_plugin contributors
"""

import pytest

from qlung_plugin.scores.published import (
    ICBHI_OFFICIAL,
    PUBLISHED,
    SPRSOUND_INTER,
    published_results,
)


@pytest.mark.parametrize("benchmark", PUBLISHED)
def test_every_row_has_its_rule_its_score_and_its_source(benchmark):
    table = published_results(benchmark)
    assert (table[["method", "selection", "score", "source"]] != "").all(
        axis=None
    )
    assert not table.isna().any(axis=None)
    for _, row in table[table["sp"] != ""].iterrows():
        sp, se, score = (
            float(row[key].split()[0]) for key in ("sp", "se", "score")
        )
        # One of the papers has a score that is 0.2 off its own Sp and Se.
        assert (sp + se) / 2 == pytest.approx(score, abs=0.21)
    assert not table.duplicated(["method", "selection"]).any()


def test_qlung_leads_neither_table():
    for benchmark in (ICBHI_OFFICIAL, SPRSOUND_INTER):
        table = published_results(benchmark)
        score = table["score"].str.split().str[0].astype(float)
        assert not table["method"][score.idxmax()].startswith("QLung")
