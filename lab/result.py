"""What a trial gives: plain data, free of torch, so that it crosses a process or a machine."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Evaluation:
    """One point of the learning curve; ``train_seconds`` count training alone, ``train_loss`` is since the last point."""

    step: int
    epoch: float
    dev_accuracy: float
    dev_loss: float
    train_loss: float
    train_seconds: float


@dataclass(frozen=True)
class Environment:
    """What a result was computed on; speeds are compared only where it is the same."""

    device: str
    device_name: str
    threads: int
    torch_version: str
    python_version: str
    hostname: str


@dataclass(frozen=True)
class Result:
    """What a trial gave, as plain data; None where it did not come so far. Accuracies are fractions."""

    trial_id: str
    status: str
    error: str | None
    test_accuracy: float | None
    dev_accuracy: float | None
    selected_epoch: float | None
    first_epoch_dev_accuracy: float | None
    final_dev_accuracy: float | None
    final_train_loss: float | None
    epochs: float
    steps: int
    parameters: int
    forward_macs: int
    train_images_per_second: float | None
    eval_images_per_second: float | None
    train_seconds: float
    total_seconds: float
    peak_memory_bytes: int
    environment: Environment
    source_fingerprint: str
    curve: list[Evaluation] = field(default_factory=list)
    correct: bytes | None = None  # one bit a test image, packed: predicted right or not
    num_test_images: int = 0
