"""Training loops: ours and others, each training the same network on the same images with the same optimizer.

Each takes a task and a seed, runs what is timed inside ``clock.running()`` and returns the trained network. What is
timed is one pass over the training images: building the network, reading the data set and evaluating are not in it.
"""

from __future__ import annotations

import logging
import resource
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam
from torch.utils.data import DataLoader, Dataset, TensorDataset

from lab import device as devices
from lab.data import Batches, Images, Splits, load_data
from lab.metrics import Accuracy
from lab.settings import Settings
from lab.trial import batches, make_runner
from lab.vision import import_torchvision

CPU = torch.device("cpu")


@dataclass
class Stopwatch:
    """Seconds by the clock and of the processor, child processes that have ended included."""

    wall: float = 0.0
    processor: float = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        wall, processor = time.perf_counter(), _processor_seconds()
        yield
        self.wall, self.processor = time.perf_counter() - wall, _processor_seconds() - processor


def _processor_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


@dataclass(frozen=True)
class Task:
    """What to train: settings of one epoch, and a folder for the images as torchvision reads them."""

    settings: Settings
    folder: Path
    splits: Splits = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "splits", load_data(self.settings.data, CPU))

    @property
    def size(self) -> int:
        assert self.settings.data.size is not None
        return self.settings.data.size

    @property
    def batch_size(self) -> int:
        return self.settings.data.batch_size

    def network(self, seed: int) -> nn.Module:
        """The same initial values for every loop."""
        return make_runner(self.settings.with_seed(seed), self.splits, CPU).model.train()

    @cached_property
    def tensors(self) -> tuple[Tensor, Tensor]:
        """All training images resized and normalised, and their labels."""
        prepared = Batches(self.splits.train, self.splits, batch_size=512, size=self.size)
        return torch.cat([X for X, _ in prepared]), self.splits.train.labels

    @cached_property
    def transform(self) -> Callable[[Any], Tensor]:
        """What is usually applied to each image."""
        transforms = import_torchvision().transforms
        mean, deviation = (float(moment.flatten()) / 255 for moment in (self.splits.mean, self.splits.deviation))
        resize = transforms.Resize((self.size, self.size))
        return transforms.Compose([resize, transforms.ToTensor(), transforms.Normalize(mean, deviation)])

    @cached_property
    def torchvision(self) -> Dataset[Any]:
        """The training images as torchvision's own data set, which reads them from files."""
        raw = self.folder / "MNIST" / "raw"
        raw.mkdir(parents=True, exist_ok=True)
        for part in ("train", "t10k"):
            write_idx(raw, part, self.splits.train)
        return import_torchvision().datasets.MNIST(self.folder, train=True, transform=self.transform)

    def accuracy(self, network: nn.Module, num_images: int = 2000) -> float:
        """On the first test images, prepared as ours are."""
        metric = Accuracy()
        test = Images(self.splits.test.images[:num_images], self.splits.test.labels[:num_images])
        network.eval()
        with torch.no_grad():
            for X, y in Batches(test, self.splits, batch_size=500, size=self.size):
                metric.update(network(X), y)
        return metric.accumulate()


def write_idx(folder: Path, part: str, images: Images) -> None:
    """Images and labels in the format of MNIST's files."""
    for kind, array in (("images-idx3", images.images[:, 0].numpy()), ("labels-idx1", images.labels.numpy())):
        header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
        (folder / f"{part}-{kind}-ubyte").write_bytes(header + array.astype(np.uint8).tobytes())


Loop = Callable[[Task, int, Stopwatch], nn.Module]

# --- ours, and the least there can be -------------------------------------------------------------------------------


def ours(task: Task, seed: int, clock: Stopwatch) -> nn.Module:
    """``lab.Runner``, with dev evaluated on two images before and after; the device as trials have it."""
    devices.configure(CPU)
    settings = task.settings.with_seed(seed)
    runner = make_runner(settings, task.splits, CPU)
    few = [next(iter(batches(settings, task.splits, "dev")))]
    few = [(X[:2], y[:2]) for X, y in few]
    with clock.running():
        runner.train(batches(settings, task.splits, "train"), few, settings.train.epochs)
    return runner.model


def bare(task: Task, seed: int, clock: Stopwatch) -> nn.Module:
    """The fastest simple loop: floats of the final size in memory, prepared beforehand, and Adam in one kernel."""
    network, (images, labels) = task.network(seed), task.tensors
    optimizer = Adam(network.parameters(), task.settings.optimizer.lr, fused=True)
    torch.manual_seed(seed)
    with clock.running():
        for index in torch.randperm(len(labels)).split(task.batch_size):
            loss = F.cross_entropy(network(images[index]), labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network


# --- DataLoader -----------------------------------------------------------------------------------------------------


class ItemByItem(Dataset[tuple[Tensor, int]]):
    """As in the source of these experiments: each image goes through numpy and PIL when it is asked for."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, transform: Callable[[Any], Tensor]) -> None:
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from PIL import Image

        pixels, label = np.array(self.images[index]).astype("float32"), int(self.labels[index])
        return self.transform(Image.fromarray(pixels.astype("uint8"))), label


def source(task: Task, seed: int, clock: Stopwatch) -> nn.Module:
    """The source's own loop: a transform per item, and the loss read after every step."""
    train = task.splits.train
    items = ItemByItem(train.images[:, 0].numpy(), train.labels.numpy(), task.transform)
    network = task.network(seed)
    optimizer = Adam(network.parameters(), task.settings.optimizer.lr)
    losses = []
    torch.manual_seed(seed)
    with clock.running():
        for X, y in DataLoader(items, task.batch_size, shuffle=True):
            loss = F.cross_entropy(network(X), y)
            losses.append(loss.item())
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    return network


def torchvision(task: Task, seed: int, clock: Stopwatch, num_workers: int = 0) -> nn.Module:
    """torchvision's data set and transforms, as its documentation has it."""
    network = task.network(seed)
    optimizer = Adam(network.parameters(), task.settings.optimizer.lr)
    torch.manual_seed(seed)
    start = "fork" if num_workers else None
    loader = DataLoader(
        task.torchvision, task.batch_size, shuffle=True, num_workers=num_workers, multiprocessing_context=start
    )
    with clock.running():
        for X, y in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(network(X), y)
            loss.backward()
            optimizer.step()
    return network


# --- frameworks -----------------------------------------------------------------------------------------------------


def lightning(task: Task, seed: int, clock: Stopwatch, *, in_memory: bool = False) -> nn.Module:
    """Lightning's Trainer, with logging, checkpoints, progress bar and summary switched off."""
    import_torchvision()  # Lightning's import fails where torchvision's does
    from lightning.pytorch import LightningModule, Trainer

    class Module(LightningModule):
        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network = network

        def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
            X, y = batch
            return F.cross_entropy(self.network(X), y)

        def configure_optimizers(self) -> Adam:
            return Adam(self.parameters(), task.settings.optimizer.lr)

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning.*")
    off = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(max_epochs=1, accelerator="cpu", devices=1, **off)
    module = Module(task.network(seed))
    images = TensorDataset(*task.tensors) if in_memory else task.torchvision
    torch.manual_seed(seed)
    with clock.running():
        trainer.fit(module, DataLoader(images, task.batch_size, shuffle=True))
    return module.network


def skorch(task: Task, seed: int, clock: Stopwatch, *, in_memory: bool = False) -> nn.Module:
    """skorch's NeuralNetClassifier without a validation split; it prints nothing."""
    from skorch import NeuralNetClassifier

    net = NeuralNetClassifier(
        task.network(seed),
        criterion=nn.CrossEntropyLoss,
        optimizer=Adam,
        lr=task.settings.optimizer.lr,
        batch_size=task.batch_size,
        max_epochs=1,
        train_split=None,
        iterator_train__shuffle=True,
        verbose=0,
    ).initialize()
    X, y = task.tensors if in_memory else (task.torchvision, None)
    torch.manual_seed(seed)
    with clock.running():
        net.partial_fit(X, y)
    return net.module_


LOOPS: dict[str, Loop] = {
    "Runner (this project)": ours,
    "bare loop, floats in memory": bare,
    "source's loop, transform per item": source,
    "torchvision + DataLoader": torchvision,
    "torchvision + DataLoader, 2 workers": partial(torchvision, num_workers=2),
    "Lightning, torchvision data": lightning,
    "Lightning, floats in memory": partial(lightning, in_memory=True),
    "skorch, torchvision data": skorch,
    "skorch, floats in memory": partial(skorch, in_memory=True),
}


@dataclass(frozen=True)
class Measurement:
    """One loop, one round."""

    images_per_second: float
    processor_seconds: float
    accuracy: float


def measure(name: str, settings: Settings, folder: Path, seed: int, threads: int) -> Measurement:
    """Trains in this process, after a few steps that do not count: imports, and kernels chosen at first use."""
    torch.set_num_threads(threads)
    few = settings.model_copy(update={"data": settings.data.model_copy(update={"limit": 6 * settings.data.batch_size})})
    LOOPS[name](Task(few, folder / "few"), seed, Stopwatch())
    task, clock = Task(settings, folder / "all"), Stopwatch()
    network = LOOPS[name](task, seed, clock)
    return Measurement(len(task.splits.train) / clock.wall, clock.processor, task.accuracy(network))
