"""Metrics: reset, update, accumulate."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve
from sklearn.metrics import accuracy_score, f1_score

from lab.metrics import Accuracy, Predictions, Scores, check_metric
from lab.returned import ReturnedError


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


# --- the built-in scores --------------------------------------------------------------------------------------------


def scores(logits: torch.Tensor, labels: torch.Tensor, batch_size: int = 7) -> dict[str, float]:
    predictions = Predictions()
    for part, own in zip(logits.split(batch_size), labels.split(batch_size), strict=True):
        predictions.update(part, own)
    return predictions.scores()


@pytest.mark.parametrize("seed", range(4))
def test_accuracy_and_macro_f1_are_scikit_learns(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(50, 6, generator=random) * 2
    labels = torch.randint(0, 4 + seed, (50,), generator=random).clamp(max=5)  # some classes never occur as label
    found = scores(logits, labels)
    predicted = logits.argmax(1)
    assert found["accuracy"] == accuracy_score(labels, predicted)
    assert found["macro_f1"] == pytest.approx(f1_score(labels, predicted, average="macro", zero_division=0), abs=1e-12)


def test_macro_f1_by_hand() -> None:
    # class 0: 1 of 2 found, 1 of 1 right: F1 = 2/3; class 1: 1 of 1, 1 of 2: 2/3; class 2 does not occur
    assert scores(one_hot(0, 1, 1), torch.tensor([0, 0, 1]))["macro_f1"] == pytest.approx(2 / 3)


def test_calibration_error_by_hand() -> None:
    # 0.9, 0.9 and 0.9 sure, 2 of 3 right: gap 0.9 - 2/3 of 3 images; 0.6 sure and right: gap 0.4 of one
    sure = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.6, 0.4]])
    found = scores(sure.log(), torch.tensor([0, 1, 1, 0]))["calibration_error"]
    assert found == pytest.approx((3 * abs(0.9 - 2 / 3) + 1 * 0.4) / 4, abs=1e-6)


def test_calibration_error_agrees_with_scikit_learns_calibration_curve() -> None:
    random = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(400, 2, generator=random), torch.randint(0, 2, (400,), generator=random)
    confidence, right = logits.softmax(1).amax(1).numpy(), (logits.argmax(1) == labels).numpy()
    share, mean = calibration_curve(right, confidence, n_bins=15)  # of the bins that hold an image
    counts = np.histogram(confidence, np.linspace(0, 1, 16))[0]
    expected = (counts[counts > 0] * np.abs(share - mean)).sum() / 400
    assert scores(logits, labels)["calibration_error"] == pytest.approx(expected, abs=1e-6)


def test_outputs_that_are_not_finite_leave_the_calibration_undefined() -> None:
    found = scores(torch.tensor([[math.nan, 1.0], [0.0, 1.0]]), torch.tensor([0, 1]))
    assert math.isnan(found["calibration_error"])
    assert found["accuracy"] == 1.0  # as argmax has it: the first class


def test_which_images_were_right_is_known_beside_the_scores() -> None:
    predictions = Predictions()
    predictions.update(one_hot(0, 1), torch.tensor([1, 1]))
    assert predictions.correct().tolist() == [False, True]


# --- a user's own ---------------------------------------------------------------------------------------------------


class Gives:
    """Returns what it was made with."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def reset(self) -> None: ...

    def update(self, outputs: torch.Tensor, labels: torch.Tensor) -> None: ...

    def compute(self) -> Any:
        return self.value


EXACT = [0.5, np.float32(0.5), np.float64(0.5), np.array(0.5), torch.tensor(0.5), torch.tensor(0.5).double()]


@pytest.mark.parametrize("value", EXACT, ids=lambda value: type(value).__name__)
def test_a_number_of_python_numpy_or_torch_is_a_number(value: Any) -> None:
    assert Scores({"half": Gives(value)}).values() == {"half": 0.5}
    assert type(Scores({"half": Gives(value)}).values()["half"]) is float


def test_whole_numbers_are_exact() -> None:
    given = {"a": Gives(3), "b": Gives(np.int64(3)), "c": Gives(torch.tensor(3))}
    assert set(Scores(given).values().values()) == {3.0}


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (None, "None"),
        (True, "True"),
        (np.bool_(True), "True"),
        ("0.5", "the text '0.5'"),
        (1 + 2j, "complex (1+2j)"),
        (torch.tensor(1 + 2j), "a tensor of shape () and type complex64"),
        (torch.tensor(True), "a tensor of shape () and type bool"),
        (torch.ones(10), "a tensor of shape (10,) and type float32"),
        (np.ones((1, 1)), "an array of shape (1, 1) and type float64"),
        ([0.5], "list [0.5]"),
        ({"f1": 0.5}, "dict {'f1': 0.5}"),
        (2**60 + 1, "int 1152921504606846977"),
    ],
)
def test_what_is_no_number_is_an_error_that_names_the_function_and_what_it_gave(value: Any, says: str) -> None:
    with pytest.raises(ReturnedError) as caught:
        Scores({"odd": Gives(value)}).values()
    assert str(caught.value) == f"test_metrics:Gives.compute() must return a number, returned {says}"


def test_accumulate_serves_where_there_is_no_compute() -> None:
    metric = Accuracy()
    metric.update(one_hot(0), torch.tensor([0]))
    assert Scores({"accuracy": metric}).values() == {"accuracy": 1.0}


def test_what_a_metric_lacks_is_named() -> None:
    with pytest.raises(TypeError, match=r"'mine' must have reset, update, and compute or accumulate; it lacks compute"):
        check_metric(type("Half", (), {"reset": lambda self: None, "update": lambda self, X, y: None})(), "mine")


def test_metrics_that_hold_tensors_move_to_the_device() -> None:
    moved = []
    metric = Gives(0.5)
    metric.to = moved.append  # type: ignore[attr-defined]  # as torchmetrics' have it
    Scores({"a": metric}).to(torch.device("cpu"))
    assert moved == [torch.device("cpu")]
