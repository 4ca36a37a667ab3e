"""JSON Schema of a grid, for completion and checking in an editor, and a short grid to start from."""

from __future__ import annotations

from typing import Any

from bench.grid.form import GridForm
from bench.grid.language import known_settings
from bench.grid.metric_words import MARGIN_SCHEMA, metrics_schema
from bench.grid.metrics import lab_metrics
from bench.grid.run_words import READERS
from lab.settings import PARTS, SECTIONS, Section

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
RUN: Schema = {
    "properties": {
        "function": {"type": "string", "pattern": ":", "description": "import path package.module:function"},
        "command": {
            **TEXT,
            "description": "split once, no shell; {seed} {folder} {device} {settings_file} {flags} ...",
        },
        "flags": {"type": "object", "description": "settings that are true or false: [--norm, --no-norm]"},
        "read": {
            "type": "object",
            "properties": dict.fromkeys((*READERS, "step"), TEXT),
            "additionalProperties": False,
            "description": "where the metrics are, beside $BENCH_METRICS",
        },
        "resume": {"enum": ["restart", "continue"], "description": "continue: the folder is kept, BENCH_RESUME=1"},
        "code": {"type": "array", "items": TEXT, "description": "what makes a result stale"},
    },
    "additionalProperties": False,
}


def grid_schema() -> Schema:
    """Makes the JSON Schema (draft 7) of a grid file: keys, built-in parts and settings, with descriptions."""
    schema = _untitled(GridForm.model_json_schema())
    schema["$schema"] = "http://json-schema.org/draft-07/schema#"
    schema["title"] = "grid"
    schema["$defs"] |= {section: _section(section) for section in SECTIONS}
    properties = schema["properties"]
    whole = {section: {"$ref": f"#/$defs/{section}"} for section in SECTIONS}
    settings = _dotted_settings()
    properties["base"] |= {"properties": whole, "additionalProperties": False}
    properties["factors"] |= {
        "properties": {
            **{section: _levels(ref, f"levels of the whole section {section}") for section, ref in whole.items()},
            **{path: _levels({}, description) for path, description in settings.items()},
        },
        "additionalProperties": {"type": ["array", "object"], "minItems": 1, "minProperties": 1},
    }
    candidates = {"type": "array", "minItems": 1}
    properties["tune"] |= {
        "properties": {path: {**candidates, "description": description} for path, description in settings.items()},
        "additionalProperties": candidates,
    }
    known = {path: {"description": description} for path, description in settings.items()}
    properties["include"]["items"] = {"type": "object", "properties": known | whole}
    strict = {name: properties[name] for name in ("base", "factors", "include")}
    schema |= {"if": {"not": {"required": ["run"]}}, "then": {"properties": strict}}  # own code has free settings
    properties |= {name: _free(form) for name, form in strict.items()}
    properties["run"] |= RUN
    properties["hypotheses"]["description"] += f"; METRIC is one of {', '.join(lab_metrics())}, or the grid's own"
    properties["metrics"] |= metrics_schema()
    properties["margin"] |= MARGIN_SCHEMA
    return schema


def _free(form: Schema) -> Schema:
    """Returns the outer form alone; what the laboratory has stays as names to choose from, with their descriptions."""
    kept = {name: form[name] for name in ("type", "default", "description") if name in form}
    names = {name: {"description": one.get("description", name)} for name, one in form.get("properties", {}).items()}
    return kept | ({"properties": names} if names else {})


def _levels(level: Schema, description: str) -> Schema:
    listed = {"type": "array", "items": level, "minItems": 1}
    labelled = {"type": "object", "additionalProperties": level, "minProperties": 1}
    return {"anyOf": [listed, labelled], "description": description}


def _dotted_settings() -> dict[str, str]:
    """Returns every setting of the built-in parts by its dotted path, with its description."""
    found: dict[str, str] = {}
    for section, kind in SECTIONS.items():
        for part in [*PARTS.get(section, {}).values(), kind]:
            for name, field in part.model_fields.items():
                found.setdefault(f"{section}.{name}", field.description or name)
    return found


def _section(section: str) -> Schema:
    """Returns one section of ``base`` or of a level: which settings it takes depends on its name."""
    if section not in PARTS:
        return _settings_of(SECTIONS[section]) | {"type": "object", "additionalProperties": False}
    known = PARTS[section]
    built_in = {"enum": list(known), "description": f"built-in {section}"}
    imported = {"type": "string", "pattern": ":", "description": "import path package.module:attribute"}
    others = [name for name in known_settings(section) if name != "name"]
    kinds = dict.fromkeys(known.values())
    cases = [_case([name for name, kind in known.items() if kind is one], one) for one in kinds]
    unnamed = {
        "if": {"not": {"required": ["name"]}},
        "then": {"propertyNames": {"enum": list(known_settings(section))}},
    }
    return {
        "type": "object",
        "properties": {"name": {"anyOf": [built_in, imported]}, **{name: {} for name in others}},
        "allOf": [*cases, unnamed],
    }


def _case(names: list[str], kind: type[Section]) -> Schema:
    then = _settings_of(kind)
    return {
        "if": {"properties": {"name": {"enum": names}}, "required": ["name"]},
        "then": then | {"propertyNames": {"enum": list(kind.model_fields)}},
    }


def _settings_of(kind: type[Section]) -> Schema:
    schema = _untitled(kind.model_json_schema())
    properties = {name: form for name, form in schema["properties"].items() if name != "name"}
    return {"properties": properties, "description": schema.get("description", "")}


def _untitled(schema: Any) -> Any:
    """Returns the schema without pydantic's titles, which repeat the names."""
    if isinstance(schema, dict):
        return {key: _untitled(value) for key, value in schema.items() if key != "title" or not isinstance(value, str)}
    return [_untitled(item) for item in schema] if isinstance(schema, list) else schema


def starter_grid(name: str, schema: str = "schema.json") -> str:
    """Returns the text of a short commented grid that runs in under a minute on two cores; ``name`` heads it.

    ``schema`` is the file beside it by which editors complete it.
    """
    return f"""\
# yaml-language-server: $schema={schema}
# {name}: what the question is, what it costs, what you expect.
# Editors complete and check it by the first line; python -m bench schema > {schema} renews that.
question: Does BatchNorm help a small residual network on handwritten digits?

base:                                  # the same in every trial
  data:      {{name: digits, size: 32, batch_size: 64}}
  model:     {{name: resnet10, width: 8}}
  optimizer: {{name: momentum, lr: 0.05}}
  train:     {{epochs: 3}}

factors:                               # what is compared: every combination
  model.batch_norm: [true, false]
  model.residual: [true, false]

# tune:                                # every cell gets the same candidates; the best on dev counts
#   optimizer.lr: [0.1, 0.05, 0.02]

seeds: 3                               # 0, 1 and 2; the same seed sees the same batches in every cell
baseline: {{model.batch_norm: true, model.residual: true}}

hypotheses:                            # judged in the report: supported, refuted or undecided
  - model.batch_norm=true > model.batch_norm=false on test_accuracy
"""
