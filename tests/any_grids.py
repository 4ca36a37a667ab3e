"""Grids about any code, drawn at random: each is usual but for a few ways, so that most of them train."""

from __future__ import annotations

from random import Random
from typing import Any

from any_layers import FLAT, SPATIAL, TO_FLAT

Way = dict[str, Any]  # settings by dotted path that are unusual together

# The shape of an example as the network gets it, by the name of what the data are.
SHAPES: dict[str, tuple[int, ...]] = {
    "features": (5,),
    "one_feature": (1,),
    "images": (1, 6, 6),
    "last": (3, 6, 6),
    "grey": (1, 6, 6),
    "one_pixel": (1, 1, 1),
    "wide": (3, 9, 9),  # 6 x 9 pixels, made square
    "signals": (2, 9),
}
SAME_SIZE = ("max_pool", "avg_pool", "transposed")  # no residual branch has these


def each(path: str, *values: Any, **more: Any) -> list[Way]:
    return [{path: value} | {name.replace("__", "."): one for name, one in more.items()} for value in values]


def own(path: str, name: str, setting: str, *values: Any) -> list[Way]:
    return [{path: {"name": f"any_code:{name}", setting: value}} for value in values]


TORCH = "torch.optim.lr_scheduler:"
LEGAL: dict[str, list[Way]] = {
    "labels": [
        *each("data.labels", "from_one", "gaps", "strings", "one_hot", "column", "bool", "tensor", "list", "int8"),
        *each("data.labels", "uint64", "series", "category", "objects", "bytes", "large"),
        *each("data.labels", "floats", "float32", "soft", train__loss="mse"),
        *each("data.labels", "floats", "soft", train__loss="l1"),
    ],
    "pixels": [
        *each("data.pixels", "float64", "float16", "uint8", "int16", "int64", "bool", "tensor", "list", "object"),
        *each("data.pixels", "fortran", "reversed", "read_only", "big_endian"),
    ],
    "data": [
        *each("data.spoilt", "constant"),
        *each("data.train", 9, 17, 33),
        *each("data.classes", 2, 5),
        *each("data.batch_size", 1, 3, 100),
        *each("data.dev_fraction", 0.3, 0.5),
        *each("data.limit", 20),
        *each("data.split_seed", 3),
    ],
    "images": [
        *each("data.size", 4, 8),
        *each("data.channels", 3),
        *each("data.augment", "shift", "flip_shift"),
    ],
    "dtype": each("model.dtype", "float64", "bfloat16"),
    "output": each(
        *["model.output", "tuple", "dict", "named", "dataclass", "mapped", "nested", "list", "evaluation_alone"],
        *["training_alone", "float64", "in_place", "strided"],
    ),
    "state": each(
        *["model.state", "buffer", "frozen", "tied", "float64", "python", "weight_norm", "orthogonal", "spectral"],
        *["bool_buffer", "complex_buffer", "not_saved", "hook", "gradient_hook", "lock", "extra", "unused", "empty"],
        *["scalar", "by_hand", "first_pass"],
    ),
    "loss": [
        *own("train.loss", "loss", "gives", "mean", "of_one", "negative", "writes", "sum"),
        *own("train.loss", "focal", "gamma", 0.0, 2.0),
        {"train.loss": {"name": "any_code:focal", "weights": [1.0, 2.0, 0.5]}},
        *own("train.loss", "Annealed", "start", 0.5, 0.2),
        *each("train.label_smoothing", 0.1),
    ],
    "metric": [
        *own("train.metric", "Score", "gives", "float", "tensor", "array", "whole", "float16", "with_gradient"),
        *own("train.metric", "TopK", "k", 1, 2),
        *each("train.metric", ["accuracy", {"name": "any_code:TopK", "k": 2}], "macro_f1", "calibration_error"),
        *each("train.select", "dev_loss", "dev_macro_f1"),
    ],
    "train": [
        *each("train.clip_norm", 0.5, 1e-3),
        *each("train.eval_every", 1, 2),
        *each("train.precision", "bfloat16"),
        *each("train.epochs", 3),
    ],
    "optimizer": [
        {"optimizer": {"name": "sgd", "lr": 1e30}},
        {"optimizer": {"name": "momentum", "lr": 0.05, "weight_decay": 0.1}},
        {"optimizer": {"name": "nesterov", "lr": 0.05, "momentum": 0.5}},
        {"optimizer": {"name": "rmsprop", "lr": 0.01, "momentum": 0.3}},
        {"optimizer": {"name": "adamw", "lr": 0.1, "betas": [0.5, 0.9]}},
        {"optimizer": {"name": "torch.optim:SGD", "lr": 0.1, "momentum": 0.9, "nesterov": True}},
        {"optimizer": {"name": "torch.optim:Adam", "lr": 0.01, "amsgrad": True}},
        {"optimizer": {"name": "torch.optim:LBFGS", "lr": 0.1, "max_iter": 3}},
        *(
            {"optimizer": {"name": f"torch.optim:{name}", "lr": 0.01}}
            for name in ("Adagrad", "Adadelta", "Adamax", "ASGD", "Rprop", "RAdam", "NAdam", "Muon", "Adafactor")
        ),
    ],
    "schedule": [
        *({"schedule": {"name": name}} for name in ("step", "cosine", "one_cycle", "warmup")),
        {"schedule": {"name": "cosine", "warmup": 0.2, "final": 0.1}},
        {"schedule": {"name": f"{TORCH}StepLR", "step_size": 1, "gamma": 0.5}},
        {"schedule": {"name": f"{TORCH}ExponentialLR", "gamma": 0.9, "per": "step"}},
        {"schedule": {"name": f"{TORCH}MultiStepLR", "milestones": [1, 3], "per": "step"}},
        {"schedule": {"name": f"{TORCH}CosineAnnealingWarmRestarts", "T_0": 2, "per": "step"}},
        {"schedule": {"name": f"{TORCH}LinearLR", "total_iters": 3, "per": "step"}},
        {"schedule": {"name": f"{TORCH}PolynomialLR", "power": 2.0}},
        {"schedule": {"name": f"{TORCH}OneCycleLR", "max_lr": 0.2, "per": "step", "cycle_momentum": False}},
        {"schedule": {"name": f"{TORCH}ReduceLROnPlateau", "patience": 0, "threshold": 0.5}},
    ],
}
WRONG: dict[str, list[Way]] = {
    "labels": each("data.labels", "floats", "negative", "mixed", "dates", "nan", "soft", "masked", "complex"),
    "pixels": each("data.pixels", "masked", "frame", "texts", "with_gradient", "bfloat16", "huge"),
    "data": [
        *each("data.spoilt", "nan", "short", "none_at_all"),
        *each("data.train", 1, 2, 3),
        *each("data.classes", 1),
        *each("data.shape", "volume", "thin"),
        *each("model.shape", [7], [3, 6, 6]),
    ],
    "model": [
        *each("model.dtype", "float16", "complex64"),
        *each("model.output", "axis", "none", "text", "nan", "one", "too_many", "two", "numpy", "int", "half_batch"),
        *each("model.output", "sparse"),
        *each("model.state", "all_frozen", "raises"),
        *each("model.layers", [], ["no_such_layer"], [{"linear": -1}]),
    ],
    "loss": own("train.loss", "loss", "gives", "each", "float", "none", "pair", "detached", "nan", "complex"),
    "metric": [
        *own("train.metric", "Score", "gives", "many", "none", "nan", "text", "bool", "complex", "inf", "raises"),
        *own("train.metric", "Score", "gives", "decimal", "list", "fraction", "mapping", "huge", "one", "itself"),
        *own("train.metric", "Score", "gives", "array_of_one", "masked", "asserts", "stops"),
    ],
}


def draw(random: Random) -> dict[str, Any]:
    """A grid of one trial, or of two cells by two seeds, or of one cell with two candidates."""
    base = _base(random)
    ways = [random.choice(LEGAL[name]) for name in random.sample(list(LEGAL), random.choice([0, 1, 1, 2, 2, 3]))]
    if random.random() < 0.2:
        ways.append(random.choice(WRONG[random.choice(list(WRONG))]))
    for way in ways:
        for path, value in way.items():
            _set(base, path, value)
    _fit(base)
    base["model"].setdefault("layers", layers(random, tuple(base["model"]["shape"])))
    grid: dict[str, Any] = {"question": "Right?", "base": base, "seeds": 1}
    grid["factors"] = {"model.layers": {"here": base["model"]["layers"]}}
    more = random.random()
    if more < 0.1:
        grid["factors"]["model.layers"]["there"] = layers(random, tuple(base["model"]["shape"]))
        grid["seeds"] = 2
    elif more < 0.2:
        rate = base["optimizer"].pop("lr")
        grid |= {"tune": {"optimizer.lr": [rate, rate / 3]}, "tune_seeds": 2}
    return grid


def layers(random: Random, shape: tuple[int, ...]) -> list[Any]:
    """Up to six layers that end in features."""
    found = []
    if len(shape) > 1:
        found = [_layer(random, SPATIAL) for _ in range(random.choice([0, 1, 1, 2, 3]))]
        found.append(_layer(random, TO_FLAT))
    return found + [_layer(random, FLAT) for _ in range(random.choice([0, 1, 1, 2, 3]))]


def _layer(random: Random, kinds: dict[str, Any]) -> Any:
    name = random.choice(list(kinds))
    if name == "residual":
        own = {kind: make for kind, make in kinds.items() if kind not in (*SAME_SIZE, "residual")}
        return {name: [_layer(random, own) for _ in range(random.choice([1, 2]))]}
    return {name: random.choice([1, 2, 4, 6])} if random.random() < 0.7 else name


def _base(random: Random) -> dict[str, Any]:
    """Usual settings."""
    shape = random.choice([*SHAPES, "features", "images"])
    optimizers = [("sgd", 0.1), ("momentum", 0.05), ("adam", 0.01), ("adamw", 0.01)]
    name, rate = random.choice(optimizers)
    return {
        "data": {"name": "any_data:data", "shape": shape, "batch_size": 8},
        "model": {"name": "any_code:Net"},
        "optimizer": {"name": name, "lr": rate},
        "train": {"epochs": random.choice([1, 2])},
    }


def _set(base: dict[str, Any], path: str, value: Any) -> None:
    section, _, name = path.partition(".")
    if name:
        base[section][name] = value
    else:
        base[section] = dict(value)


def _fit(base: dict[str, Any]) -> None:
    """Tells the network the shape that it gets; settings that go with images alone go where there are others."""
    data = base["data"]
    shape = SHAPES.get(data["shape"], (5,))
    if len(shape) < 3:
        for name in ("size", "channels", "augment"):
            data.pop(name, None)
    elif shape[0] > 1:
        data.pop("channels", None)
    if len(shape) == 3:
        side = data.get("size", shape[-1])
        shape = (data.get("channels", shape[0]), side, side)
    base["model"].setdefault("shape", list(shape))
    targets = base["train"].get("loss") in ("mse", "l1")
    if targets:
        base["train"].pop("metric", None)
    if targets and base["train"].get("select") != "dev_loss":
        base["train"].pop("select", None)
    if base["train"].get("select", "").removeprefix("dev_") in str(base["train"].get("metric")):
        base["train"].pop("select", None)
    if base["train"].get("loss", "cross_entropy") != "cross_entropy":
        base["train"].pop("label_smoothing", None)
