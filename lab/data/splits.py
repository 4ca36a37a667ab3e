"""Splits images: stratified, and the same under every version of numpy."""

from __future__ import annotations

import numpy as np


def stratified(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Returns the sorted indices of ``count`` images, each class by its share to within one (largest remainder).

    Drawn with numpy's legacy generator, whose stream is frozen, so that a split is the same under every version.
    """
    random = np.random.RandomState(seed)
    classes, sizes = np.unique(labels, return_counts=True)
    shares = sizes * (count / len(labels))
    counts = np.floor(shares).astype(int)
    short = count - counts.sum()
    counts[np.argsort(counts - shares, kind="stable")[:short]] += 1
    chosen = [random.permutation(np.flatnonzero(labels == c))[:k] for c, k in zip(classes, counts, strict=True)]
    return np.sort(np.concatenate(chosen))


def split(labels: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the rest and of ``count`` stratified images, both sorted, without overlap."""
    chosen = stratified(labels, count, seed)
    return np.setdiff1d(np.arange(len(labels)), chosen), chosen
