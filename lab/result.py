"""The result of a trial: plain data, free of torch, so that it crosses a process or a machine."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Evaluation:
    """A point of the learning curve; ``train_seconds`` count training alone, ``train_loss`` is since the last point.

    ``scores`` are those on dev by column, ``dev_loss`` among them.
    """

    step: int
    epoch: float
    train_loss: float
    train_seconds: float
    scores: dict[str, float]


@dataclass(frozen=True)
class Identity:
    """What data are: a digest per split, and how many of their examples stand in two splits, in words."""

    digests: dict[str, str]
    repeated: str


@dataclass(frozen=True)
class Environment:
    """The device, threads and versions of a result; speeds are compared only where they are the same."""

    device: str
    device_name: str
    threads: int
    torch_version: str
    python_version: str
    hostname: str


@dataclass(frozen=True)
class Result:
    """The result of a trial, as plain data. ``measures`` holds the numbers of its row, as far as it came.

    Outcomes of single images, where they are known: ``correct`` and ``dev_correct`` have one bit per image of test and
    of dev at the selected epoch, packed; ``examples`` the test losses as float32.
    """

    trial_id: str
    status: str
    error: str | None
    measures: dict[str, float]
    environment: Environment
    source_fingerprint: str
    digests: dict[str, str] = field(default_factory=dict)  # of train, dev and test, as the columns of a row
    sources: dict[str, str] = field(default_factory=dict)  # what the fingerprint is of: a digest per file
    curve: list[Evaluation] = field(default_factory=list)
    correct: bytes | None = None
    num_test_images: int = 0
    dev_correct: bytes | None = None
    num_dev_images: int = 0
    examples: dict[str, bytes] = field(default_factory=dict)
    compile_error: str | None = None  # why a network that was to be compiled ran as it is


@dataclass(frozen=True)
class Timing:
    """One model, batch size and precision, timed alone on the device; seconds and rates are medians over rounds."""

    timing_id: str
    batch_size: int
    parameters: int
    forward_macs: int
    computed_macs: int  # without what meets padding alone, where that is left out
    forward_seconds: float  # one batch, in evaluation mode
    forward_seconds_p95: float  # over all calls of all rounds
    forward_images_per_second: float
    train_images_per_second: float
    train_images_per_second_low: float  # slowest round
    train_images_per_second_high: float  # fastest round
    rounds: int
    train_flops: float  # per second: 6 x computed_macs per image (forward, and twice that backward)
    matmul_flops: float  # per second: the device's own rate in a square matrix product of that precision
    matmul_share: float  # train_flops / matmul_flops
    canary_drift: float  # largest over smallest canary time of the rounds that count, minus one
    reliable: bool  # the canary drifted by no more than a tenth in enough rounds
    environment: Environment


@dataclass(frozen=True)
class Inspection:
    """The cost of one model, data and batch shape, found before training; ``error`` says why it cannot run at all."""

    key: str
    error: str | None = None
    parameters: int = 0
    forward_macs: int = 0
    signature: str = ""  # equal where modules, parameters and the output of one batch are equal
    step_seconds: float | None = None  # one training step, after one that warmed up
    eval_seconds: float | None = None  # one evaluation of dev
    steps: int = 0  # of a whole trial
    evaluations: int = 0
    peak_memory_bytes: int | None = None  # on the device
    host_memory_bytes: int | None = None  # of a process that trains it
    out_of_memory: bool = False  # that is the error
    num_dev_images: int = 0
    setup_seconds: float = 0.0  # to make the network ready, its first step included
    gives_shares: bool = False  # where logits are asked for: each row is positive and adds up to 1

    @property
    def trial_seconds(self) -> float:
        """Estimated time of a whole trial; 0 where it was not priced."""
        training = self.steps * (self.step_seconds or 0.0) + self.evaluations * (self.eval_seconds or 0.0)
        return self.setup_seconds + training
