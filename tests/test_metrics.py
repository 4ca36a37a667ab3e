"""Metrics: reset, update, accumulate."""

from __future__ import annotations

import pytest
import torch

from lab.metrics import Accuracy


def one_hot(*classes: int) -> torch.Tensor:
    return torch.eye(3)[list(classes)]


def test_accuracy_is_the_share_of_right_images_over_all_batches_not_the_mean_of_their_shares() -> None:
    metric = Accuracy()
    metric.update(one_hot(0, 1, 2), torch.tensor([0, 1, 1]))
    metric.update(one_hot(0), torch.tensor([2]))
    assert metric.accumulate() == 2 / 4


def test_which_images_were_right_stands_in_their_order() -> None:
    metric = Accuracy()
    metric.update(one_hot(0, 1), torch.tensor([1, 1]))
    metric.update(one_hot(2), torch.tensor([2]))
    assert metric.correct().tolist() == [False, True, True]


def test_reset_forgets() -> None:
    metric = Accuracy()
    metric.update(one_hot(0), torch.tensor([0]))
    metric.reset()
    metric.update(one_hot(0), torch.tensor([1]))
    assert metric.accumulate() == 0


def test_accuracy_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no images"):
        Accuracy().accumulate()
