"""Where a model puts the cycles, as a map in two dimensions.

Authors
 * qlung_plugin contributors
"""

from collections.abc import Mapping
from types import ModuleType

import numpy as np
import torch

from qlung_plugin.dataio.lengths import apply_by_shape
from qlung_plugin.dataio.store_values import CycleStore
from qlung_plugin.nnet.classifiers import logits_and_cosines

BATCH = 16
PERPLEXITY, NEIGHBOURS = 30, 15  # the usual ones, where there are enough
FEWEST = 5  # cycles that make a map


@torch.inference_mode()
def embed_cycles(
    model: Mapping[str, torch.nn.Module],
    features: CycleStore | Mapping[str, torch.Tensor],
    ids: list[str],
    device: str = "cpu",
) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings ``[cycle, dim]`` and probabilities ``[cycle, class]``."""
    backbone, classifier = (
        model[name].to(device).eval() for name in ("backbone", "classifier")
    )

    def network(batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        embedding = backbone(batch.to(device))
        logits, _ = logits_and_cosines(classifier(embedding))
        return embedding.flatten(1).float(), logits.float().softmax(-1)

    embeddings, probabilities = [], []
    for i in range(0, len(ids), BATCH):
        batch = [features[key] for key in ids[i : i + BATCH]]
        embedding, shares = apply_by_shape(network, batch)
        embeddings.append(embedding.cpu())
        probabilities.append(shares.cpu())
    return torch.cat(embeddings).numpy(), torch.cat(probabilities).numpy()


def project(embeddings: np.ndarray, method: str = "tsne") -> np.ndarray:
    """A map ``[cycle, 2]`` in [0, 1] with similar embeddings near each other.

    Similar is what has a small angle between it. The method is ``tsne`` (van der
    Maaten and Hinton, "Visualizing data using t-SNE", JMLR 2008) or ``umap``
    (McInnes et al., 2018, arXiv 1802.03426).
    """
    count = len(embeddings)
    if count < FEWEST:
        raise ValueError(f"{count} cycles make no map: {FEWEST} do")
    if not np.isfinite(embeddings).all():
        raise ValueError("an embedding is not finite")
    if not np.ptp(embeddings, axis=0).any():
        # Not only useless: scikit-learn's t-SNE dies of it.
        raise ValueError("the model puts all cycles in one place")
    if method == "umap":
        places = _umap(embeddings)
    else:
        from sklearn.manifold import TSNE

        places = TSNE(
            metric="cosine",
            # The perplexity must be less than a third of the cycles.
            perplexity=min(PERPLEXITY, (count - 1) / 3),
            init="pca",
            random_state=0,
            n_jobs=1,
        ).fit_transform(embeddings)
    places = places - places.min(axis=0)
    return places / np.maximum(places.max(axis=0), np.finfo(float).tiny)


def check_method(method: str) -> None:
    """Raises a ValueError if a method of :func:`project` lacks a package."""
    if method == "umap":
        _import_umap()


def _import_umap() -> ModuleType:
    try:
        import umap
    except ImportError as error:
        raise ValueError(
            "a UMAP needs umap-learn: pip install 'qlung_plugin[umap]'"
        ) from error
    return umap


def _umap(embeddings: np.ndarray) -> np.ndarray:
    return (
        _import_umap()
        .UMAP(
            metric="cosine",
            n_neighbors=min(NEIGHBOURS, len(embeddings) - 1),
            init="random" if len(embeddings) < NEIGHBOURS else "spectral",
            random_state=0,
            n_jobs=1,
        )
        .fit_transform(embeddings)
        .astype(float)
    )
