"""Which operators have a gradient: every one that takes and gives floats has one, or a reason why not."""
import pathlib
import subprocess
import sys

import sardonyx as sx

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_every_operator_has_a_gradient_or_a_reason():
    without = [o["name"] for o in sx.operators() if not o["gradient_by"]]
    assert not without
    reasons = [o["gradient_by"] for o in sx.operators() if o["gradient_by"].startswith("none")]
    assert all(len(reason) > len("none: ") + 8 for reason in reasons)


def test_what_onnx_calls_differentiable_has_a_gradient():
    import onnx
    ours = {(o["domain"].replace("ai.onnx", "", 1) if o["domain"] == "ai.onnx" else o["domain"], o["name"]): o
            for o in sx.operators()}
    missing = []
    for schema in onnx.defs.get_all_schemas():
        tagged = any(p.differentiation_category == onnx.defs.OpSchema.DifferentiationCategory.Differentiable
                     for p in [*schema.inputs, *schema.outputs])
        entry = ours.get((schema.domain, schema.name))
        if tagged and entry and not schema.deprecated and not entry["gradient"] and entry["gradient_by"] != "no floats":
            missing.append((schema.name, entry["gradient_by"]))
    assert missing == []


def test_the_page_of_operators_is_current():
    done = subprocess.run([sys.executable, ROOT / "tools/operators_page", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
