"""The schema accepts what the loader accepts and catches what an editor can; the starter grid is a grid."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench.grid.load import load_plan
from bench.grid.schema import grid_schema, starter_grid
from bench.grid.strict_yaml import plain, read
from lab.settings import PARTS, SECTIONS

GRIDS = sorted((Path(__file__).parents[1] / "grids").rglob("*.yaml"))


def test_every_key_section_and_setting_has_a_description() -> None:
    schema = grid_schema()
    assert all(entry["description"] for entry in schema["properties"].values())
    for section in SECTIONS:
        assert section in schema["properties"]["base"]["properties"]
    factors = schema["properties"]["factors"]["properties"]
    assert factors["model.residual"]["description"]
    assert factors["optimizer.lr"]["description"] == "learning rate; with a schedule, its peak"


def test_a_section_takes_what_its_name_takes() -> None:
    cases = grid_schema()["$defs"]["optimizer"]["allOf"]
    adam = next(case["then"] for case in cases if case["if"].get("properties", {}).get("name") == {"enum": ["adam"]})
    assert adam["propertyNames"] == {"enum": list(PARTS["optimizer"]["adam"].model_fields)}
    assert adam["properties"]["betas"]["maxItems"] == 2


def test_names_are_completed() -> None:
    name = grid_schema()["$defs"]["model"]["properties"]["name"]
    assert name["anyOf"][0]["enum"] == list(PARTS["model"])


def test_it_is_json_without_references_that_lead_nowhere() -> None:
    schema = json.loads(json.dumps(grid_schema()))

    def references(part: Any) -> list[str]:
        if isinstance(part, list):
            return [found for item in part for found in references(item)]
        if not isinstance(part, dict):
            return []
        own = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
        return own + [found for item in part.values() for found in references(item)]

    for reference in references(schema):
        assert reference.removeprefix("#/$defs/") in schema["$defs"]


def test_the_starter_grid_loads_and_says_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(starter_grid("mine"))
    plan = load_plan(path)
    assert (plan.name, len(plan.cells), len(plan.trials)) == ("mine", 4, 12)
    assert not plan.warnings
    assert "# mine: " in starter_grid("mine")


def test_the_schema_beside_the_grids_is_current() -> None:
    """``python -m bench schema > grids/schema.json`` makes it so."""
    shipped = Path(__file__).parents[1] / "grids" / "schema.json"
    assert json.loads(shipped.read_text()) == grid_schema()


def test_a_validator_agrees_on_shipped_grids_and_on_faults(tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="compares with an independent validator")
    validator = jsonschema.Draft7Validator(grid_schema())
    jsonschema.Draft7Validator.check_schema(grid_schema())
    for path in GRIDS:
        assert not list(validator.iter_errors(plain(read(path))))
    sound = plain(read(GRIDS[0]))
    assert isinstance(sound, dict)
    faults: list[dict[str, Any]] = [
        {"facotrs": {}},
        {"base": {"modle": {}}},
        {"base": {"model": {"name": "resnet81"}}},
        {"base": {"model": {"name": "lenet", "width": 3}}},
        {"base": {"optimizer": {"name": "sgd", "lr": -1}}},
        {"factors": {"model.residual": True}},
        {"seeds": 0},
        {"plan": "one_at_time"},
        {"exclude": [{"when": {"model.name": "x"}}]},
    ]
    for fault in faults:
        assert list(validator.iter_errors(sound | fault)), fault
