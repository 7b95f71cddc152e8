"""Maps keep neighbours together.

Authors
 * qlung_plugin contributors
"""

import sys

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from qlung_plugin.report.embeddings import check_method, embed_cycles, project


def clusters(count=30, dim=16):
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1, 2], count // 3)
    centres = 5 * rng.normal(size=(3, dim))
    return centres[label] + rng.normal(size=(count, dim)), label


@pytest.mark.parametrize("method", ["tsne", "umap"])
def test_neighbours_stay_neighbours(method):
    if method == "umap":
        pytest.importorskip("umap")
    embeddings, label = clusters()
    places = project(embeddings, method)
    assert places.shape == (30, 2)
    assert places.min() == 0 and places.max() == 1
    score = KNeighborsClassifier(1).fit(places[::2], label[::2])
    assert score.score(places[1::2], label[1::2]) == 1
    np.testing.assert_array_equal(places, project(embeddings, method))
    # The length of an embedding says nothing.
    longer = embeddings * np.linspace(1, 3, 30)[:, None]
    score = KNeighborsClassifier(1).fit(project(longer, method), label)
    assert score.score(project(longer, method), label) == 1


def test_too_few_cycles_make_no_map():
    with pytest.raises(ValueError, match="4 cycles make no map"):
        project(np.eye(4))
    assert project(np.eye(5)).shape == (5, 2)
    with pytest.raises(ValueError, match="not finite"):
        project(np.full((9, 2), np.nan))


def test_equal_embeddings_make_no_map():
    with pytest.raises(ValueError, match="all cycles in one place"):
        project(np.ones((12, 3)))
    # Some of them may be equal, or nothing.
    embeddings = np.repeat(np.eye(4), 5, axis=0)
    embeddings[0] = 0
    assert np.isfinite(project(embeddings)).all()


def test_umap_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ValueError, match=r"qlung_plugin\[umap\]"):
        check_method("umap")
    check_method("tsne")


def test_embeddings_are_those_of_each_cycle_by_itself():
    torch.manual_seed(0)

    class Classifier(torch.nn.Linear):
        def forward(self, embeddings):
            logits = super().forward(embeddings)
            return logits, logits

    model = {
        "backbone": torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(6, 5), torch.nn.BatchNorm1d(5)
        ),
        "classifier": Classifier(5, 2),
    }
    features = {str(i): torch.randn(2, 3).half() for i in range(37)}
    embedded, probabilities = embed_cycles(model, features, list(features))
    assert embedded.shape == (37, 5) and probabilities.shape == (37, 2)
    for place, value in enumerate(features.values()):
        embedding = model["backbone"](value[None].float())
        logits = model["classifier"](embedding)[0]
        np.testing.assert_allclose(
            embedded[place], embedding[0].detach(), atol=1e-5
        )
        np.testing.assert_allclose(
            probabilities[place], logits.softmax(-1)[0].detach(), atol=1e-5
        )
