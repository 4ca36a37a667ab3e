"""Parts: what an import path names is as good as a built-in name, and its signature is its settings."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lab.imports import PartError, as_part_error, load
from lab.parts import accepts, is_open, settings_type
from lab.settings import Settings, SettingsError, parse_section

Write = Callable[[str, str], None]

NETS = """
from typing import Annotated, Literal
from pydantic import Field

class Net:
    '''A network of mine.'''

    def __init__(self, in_channels: int, num_classes: int, depth: int, width: int = 8, rate: float = 0,
                 kind: Literal["a", "b"] = "a", sizes: tuple[int, ...] = (3, 5), scale: float | None = None,
                 share: Annotated[float, Field(gt=0, lt=1)] = 0.5, activation=object(), path: "Unknown" = 1):
        pass

    @classmethod
    def make(cls, flag: bool = False):
        pass

def implicit(limit: int = None): pass
def open_ended(width: int = 4, **more): pass

number = 3
"""
BROKEN = {
    "unfinished": "class Net(",
    "failing": "1 / 0",
    "leaving": "import sys; sys.exit(3)",
    "guarded": "def __getattr__(name):\n    raise KeyError(name)",
}


# --- load -----------------------------------------------------------------------------------------------------------


def test_load_gives_what_the_path_names() -> None:
    import math

    assert load("math:hypot") is math.hypot


def test_the_working_folder_is_importable(workshop: Write) -> None:
    workshop("my_nets", NETS)
    assert load("my_nets:Net").__name__ == "Net"
    assert load("my_nets:Net.make").__name__ == "make"


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("no_such_module_here:Net", "cannot import no_such_module_here"),
        ("my_nets:Nett", "my_nets has no 'Nett'; did you mean Net?"),
        ("my_nets:", "my_nets has no ''"),
        ("my_nets:number", "must be callable, is int"),
        (".my_nets:Net", "cannot import .my_nets: TypeError: "),
        (":Net", "cannot import : ValueError: "),
        ("unfinished:Net", "cannot import unfinished: SyntaxError: "),
        ("failing:Net", "cannot import failing: ZeroDivisionError: "),
        ("leaving:Net", "cannot import leaving: SystemExit: 3"),
        ("guarded:Net", "cannot read 'Net': KeyError: 'Net'"),
        ("my_net:Net", "No module named 'my_net'; did you mean my_nets?"),
        ("my_nets.py:Net", "a module is named as an import statement names it: my_nets:Net"),
        ("./sub/my_nets.py:Net", "as an import statement names it: sub.my_nets:Net"),
    ],
)
def test_load_says_which_step_failed(workshop: Write, path: str, says: str) -> None:
    workshop("my_nets", NETS)
    for module, source in BROKEN.items():
        workshop(module, source)
    with pytest.raises(PartError) as caught:
        load(path)
    assert says in str(caught.value)
    assert repr(path) in str(caught.value)


RAISING = """
class Silent(Exception):
    def __str__(self):
        raise RuntimeError("no words")

def data(what):
    if what == "silent":
        raise Silent
    if what == "bare":
        assert not what
    if what == "long":
        raise ValueError("word " * 10_000)
    if what == "lines":
        raise ValueError("one\\n[red]two[/red]\\u2028three")
    raise type("Own", (BaseException,), {})("no exception")
"""


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("silent", "Silent: <exception str() failed> (raising.py, line 8)"),
        ("bare", "AssertionError (raising.py, line 10: assert not what)"),
        ("long", " word ... (50,000 letters) (raising.py, line 12)"),
        ("lines", "ValueError: one [red]two[/red] three (raising.py, line 14)"),
        ("base", "Own: no exception (raising.py, line 15)"),
    ],
)
def test_whatever_user_code_raises_is_told_in_one_line(workshop: Write, what: str, says: str) -> None:
    workshop("raising", RAISING)
    with pytest.raises(PartError) as caught, as_part_error("data raising:data: raised"):
        load("raising:data")(what)
    assert str(caught.value).startswith("data raising:data: raised: ")
    assert str(caught.value).endswith(says)
    assert len(str(caught.value)) < 2100


def test_stopping_is_no_error_of_user_code() -> None:
    with pytest.raises(KeyboardInterrupt), as_part_error("data"):
        raise KeyboardInterrupt


def test_accepts_what_the_signature_names() -> None:
    def named(size: int, width: int = 3) -> None: ...
    def open_ended(**more: int) -> None: ...

    given = {"in_channels": 1, "num_classes": 10, "size": 32}
    assert accepts(named, given) == {"size": 32}
    assert accepts(open_ended, given) == {}
    assert (is_open(named), is_open(open_ended)) == (False, True)


# --- settings from a signature --------------------------------------------------------------------------------------


def test_the_signature_is_the_settings_without_what_the_harness_gives(workshop: Write) -> None:
    workshop("my_nets", NETS)
    made = parse_section("model", {"name": "my_nets:Net", "depth": 2})
    assert made.model_dump() == {
        "name": "my_nets:Net", "replace": {}, "remove": [], "depth": 2, "width": 8,
        "rate": 0.0, "kind": "a", "sizes": [3, 5], "scale": None,
        "share": 0.5, "path": 1,
    }  # fmt: skip
    assert type(made).__doc__ == "A network of mine."


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("width", "8", "must be integer, got '8'"),
        ("rate", "x", "must be number, got 'x'"),
        ("kind", "c", "must be a or b, got 'c'"),
        ("sizes", [1, "2"], "must be list of integer, got '2'"),
        ("share", 1.0, "must be number > 0 and < 1, got 1.0"),
        ("widht", 3, "no such setting of my_nets:Net; did you mean width?"),
        ("num_classes", 3, "no such setting of my_nets:Net"),
        ("activation", 1, "no such setting of my_nets:Net"),
    ],
)
def test_annotations_are_held(workshop: Write, setting: str, value: object, says: str) -> None:
    workshop("my_nets", NETS)
    with pytest.raises(SettingsError, match=f"^model.{setting}") as caught:
        parse_section("model", {"name": "my_nets:Net", "depth": 1, setting: value})
    assert says in str(caught.value)


def test_a_parameter_without_a_default_is_required(workshop: Write) -> None:
    workshop("my_nets", NETS)
    with pytest.raises(SettingsError, match=r"model.depth: is required: integer"):
        parse_section("model", {"name": "my_nets:Net"})


def test_a_default_left_out_is_the_same_trial_as_spelled_out(workshop: Write) -> None:
    workshop("my_nets", NETS)
    base = {"data": {"name": "digits"}, "optimizer": {"name": "sgd", "lr": 0.1}, "train": {"epochs": 1}}
    net = {"name": "my_nets:Net", "depth": 1}
    left_out = Settings.parse({**base, "model": net})
    for spelled in ({"rate": 0}, {"rate": 0.0}, {"sizes": [3, 5]}, {"scale": None}):
        assert Settings.parse({**base, "model": net | spelled}).trial_id == left_out.trial_id, spelled


@pytest.mark.parametrize("signature", ["_hidden: int", "model_config: int = 1", "x: 'Literal[' = 1"])
def test_a_signature_that_cannot_be_settings_is_a_problem_of_its_section(workshop: Write, signature: str) -> None:
    workshop("odd", f"def net({signature}): pass")
    with pytest.raises(SettingsError, match=r"^model.name: no such model: 'odd:net': cannot read its signature: "):
        settings_type("model", "odd:net")


def test_none_as_a_default_may_be_given(workshop: Write) -> None:
    workshop("my_nets", NETS)
    kind = settings_type("model", "my_nets:implicit")
    assert kind.model_validate({"name": "my_nets:implicit", "limit": None}).model_dump()["limit"] is None


def test_any_keyword_is_a_setting_where_the_signature_is_open(workshop: Write) -> None:
    workshop("my_nets", NETS)
    made = parse_section("model", {"name": "my_nets:open_ended", "anything": 3})
    own = {name: value for name, value in made if name not in ("replace", "remove")}
    assert own == {"name": "my_nets:open_ended", "width": 4, "anything": 3}


def test_torch_optimizers_are_parts() -> None:
    made = parse_section("optimizer", {"name": "torch.optim:Adagrad", "lr": 0.1})
    assert made.model_dump()["lr"] == 0.1
    assert made.model_dump()["lr_decay"] == 0.0
    assert "params" not in made.model_dump()
    with pytest.raises(SettingsError, match=r"optimizer.lr: must be number > 0, got 0"):
        parse_section("optimizer", {"name": "torch.optim:Adagrad", "lr": 0})


def test_an_import_path_that_leads_nowhere_is_a_problem_of_its_section() -> None:
    with pytest.raises(SettingsError, match=r"^model.name: no such model: 'nowhere_at_all:Net': cannot import"):
        parse_section("model", {"name": "nowhere_at_all:Net"})
