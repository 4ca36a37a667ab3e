"""torch's schedulers as schedules: per epoch or per step, plateau on dev, and through a resume to the last bit."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from lab import run_trial
from lab.result import Evaluation
from lab.runner import Runner
from lab.schedules import Scheduler, build_schedule
from lab.settings import ScheduleSettings, Settings, SettingsError, parse_section

HOME = "torch.optim.lr_scheduler"
RAW: dict[str, Any] = {
    "data": {"name": "digits", "limit": 200, "batch_size": 60},  # 180 to train: 3 steps per epoch
    "model": {"name": "mlp", "hidden": [8]},
    "optimizer": {"name": "momentum", "lr": 0.1},
    "train": {"epochs": 4},
}
# All of torch's that YAML can describe; those made of functions or of other schedulers are refused.
FAITHFUL: list[dict[str, Any]] = [
    {"name": f"{HOME}:CosineAnnealingLR", "T_max": 4},
    {"name": f"{HOME}:CosineAnnealingLR", "T_max": 12, "per": "step"},
    {"name": f"{HOME}:CosineAnnealingWarmRestarts", "T_0": 2},
    {"name": f"{HOME}:StepLR", "step_size": 2, "gamma": 0.5},
    {"name": f"{HOME}:MultiStepLR", "milestones": [1, 3]},
    {"name": f"{HOME}:ExponentialLR", "gamma": 0.9, "per": "step"},
    {"name": f"{HOME}:LinearLR", "total_iters": 3},
    {"name": f"{HOME}:PolynomialLR"},
    {"name": f"{HOME}:ConstantLR"},
    {"name": f"{HOME}:OneCycleLR", "max_lr": 0.2},
    {"name": f"{HOME}:CyclicLR", "base_lr": 0.01, "max_lr": 0.1, "step_size_up": 3},
    {"name": f"{HOME}:ReduceLROnPlateau", "patience": 0, "threshold": 0.5},
    {"name": f"{HOME}:ReduceLROnPlateau", "mode": "max", "patience": 0, "threshold": 0.5},
]


def schedule(raw: dict[str, Any], optimizer: torch.optim.Optimizer, num_steps: int = 12, num_epochs: int = 4) -> Any:
    settings = parse_section("schedule", raw)
    assert isinstance(settings, ScheduleSettings)
    return build_schedule(settings, optimizer, num_steps=num_steps, num_epochs=num_epochs)


def plain_optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)


def rates(raw: dict[str, Any], epochs: int = 4, steps: int = 3) -> list[float]:
    """The learning rate of each step."""
    optimizer = plain_optimizer()
    scheduler = schedule(raw, optimizer, epochs * steps, epochs)
    found = []
    for _ in range(epochs):
        for _ in range(steps):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step_done()
        scheduler.epoch_done()
    return found


def theirs(make: Callable[[torch.optim.Optimizer], Any], per: str, epochs: int = 4, steps: int = 3) -> list[float]:
    """The same by torch alone."""
    optimizer = plain_optimizer()
    scheduler = make(optimizer)
    found = []
    for i in range(1, epochs * steps + 1):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if per == "step" or i % steps == 0:
            scheduler.step()
    return found


# --- per epoch or per step ------------------------------------------------------------------------------------------


def test_a_scheduler_counts_epochs_unless_the_grid_says_steps() -> None:
    def cosine(optimizer: torch.optim.Optimizer) -> Any:
        return lr_scheduler.CosineAnnealingLR(optimizer, T_max=4)

    raw = {"name": f"{HOME}:CosineAnnealingLR", "T_max": 4}
    assert rates(raw) == theirs(cosine, "epoch")
    assert rates(raw | {"per": "step"}) == theirs(cosine, "step")
    assert rates(raw)[:6] == pytest.approx([0.1] * 3 + [0.05 + 0.05 * 0.5**0.5] * 3)  # (1 + cos 45 degrees) / 2


def test_one_cycle_counts_steps_and_spans_the_training() -> None:
    def one_cycle(optimizer: torch.optim.Optimizer) -> Any:
        return lr_scheduler.OneCycleLR(optimizer, max_lr=0.2, total_steps=12)

    raw = {"name": f"{HOME}:OneCycleLR", "max_lr": 0.2}
    assert rates(raw) == theirs(one_cycle, "step")
    assert max(rates(raw)) == pytest.approx(0.2, rel=0.05)
    assert rates(raw | {"epochs": 5, "steps_per_epoch": 10})[-1] > 0.1  # told another length, it is not over


def test_cyclic_counts_steps() -> None:
    def cyclic(optimizer: torch.optim.Optimizer) -> Any:
        return lr_scheduler.CyclicLR(optimizer, base_lr=0.01, max_lr=0.1, step_size_up=3)

    raw = {"name": f"{HOME}:CyclicLR", "base_lr": 0.01, "max_lr": 0.1, "step_size_up": 3}
    assert rates(raw) == theirs(cyclic, "step")


def test_plateau_watches_the_loss_on_dev_or_the_score_where_more_is_better() -> None:
    for mode, scores in (("min", [(1.0, 0.9), (2.0, 0.95)]), ("max", [(1.0, 0.9), (0.5, 0.1)])):
        optimizer = plain_optimizer()
        scheduler = schedule({"name": f"{HOME}:ReduceLROnPlateau", "mode": mode, "patience": 0}, optimizer)
        for dev_loss, dev_score in scores:
            assert optimizer.param_groups[0]["lr"] == 0.1
            scheduler.step_done()
            scheduler.epoch_done()
            scheduler.evaluated(dev_loss, dev_score)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01)


# --- in a training --------------------------------------------------------------------------------------------------


def settings_of(raw: dict[str, Any], **train: object) -> Settings:
    return Settings.parse(RAW | {"schedule": raw, "train": RAW["train"] | train})


def curve(result: Any) -> list[str]:
    return [repr((p.step, p.scores, p.train_loss)) for p in result.curve] + [repr(result.measures["test_loss"])]


def test_a_factory_of_ones_own_that_asks_for_the_optimizer_is_a_schedule(
    workshop: Callable[[str, str], None],
) -> None:
    workshop(
        "own_scheduler",
        "from torch.optim.lr_scheduler import LambdaLR\n"
        "def halving(optimizer, num_steps, gamma: float = 0.5):\n"
        "    return LambdaLR(optimizer, lambda t: gamma ** t)\n"
        "def nothing(optimizer):\n    return 3\n",
    )
    assert rates({"name": "own_scheduler:halving"})[::3] == [0.1, 0.05, 0.025, 0.0125]
    with pytest.raises(ValueError, match=r"must return a scheduler such as those of .*, 3 has no step"):
        schedule({"name": "own_scheduler:nothing"}, plain_optimizer())


@pytest.mark.parametrize("raw", FAITHFUL, ids=lambda raw: raw["name"].partition(":")[2])
@pytest.mark.parametrize("eval_every", [None, 2])
def test_a_trial_that_was_cut_off_goes_on_to_the_same_numbers(
    raw: dict[str, Any], eval_every: int | None, tmp_path: Path
) -> None:
    settings = settings_of(raw, eval_every=eval_every)
    whole = run_trial(settings, device="cpu")
    seen: list[Evaluation] = []
    half = run_trial(
        settings,
        device="cpu",
        checkpoint_dir=tmp_path,
        checkpoint_seconds=0,
        on_evaluation=seen.append,
        should_stop=lambda: bool(seen) and seen[-1].step >= 6,
    )
    assert half.status == "interrupted"
    rest = run_trial(settings, device="cpu", checkpoint_dir=tmp_path, on_evaluation=seen.append)
    assert seen[-1].step == 12
    assert len(seen) == len(whole.curve), "it went on from where it stood"
    assert curve(rest) == curve(whole)
    assert curve(whole) != curve(run_trial(settings_of({"name": "constant"}, eval_every=eval_every), device="cpu"))


def test_the_runner_keeps_the_schedulers_state() -> None:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = Scheduler(lr_scheduler.StepLR(optimizer, 1), "step")
    runner = Runner(model, optimizer, nn.functional.cross_entropy, None, "cpu", schedule=scheduler)  # type: ignore[arg-type]  # never asked
    runner.step(torch.zeros(3, 2), torch.tensor([0, 1, 0]))
    state = copy.deepcopy(runner.state())
    runner.step(torch.zeros(3, 2), torch.tensor([0, 1, 0]))
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.001)
    runner.load_state(state)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01)
    assert scheduler.state_dict()["last_epoch"] == 1


def test_a_plateau_that_would_take_better_for_worse_is_refused() -> None:
    plateau = {"name": f"{HOME}:ReduceLROnPlateau", "mode": "max"}
    with pytest.raises(ValueError, match="max watches dev_loss, of which lower is better"):
        run_trial(settings_of(plateau, select="dev_loss"), device="cpu")


IN_CODE = "what YAML cannot write, such as a function, comes from code: name a schedule of your own, `module:function`"

# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ({"name": f"{HOME}:CosineAnnealingLR"}, "schedule.T_max: is required: integer"),
        ({"name": f"{HOME}:CosineAnnealingLR", "T_max": "4"}, "schedule.T_max: must be integer, got '4'"),
        (
            {"name": f"{HOME}:StepLR", "step_size": 1, "per": "batch"},
            "schedule.per: must be epoch or step, got 'batch'",
        ),
        ({"name": f"{HOME}:ReduceLROnPlateau", "mode": "up"}, "schedule.mode: must be min or max, got 'up'"),
        ({"name": f"{HOME}:ReduceLROnPlateau", "per": "step"}, "schedule.per: no such setting of"),
        ({"name": f"{HOME}:LambdaLR"}, f"schedule.lr_lambda: is required: any value; {IN_CODE}"),
        (
            {"name": f"{HOME}:LambdaLR", "lr_lambda": "rates:half"},
            f"schedule.lr_lambda: {HOME}:LambdaLR would be given 'rates:half' as text; {IN_CODE}",
        ),
        (
            {"name": f"{HOME}:CyclicLR", "base_lr": 0.01, "max_lr": 0.1, "scale_fn": "rates:half"},
            f"schedule.scale_fn: {HOME}:CyclicLR would be given 'rates:half' as text; {IN_CODE}",
        ),
        ({"name": f"{HOME}:MultiplicativeLR"}, f"schedule.lr_lambda: is required: any value; {IN_CODE}"),
        ({"name": f"{HOME}:SequentialLR"}, f"schedule.schedulers: is required: list of LRScheduler; {IN_CODE}"),
        ({"name": f"{HOME}:ChainedScheduler"}, f"schedule.schedulers: is required: any value; {IN_CODE}"),
        ({"name": f"{HOME}:StepLR", "step_size": 1, "optimizer": 3}, "schedule.optimizer: no such setting of"),
    ],
)
def test_what_a_scheduler_cannot_take_is_refused(raw: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_section("schedule", raw)
    assert any(str(problem).startswith(says) for problem in caught.value.problems)


@pytest.mark.parametrize("given", ["None", "0.5", "iter([1.0])"])
def test_a_schedule_that_gives_no_function_is_named(workshop: Callable[[str, str], None], given: str) -> None:
    workshop("forgetful", f"def rates(num_steps):\n    return {given}\n")
    with pytest.raises(
        ValueError, match="'forgetful:rates': must return a function from a step to a share of the peak"
    ):
        schedule({"name": "forgetful:rates"}, plain_optimizer())
