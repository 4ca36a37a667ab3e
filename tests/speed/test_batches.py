"""The batch pipeline on one thread of the CPU: one epoch of 50 batches of 64, selected, moved, resized, normalised."""

from __future__ import annotations

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from lab.data import Batches, Images, Splits

NUM_BATCHES, BATCH_SIZE = 50, 64


@pytest.mark.parametrize(
    ("channels", "native", "size", "augment"),
    [
        (1, 28, 28, "none"),
        (1, 28, 32, "none"),
        (1, 28, 32, "shift"),
        (1, 28, 32, "flip_shift"),
        (1, 28, 224, "none"),
        (3, 32, 32, "none"),
        (3, 32, 32, "flip_shift"),
    ],
)
@pytest.mark.benchmark(group="epoch of 50 batches of 64", max_time=0.5, min_rounds=5, warmup=True, warmup_iterations=2)
def test_epoch_of_batches(benchmark: BenchmarkFixture, channels: int, native: int, size: int, augment: str) -> None:
    num_images = NUM_BATCHES * BATCH_SIZE
    pixels = torch.randint(0, 256, (num_images, channels, native, native), dtype=torch.uint8)
    images = Images(pixels, torch.randint(0, 10, (num_images,)))
    moments = torch.full((channels, 1, 1), 73.0), torch.full((channels, 1, 1), 90.0)
    splits = Splits(images, images, images, 10, *moments)
    batches = Batches(images, splits, batch_size=BATCH_SIZE, size=size, order=0, augment=augment)

    def epoch() -> int:
        return sum(len(X) for X, _ in batches)

    assert benchmark(epoch) == num_images
