"""Every way of preparing a model that must give the same answer: each stage by itself, and each pass left out."""

import collections

import sardonyx as sx
from sardonyx import _sardonyx

SIMPLIFY, FUSE, PLAN = (_sardonyx.pass_names(stage) for stage in ("simplified", "fused", "planned"))
STAGES = {"as upgraded": {"optimize": "none"}, "only simplified": {"disabled_passes": FUSE + PLAN},
          "fused, without plan passes": {"disabled_passes": PLAN},
          "without any pass": {"disabled_passes": SIMPLIFY + FUSE + PLAN}}

tested, unchanged = collections.Counter(), collections.Counter()  # graphs by pass


def sessions(source, **options):
    """(what is left out, session) for each stage and for each pass without which the graph differs from the one
    that a session runs by default. A pass of the plan is left out of every graph."""
    model = source if isinstance(source, sx.Model) else sx.Model(source)
    for what, left_out in STAGES.items():
        tested[what] += 1
        yield what, sx.InferenceSession(model, **left_out, **options)
    default = _sardonyx.print_stage(model, "fused", options)
    for name in SIMPLIFY + FUSE + PLAN:
        left_out = {"disabled_passes": [name], **options}
        if name not in PLAN and _sardonyx.print_stage(model, "fused", left_out) == default:
            unchanged[name] += 1
            continue
        tested[name] += 1
        yield f"without {name}", sx.InferenceSession(model, **left_out)


def summary():
    """One line for each variant that was asked for."""
    for name in [*STAGES, *SIMPLIFY, *FUSE, *PLAN]:
        if tested[name] or unchanged[name]:
            yield f"{name}: {tested[name]} graphs run, {unchanged[name]} the same without it"
