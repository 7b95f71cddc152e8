"""Tests of the learned quality score: its formula by hand, and its file.

Authors
 * qlung_plugin contributors
"""

import json
import math

import pytest
import torch
from hypothesis import (
    given,
    settings,
    strategies as st,
)
from scipy.special import expit, logit

from qlung_plugin.lobes.quality import (
    LearnedQualityScore,
    QualityMeasure,
    RecordingMeasurements,
    read_coefficients,
)
from qlung_plugin.lobes.quality.coefficients import plain_coefficients

RATE = 8000

# No deadline: the machine may be busy.
WIDE = settings(max_examples=30, deadline=None)

# Mean, scale and coefficient. The last is missing below a second.
MODEL = {
    "flatness": (-2.0, 0.5, -1.0),
    "crest_factor": (12.0, 4.0, 0.25),
    "share_3000_3600": (-30.0, 10.0, -0.5),
    "periodicity_200_400": (1.0, 0.4, 2.0),
}
INTERCEPT, LIMIT = 0.75, 3.0


def content(**changes):
    """Of a coefficient file."""
    whole = {
        "measurements": {
            name: dict(zip(("mean", "scale", "coefficient"), numbers))
            for name, numbers in MODEL.items()
        },
        "intercept": INTERCEPT,
        "limit": LIMIT,
        "provenance": {"database": "made up", "patients": ["1", "2"]},
    }
    return {**whole, **changes}


def changed(name, **numbers):
    """The file with other numbers for one measurement."""
    measurements = content()["measurements"]
    measurements[name].update(numbers)
    return content(measurements=measurements)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("coefficients") / "made_up.json"
    path.write_text(json.dumps(content()), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def score(path):
    return LearnedQualityScore(RATE, path)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def recordings(seconds=3.0):
    """Noises of different colour that breathe, and one with a knock."""
    time = torch.arange(round(seconds * RATE)) / RATE
    waveforms = 0.05 * noise(4, len(time))
    for i, waveform in enumerate(waveforms):
        swell = torch.sin(math.pi * (0.4 + 0.1 * i) * time).square()
        waveforms[i] = (0.1 + swell) * (waveform + 0.4 * i * waveform.roll(1))
    waveforms[3, 1000] = 3.0
    return waveforms


def logit_by_hand(row):
    """One recording's, from numbers or NaN."""
    total = INTERCEPT
    for value, (mean, scale, coefficient) in zip(row, MODEL.values()):
        if not math.isnan(value):
            standardised = (value - mean) / scale
            total += coefficient * max(-LIMIT, min(LIMIT, standardised))
    return total


class TestScore:
    @pytest.mark.parametrize(
        "row, expected",
        [
            ([-2.0, 12.0, -30.0, 1.0], 0.75),  # the means
            ([-3.0, 8.0, -35.0, 1.2], 0.75 + 2.0 - 0.25 + 0.25 + 1.0),
            # Three scales are the limit, either way.
            ([90.0, 12.0, -30.0, 1.0], 0.75 - 3.0),
            ([-2.0, 12.0, -math.inf, 1.0], 0.75 + 1.5),
            # What is missing is a mean.
            ([-1.5, 12.0, math.nan, math.nan], 0.75 - 1.0),
        ],
    )
    def test_known_values(self, score, row, expected):
        value = score.score(torch.tensor([row])).item()
        assert value == pytest.approx(expit(expected), abs=1e-6)

    def test_of_nothing_is_0(self, score):
        rows = torch.full((2, 4), math.nan)
        rows[1, 0] = -2.0
        assert score.score(rows).tolist() == pytest.approx([0, expit(0.75)])
        assert score.score(torch.zeros(0, 4)).shape == (0,)

    @WIDE
    @given(
        st.lists(
            st.floats(-200, 200, width=32) | st.just(math.nan),
            min_size=4,
            max_size=4,
        ).filter(lambda row: not all(map(math.isnan, row)))
    )
    def test_against_a_loop(self, score, row):
        value = score.score(torch.tensor([row])).item()
        assert value == pytest.approx(expit(logit_by_hand(row)), abs=1e-5)

    def test_of_waveforms(self, score):
        assert isinstance(score, QualityMeasure)
        assert score.names == (*MODEL, "silent_share")
        measured = RecordingMeasurements(RATE, tuple(MODEL)).measure(
            recordings()
        )
        scores = score(recordings())
        assert scores.shape == (4,) and scores.dtype == torch.float32
        expected = [expit(logit_by_hand(row)) for row in measured.tolist()]
        assert scores.tolist() == pytest.approx(expected, abs=1e-5)


class TestExplain:
    def test_adds_up_to_the_logit(self, score):
        scores = score(recordings()).tolist()
        explained = score.explain(recordings())
        assert [why["quality"] for why in explained] == scores
        for why in explained:
            parts = [m["contribution"] for m in why["measurements"].values()]
            assert why["intercept"] == INTERCEPT
            total = why["intercept"] + sum(parts)
            assert total == pytest.approx(logit(why["quality"]), abs=1e-3)

    def test_names_every_measurement_worst_first(self, score):
        measured = score.measure(recordings()).tolist()
        for why, row in zip(score.explain(recordings()), measured):
            measurements = why["measurements"]
            assert sorted(measurements) == sorted(MODEL)
            parts = [m["contribution"] for m in measurements.values()]
            assert parts == sorted(parts)
            for name, value in zip(MODEL, row):
                assert measurements[name]["value"] == value

    def test_of_silence(self, score):
        why = score.explain(torch.zeros(1, RATE))[0]
        assert why["quality"] == 0
        for measurement in why["measurements"].values():
            assert math.isnan(measurement["value"])
            assert measurement["contribution"] == 0


class TestReading:
    def test_finds_what_was_written(self, path):
        model = read_coefficients(str(path))
        assert model.names == tuple(MODEL)
        expected = torch.tensor(list(MODEL.values()))
        assert torch.equal(model.values, expected)
        assert (model.intercept, model.limit) == (INTERCEPT, LIMIT)

    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="absent.json"):
            read_coefficients(tmp_path / "absent.json")


def without(key):
    return {name: part for name, part in content().items() if name != key}


# What is written, and what the error names of it.
REFUSED = {
    "bytes": (b"\xff\xfe\x00", ""),
    "truncated": (json.dumps(content()).encode()[:-20], ""),
    "a list": ([], ""),
    "no provenance": (without("provenance"), "provenance"),
    "a name alone": (content(measurements={"flatness": 3}), ""),
    "nothing measured": (content(measurements={}), "none"),
    "another measurement": (
        content(
            measurements={"share_0_51": content()["measurements"]["flatness"]}
        ),
        "share_0_51",
    ),
    "no mean": (changed("crest_factor", mean=None), ""),
    "beyond numbers": (content(intercept=10**400), ""),
    "NaN as mean": (changed("crest_factor", mean=math.nan), "crest_factor"),
    "a scale of 0": (changed("flatness", scale=0), "flatness"),
    "an intercept of NaN": (content(intercept=math.nan), ": intercept"),
    "a limit of 0": (content(limit=0.0), ": limit"),
    "no limit at all": (content(limit=math.inf), ": limit"),
    "an empty range": (changed("flatness", range=[1.0, 1.0]), "flatness"),
    "half a range": (changed("flatness", range=[1.0]), ""),
}


@pytest.mark.parametrize("written, name", REFUSED.values(), ids=REFUSED)
def test_what_is_no_coefficients_is_refused(tmp_path, written, name):
    """The error names the file, and what is wrong in it."""
    path = tmp_path / "refused.json"
    if not isinstance(written, bytes):
        written = json.dumps(written).encode()
    path.write_bytes(written)
    with pytest.raises(ValueError) as error:
        read_coefficients(path)
    assert type(error.value) is ValueError
    assert str(path) in str(error.value) and name in str(error.value)


class TestFitted:
    """Standardised by the recordings at hand."""

    ROWS = torch.tensor(
        [
            [-1.0, 10.0, math.nan, 0.5],
            [-3.0, 10.0, math.nan, 0.9],
            [-5.0, 10.0, -20.0, math.nan],
            [math.nan] * 4,
        ]
    )

    @pytest.fixture
    def fitted(self, path):
        score = LearnedQualityScore(RATE, path, normalisation="fitted")
        score.fit(self.ROWS)
        return score

    def test_by_hand(self, fitted):
        # Flatness: mean -3, deviation sqrt(8 / 3). Crest factor: no spread, as
        # in training. The third: one value, as in training. Rhythm: 0.7, 0.2.
        deviation = math.sqrt(8 / 3)
        expected = [
            INTERCEPT - 2 / deviation + 0.25 * -0.5 + 2.0 * -1,
            INTERCEPT + 0.25 * -0.5 + 2.0 * 1,
            INTERCEPT + 2 / deviation + 0.25 * -0.5 - 0.5 * 1,
        ]
        found = fitted.score(self.ROWS)
        assert logit(found[:3].double().numpy()) == pytest.approx(
            expected, abs=1e-5
        )
        assert found[3] == 0

    def test_what_all_share_does_not_count(self, path, score):
        fitted = LearnedQualityScore(RATE, path, normalisation="fitted")
        measured = score.measure(recordings())
        fitted.fit(measured)
        shifted = measured + torch.tensor([1.5, 6.0, -9.0, 0.3, 0.0])
        again = LearnedQualityScore(RATE, path, normalisation="fitted")
        again.fit(shifted)
        torch.testing.assert_close(
            fitted.score(measured), again.score(shifted), atol=1e-4, rtol=0
        )
        assert not torch.allclose(score.score(measured), score.score(shifted))

    @pytest.mark.parametrize(
        "row, message",
        [
            ([0.0, math.nan], "standards has crest_factor .*scale of nan"),
            ([0.0, 0.0], "scale of 0,"),
            ([1e30, 1.0], r"mean of 1e\+30"),
        ],
    )
    def test_no_standards_of_a_training_set_are_named(
        self, path, fitted, row, message
    ):
        fitted.check_fitted()
        LearnedQualityScore(RATE, path).check_fitted()
        other = LearnedQualityScore(RATE, path, normalisation="fitted")
        with pytest.raises(ValueError, match="^standards is NaN"):
            other.check_fitted()
        with pytest.raises(RuntimeError, match="not fitted"):
            other.score(self.ROWS)
        other.standards.copy_(fitted.standards)
        other.standards[1] = torch.tensor(row)
        with pytest.raises(ValueError, match=message):
            other.check_fitted()

    @pytest.mark.parametrize("rows", [ROWS[3:], ROWS[2:]])
    def test_nothing_to_fit(self, path, rows):
        score = LearnedQualityScore(RATE, path, normalisation="fitted")
        with pytest.raises(ValueError, match="fewer than two"):
            score.fit(rows)

    def test_unknown_normalisation(self, path):
        with pytest.raises(ValueError, match="none of absolute, fitted"):
            LearnedQualityScore(RATE, path, normalisation="ranged")


class TestRanges:
    RANGES = [[-3.0, -1.0], [0.0, 20.0], [-40.0, -20.0], [0.5, 1.5]]

    def score(self, ranges=None):
        whole = content()
        for measured, ends in zip(
            whole["measurements"].values(), ranges or self.RANGES
        ):
            measured["range"] = ends
        return LearnedQualityScore(RATE, whole)

    @pytest.mark.parametrize(
        "row, outside",
        [
            ([-2.0, 12.0, -30.0, 1.0], False),
            ([-3.0, 20.0, -40.0, 0.5], False),  # the ends are inside
            ([-3.1, 12.0, -30.0, 1.0], True),  # one of four is over an eighth
            ([-2.0, 12.0, -30.0, 1.6], True),
            ([-2.0, 12.0, math.nan, math.nan], False),
        ],
    )
    def test_more_than_an_eighth_outside(self, row, outside):
        rows = torch.tensor([row])
        assert self.score().find_outside(rows).tolist() == [outside]
        with_silence = torch.tensor([[*row, 0.9]])
        assert self.score().find_outside(with_silence).tolist() == [outside]

    def test_two_of_sixteen_are_not_outside(self):
        score = LearnedQualityScore(RATE)
        rows = score.values[:, 0].repeat(2, 1)
        rows[0, :2] += 1e3
        rows[1, :3] -= 1e3
        assert score.find_outside(rows).tolist() == [False, True]

    def test_a_file_without_ranges_tells_nothing(self, score):
        rows = torch.full((2, 4), 1e6)
        assert score.find_outside(rows).tolist() == [False, False]

    def test_they_are_kept_as_plain_data(self, tmp_path, path):
        written = tmp_path / "ranges.json"
        whole = content()
        whole["measurements"]["flatness"]["range"] = [-3.0, -1.0]
        written.write_text(json.dumps(whole))
        plain = plain_coefficients(written)
        assert plain["measurements"]["flatness"]["range"] == [-3.0, -1.0]
        assert "range" not in plain["measurements"]["crest_factor"]
        again = read_coefficients(plain)
        assert again.ranges[0].tolist() == [-3.0, -1.0]
        assert again.ranges[1:].isnan().all()
        assert "range" not in str(plain_coefficients(path))

    def test_of_the_shipped_file(self):
        model = read_coefficients()
        low, high = model.ranges.T
        mean = model.values[:, 0]
        assert ((low < mean) & (mean < high)).all()
