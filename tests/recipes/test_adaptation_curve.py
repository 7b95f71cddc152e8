"""The benchmark of how many labelled patients a new device takes.

Authors
 * qlung_plugin contributors
"""

import runpy
import sys

import pandas as pd
import pytest

from tests.recipes.conftest import ROOT

pytestmark = pytest.mark.slow

OPTIONS = ("--patients", "2", "4", "--draws", "2", "--pool", "5")
SCRIPT = ROOT / "benchmarks" / "adaptation_curve.py"


def run(corpus, folder, *options):
    """Runs the script as the command line would, in this process."""
    arguments = {
        "--train_folder": corpus,
        "--test_folder": corpus,
        "--output_folder": folder,
    }
    with pytest.MonkeyPatch.context() as patch:
        texts = [str(text) for pair in arguments.items() for text in pair]
        patch.setattr(sys, "argv", [SCRIPT.name, *texts, *options])
        runpy.run_path(str(SCRIPT), run_name="__main__")


@pytest.fixture(name="curve", scope="module")
def fixture_curve(sprsound_corpus, tmp_path_factory):
    """All of intra's patients are in train, of whom some are left to judge on."""
    folder = tmp_path_factory.mktemp("curve")
    run(sprsound_corpus, folder, *OPTIONS)
    return sprsound_corpus, folder


def test_no_patient_is_judged_who_may_be_drawn(curve):
    _, folder = curve
    train, test = (
        set(pd.read_csv(folder / f"{name}.csv")["patient"])
        for name in ("train", "test")
    )
    assert train and test and not train & test


def test_every_draw_has_its_row(curve):
    _, folder = curve
    results = pd.read_csv(folder / "results.csv")
    assert results[["patients", "draw"]].values.tolist() == [
        *([2, 0], [2, 1]),
        *([4, 0], [4, 1]),
    ]
    assert results[["sp", "se", "auroc"]].stack().between(0, 100).all()
    score = (results["sp"] + results["se"]) / 2
    assert results["score"].tolist() == pytest.approx(score.tolist())
    table = (folder / "results.md").read_text()
    assert f"| 4 | {results['events'][2:].mean():.0f} |" in table
    assert (folder / "curve.png").stat().st_size > 10_000


def test_it_goes_on(curve, capsys):
    """What is there is not drawn again, and what is added is drawn as ever."""
    corpus, folder = curve
    whole = pd.read_csv(folder / "results.csv")
    whole[:1].to_csv(folder / "results.csv", index=False)
    run(corpus, folder, *OPTIONS)
    again = pd.read_csv(folder / "results.csv")
    pd.testing.assert_frame_equal(again, whole, atol=1e-6)
    assert "2 draws of patients" in capsys.readouterr().out


def test_without_anybody_to_judge_on(sprsound_corpus, tmp_path):
    with pytest.raises(SystemExit, match="give --pool"):
        run(sprsound_corpus, tmp_path)
