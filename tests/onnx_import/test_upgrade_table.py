"""The upgrade tables against the operator schemas of ONNX: a newer ONNX fails here until someone has decided
what each new version of an operator means.

The tables are read from the sources of onnx_import/upgrade/: rows {"Op", version, rule, "domain"}, loops over
a list of operators with such a row, and the rows {"Op", {versions}, "domain"} of unchanged.cpp.
"""

import pathlib
import re

import onnx
import pytest
from onnx import defs

SOURCES = pathlib.Path(__file__).resolve().parents[2] / "onnx_import" / "upgrade"
DOMAINS = ("", "ai.onnx.ml", "ai.onnx.preview.training")
ROW = re.compile(r'\{"(\w+)", (\d+), \w+, "([\w.]*)"\}')
LOOP = re.compile(r'for \(const char\* op\s*:\s*\{([^}]*)\}\)\s*'
                  r'steps\.push_back\(\{op, (\d+), \w+, "([\w.]*)"\}\)')
UNCHANGED = re.compile(r'\{"(\w+)", \{([\d, ]+)\}(?:, "([\w.]*)")?\}')


def rules():
    found = []
    for source in SOURCES.glob("*.cpp"):
        if source.name == "unchanged.cpp":
            continue
        text = source.read_text()
        found += [(domain, op, int(version)) for op, version, domain in ROW.findall(text)]
        for names, version, domain in LOOP.findall(text):
            found += [(domain, op, int(version)) for op in re.findall(r'"(\w+)"', names)]
    return found


def unchanged():
    rows = UNCHANGED.findall((SOURCES / "unchanged.cpp").read_text())
    return [(domain, op, int(version)) for op, versions, domain in rows for version in versions.split(",")]


def schema_steps():
    """(domain, operator, version) -> the schemas before and at it, for every version but the first."""
    history = {}
    for schema in defs.get_all_schemas_with_history():
        if schema.domain in DOMAINS:
            history.setdefault((schema.domain, schema.name), []).append(schema)
    steps = {}
    for (domain, op), schemas in history.items():
        schemas.sort(key=lambda schema: schema.since_version)
        for before, after in zip(schemas, schemas[1:]):
            steps[domain, op, after.since_version] = before, after
    return steps


STEPS = schema_steps()


def test_every_version_is_decided():
    assert sorted(set(STEPS) - set(rules()) - set(unchanged())) == []


def test_nothing_is_decided_twice_or_does_not_exist():
    decided = rules() + unchanged()
    assert sorted(step for step in set(decided) if decided.count(step) > 1) == []
    assert sorted(set(decided) - set(STEPS)) == []


def default(attribute):
    if attribute.default_value.type == onnx.AttributeProto.UNDEFINED:
        return None
    return onnx.helper.get_attribute_value(attribute.default_value)


@pytest.mark.parametrize("step", unchanged(), ids=lambda step: f"{step[0]}{step[1]}-{step[2]}")
def test_unchanged_versions_only_widen(step):
    """No type, input, output or attribute goes, no default changes, nothing new has to be given."""
    before, after = STEPS[step]
    optional = defs.OpSchema.FormalParameterOption.Optional
    for old, new in ((before.inputs, after.inputs), (before.outputs, after.outputs)):
        assert len(new) >= len(old)
        for was, now in zip(old, new):
            assert was.types <= now.types
            assert now.option in (was.option, optional)
        assert all(port.option == optional for port in new[len(old):])
    for name, attribute in before.attributes.items():
        assert after.attributes[name].type == attribute.type
        if not attribute.required:
            assert default(after.attributes[name]) == default(attribute)
            assert not after.attributes[name].required
    for name in set(after.attributes) - set(before.attributes):
        assert not after.attributes[name].required
