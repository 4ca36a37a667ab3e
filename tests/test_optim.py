"""Optimizers against their formulas in numpy; schedules against values worked out by hand and torch's schedulers."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lab import settings
from lab.optim import OPTIMIZERS, build_optimizer
from lab.schedules import SCHEDULES, build_schedule

Array = np.ndarray[Any, np.dtype[np.float64]]

START = np.array([1.0, -2.0, 0.5, 3.0])
CURVATURE = np.array([0.3, 1.0, 2.0, 0.05])
STEPS = 6


def gradient(w: Array) -> Array:
    """Of a quadratic bowl with its minimum at 0.7."""
    return CURVATURE * (w - 0.7)


def make(raw: dict[str, Any], parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    checked = settings.parse_section("optimizer", raw)
    assert isinstance(checked, settings.OptimizerSettings)
    return build_optimizer(checked, parameters)


def torch_path(raw: dict[str, Any], gradient: Callable[[Array], Array] = gradient) -> list[Array]:
    """The weights before the first step and after each."""
    w = nn.Parameter(torch.tensor(START))
    optimizer = make(raw, [w])
    path = [START]
    for _ in range(STEPS):
        w.grad = torch.tensor(gradient(path[-1]))
        optimizer.step()
        path.append(w.detach().numpy().copy())
    return path


def numpy_path(update: Callable[[Array, int], Array]) -> list[Array]:
    """The weights before the first step and after each, where ``update(w, t)`` is ``d_t``, t from 1."""
    path = [START]
    for t in range(1, STEPS + 1):
        path.append(path[-1] + update(path[-1], t))
    return path


def same(one: list[Array], other: list[Array]) -> None:
    np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)


# --- settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("section", "makers"), [("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)])
def test_the_settings_of_a_part_are_its_keywords_each_with_a_description(
    section: str, makers: dict[str, Callable[..., Any]]
) -> None:
    for name, maker in makers.items():
        keywords = [p.name for p in inspect.signature(maker).parameters.values() if p.kind is p.KEYWORD_ONLY]
        fields = settings.PARTS[section][name].model_fields
        assert [field for field in fields if field not in ("name", "lr")] == keywords
        assert all(field.description for field in fields.values())


# --- optimizers against their formulas ------------------------------------------------------------------------------


def test_sgd() -> None:
    same(torch_path({"name": "sgd", "lr": 0.1}), numpy_path(lambda w, t: -0.1 * gradient(w)))


def test_sgds_weight_decay_is_an_l2_penalty() -> None:
    theirs = torch_path({"name": "sgd", "lr": 0.1, "weight_decay": 0.01})
    same(theirs, numpy_path(lambda w, t: -0.1 * (gradient(w) + 0.01 * w)))


def test_momentum() -> None:
    d = np.zeros(4)

    def update(w: Array, t: int) -> Array:
        nonlocal d
        d = 0.8 * d - 0.1 * gradient(w)
        return d

    same(torch_path({"name": "momentum", "lr": 0.1, "momentum": 0.8}), numpy_path(update))


def test_nesterov_takes_the_gradient_where_momentum_will_lead() -> None:
    w, d = START, np.zeros(4)
    ahead = [START]
    for _ in range(STEPS):
        d = 0.8 * d - 0.1 * gradient(w + 0.8 * d)
        w = w + d
        ahead.append(w + 0.8 * d)
    same(torch_path({"name": "nesterov", "lr": 0.1, "momentum": 0.8}), ahead)


@pytest.mark.parametrize("rho", [0.0, 0.5])
def test_rmsprop_with_eps_outside_the_root(rho: float) -> None:
    G, d = np.zeros(4), np.zeros(4)

    def update(w: Array, t: int) -> Array:
        nonlocal G, d
        g = gradient(w)
        G = 0.9 * G + 0.1 * g**2
        d = rho * d - 0.01 * g / (np.sqrt(G) + 1e-3)
        return d

    raw = {"name": "rmsprop", "lr": 0.01, "alpha": 0.9, "eps": 1e-3, "momentum": rho}
    same(torch_path(raw), numpy_path(update))


def adam_update(lr: float, decay: float = 0.0, penalty: float = 0.0) -> Callable[[Array, int], Array]:
    """``d_t`` of Adam with betas 0.8 and 0.95, eps 1e-3 outside the root, decoupled decay and L2 penalty."""
    M, G = np.zeros(4), np.zeros(4)

    def update(w: Array, t: int) -> Array:
        nonlocal M, G
        g = gradient(w) + penalty * w
        M = 0.8 * M + 0.2 * g
        G = 0.95 * G + 0.05 * g**2
        return -lr * (M / (1 - 0.8**t)) / (np.sqrt(G / (1 - 0.95**t)) + 1e-3) - lr * decay * w

    return update


ADAM = {"lr": 0.05, "betas": [0.8, 0.95], "eps": 1e-3}


def test_adam_with_eps_outside_the_root() -> None:
    same(torch_path({"name": "adam", **ADAM}), numpy_path(adam_update(0.05)))


def test_adams_weight_decay_is_an_l2_penalty_and_adamws_is_apart_from_the_gradient() -> None:
    same(torch_path({"name": "adam", **ADAM, "weight_decay": 0.1}), numpy_path(adam_update(0.05, penalty=0.1)))
    same(torch_path({"name": "adamw", **ADAM, "weight_decay": 0.1}), numpy_path(adam_update(0.05, decay=0.1)))


@pytest.mark.parametrize("name", ["rmsprop", "adam"])
def test_the_form_with_eps_inside_the_root_differs_by_no_more_than_the_module_says(name: str) -> None:
    eps = 1e-3
    raw = {"name": name, "lr": 0.1, "eps": eps} | ({"alpha": 0.9} if name == "rmsprop" else {"betas": [0.8, 0.95]})
    gradients = list(np.random.default_rng(0).normal(size=(STEPS, 4)))
    pending = iter(gradients)
    steps = [after - before for before, after in pairwise(torch_path(raw, lambda w: next(pending)))]
    M, G = np.zeros(4), np.zeros(4)
    ratios = []
    for t, (g, step) in enumerate(zip(gradients, steps, strict=True), 1):
        if name == "rmsprop":
            M, G = g, 0.9 * G + 0.1 * g**2
            mean, square = M, G
        else:
            M, G = 0.8 * M + 0.2 * g, 0.95 * G + 0.05 * g**2
            mean, square = M / (1 - 0.8**t), G / (1 - 0.95**t)
        ratio = step / (-0.1 * mean / np.sqrt(square + eps))
        assert np.all(ratio >= 1 - eps / np.sqrt(square) - 1e-12)
        assert np.all(ratio <= 1 + eps / (2 * square) + 1e-12)
        assert np.all(ratio <= 1 / np.sqrt(eps))
        ratios.append(ratio)
    assert np.abs(np.array(ratios) - 1).max() > 1e-3  # the forms do differ


# --- how they are built ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov", "adam", "adamw"])
def test_the_fused_kernel_is_used_where_torch_has_one(name: str) -> None:
    assert make({"name": name, "lr": 0.1}, [nn.Parameter(torch.zeros(2))]).defaults["fused"] is True
    assert not make({"name": name, "lr": 0.1}, [nn.Parameter(torch.zeros(2, dtype=torch.complex64))]).defaults["fused"]


def test_an_optimizer_at_an_import_path_takes_its_own_settings() -> None:
    total = np.full(4, 0.1)

    def update(w: Array, t: int) -> Array:
        nonlocal total
        total = total + gradient(w) ** 2
        return -0.2 * gradient(w) / (np.sqrt(total) + 1e-10)

    raw = {"name": "torch.optim:Adagrad", "lr": 0.2, "initial_accumulator_value": 0.1}
    same(torch_path(raw), numpy_path(update))


def no_optimizer(params: object, lr: float) -> str:
    return "none"


def test_an_import_path_must_give_an_optimizer() -> None:
    with pytest.raises(ValueError, match=r"must return a torch\.optim\.Optimizer, returned 'none'"):
        make({"name": f"{__name__}:no_optimizer", "lr": 0.1}, [nn.Parameter(torch.zeros(2))])


LAYOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "slice": lambda values: values[:, :4],
    "every second": lambda values: values[:, ::2],
    "transposed": lambda values: values.T,
    "bfloat16": lambda values: values.bfloat16(),
    "half": lambda values: values.half(),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("name", "like"), [("momentum", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)]
)
def test_parameters_that_are_no_block_of_float32_take_the_steps_of_torchs_plain_loop(
    layout: str, name: str, like: Any
) -> None:
    """torch's fused kernels write past a slice, and lose the updates of half precision on a CPU."""
    values, gradients = torch.randn(4, 8), torch.randn(3, 4, 8)
    one, other = (nn.Parameter(LAYOUTS[layout](values.clone())) for _ in range(2))
    assert isinstance(one, nn.Parameter)
    ours = make({"name": name, "lr": 0.1}, [one])
    plain = like([other], lr=0.1, foreach=False, **({"momentum": 0.9} if name == "momentum" else {}))
    for gradient in gradients:
        one.grad, other.grad = (LAYOUTS[layout](gradient).clone() for _ in range(2))
        ours.step(), plain.step()
    torch.testing.assert_close(one, other)


def test_an_expanded_parameter_is_refused_and_the_process_lives() -> None:
    parameter = nn.Parameter(torch.ones(1).expand(1000))
    parameter.grad = torch.ones(1000)
    with pytest.raises(RuntimeError, match="more than one element of the written-to tensor refers to"):
        make({"name": "momentum", "lr": 0.1}, [parameter]).step()


# --- schedules ------------------------------------------------------------------------------------------------------


def factors(num_steps: int, **raw: Any) -> list[float]:
    checked = settings.parse_section("schedule", raw)
    assert isinstance(checked, settings.ScheduleSettings)
    factor = build_schedule(
        checked, torch.optim.SGD([nn.Parameter(torch.zeros(1))], 1.0), num_steps=num_steps, num_epochs=1
    )
    assert callable(factor)
    return [factor(t) for t in range(num_steps)]


def test_constant() -> None:
    assert [SCHEDULES["constant"](3)(t) for t in range(3)] == [1, 1, 1]


def test_step_falls_once_the_share_of_a_milestone_is_trained() -> None:
    assert factors(8, name="step", gamma=0.5) == [1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25]
    assert factors(3, name="step", gamma=0.5) == [1, 1, 0.5]  # 1/2 is over at 2/3, and 3/4 never before the last step
    assert factors(100, name="step", milestones=[0.55], gamma=0.5).index(0.5) == 55  # though 0.55 * 100 > 55 in floats


def test_warmup_rises_linearly_from_above_zero_to_the_peak() -> None:
    assert factors(10, name="warmup", warmup=0.3) == [0.25, 0.5, 0.75] + 7 * [1]


def test_cosine_goes_from_the_peak_to_final() -> None:
    expected = [1, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5, 0]  # (1 + cos 45°) / 2 is 1/2 + 1 / (2 sqrt 2)
    assert factors(5, name="cosine") == pytest.approx(expected, abs=1e-15)
    assert factors(3, name="cosine", final=0.2) == pytest.approx([1, 0.6, 0.2])
    assert factors(6, name="cosine", warmup=0.5) == pytest.approx([0.25, 0.5, 0.75, 1, 0.5, 0])


def test_one_cycle_goes_straight_from_initial_to_the_peak_to_final() -> None:
    expected = [0.04, 0.36, 0.68, 1, 0.8, 0.6, 0.4, 0.2, 0]
    assert factors(9, name="one_cycle") == pytest.approx(expected, abs=1e-15)
    assert factors(4, name="one_cycle", warmup=0.25, initial=0.5, final=0.2) == pytest.approx([0.5, 1, 0.6, 0.2])


def torch_factors(num_steps: int, make_scheduler: Callable[[torch.optim.Optimizer], Any]) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make_scheduler(optimizer)
    rates = []
    for _ in range(num_steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(rates) < num_steps:
            scheduler.step()
    return rates


def test_schedules_agree_with_torchs_where_it_has_them() -> None:
    from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR

    cosine = torch_factors(17, lambda o: CosineAnnealingLR(o, T_max=16, eta_min=0.1))
    assert factors(17, name="cosine", final=0.1) == pytest.approx(cosine)
    lines: dict[str, Any] = {"anneal_strategy": "linear", "div_factor": 25, "final_div_factor": 4}
    lines["pct_start"] = 7 / 20  # torch's peak is at step pct_start * 20 - 1, ours at 0.3 * 20 = 6
    one_cycle = torch_factors(20, lambda o: OneCycleLR(o, 1.0, 20, cycle_momentum=False, **lines))
    assert factors(20, name="one_cycle", final=0.01) == pytest.approx(one_cycle)


@given(st.sampled_from(["warmup", "cosine", "one_cycle"]), st.integers(1, 60), st.floats(0, 1, exclude_max=True))
def test_every_training_reaches_the_peak_and_never_exceeds_it(name: str, num_steps: int, warmup: float) -> None:
    rates = factors(num_steps, name=name, warmup=warmup)
    assert max(rates) == 1
    assert min(rates) >= 0


def halving(num_steps: int, every: int = 1) -> Callable[[int], float]:
    return lambda t: 0.5 ** (t // every)


def test_a_schedule_at_an_import_path_gets_the_number_of_steps_and_its_settings() -> None:
    assert factors(4, name=f"{__name__}:halving", every=2) == [1, 1, 0.5, 0.5]
