"""The tree ensembles of ai.onnx.ml against onnxruntime, and ensembles that must be refused."""

import numpy as np
import pytest
from onnx import numpy_helper

import sardonyx as sx
from nodes import against_ort, ml


def forest(rng, trees, depth, features, targets, modes=("BRANCH_LEQ",), positive=False, single=False):
    """Random full trees; the attributes of nodes and of votes."""
    nodes = {
        k: []
        for k in (
            "treeids",
            "nodeids",
            "featureids",
            "modes",
            "values",
            "truenodeids",
            "falsenodeids",
            "missing_value_tracks_true",
        )
    }
    votes = {"treeids": [], "nodeids": [], "ids": [], "weights": []}
    for tree in range(trees):
        inner = 2**depth - 1
        for i in range(2 * inner + 1):
            leaf = i >= inner
            for key, value in (
                ("treeids", tree),
                ("nodeids", i),
                ("featureids", 0 if leaf else int(rng.integers(features))),
                ("modes", "LEAF" if leaf else str(rng.choice(modes))),
                ("values", 0.0 if leaf else float(np.float32(np.round(rng.normal(), 1)))),
                ("truenodeids", 0 if leaf else 2 * i + 1),
                ("falsenodeids", 0 if leaf else 2 * i + 2),
                ("missing_value_tracks_true", int(rng.integers(2))),
            ):
                nodes[key].append(value)
            for target in ([0] if single else range(targets)) if leaf else ():
                weight = float(np.float32(rng.normal()))
                for key, value in (
                    ("treeids", tree),
                    ("nodeids", i),
                    ("ids", target),
                    ("weights", abs(weight) / trees if positive else weight),
                ):
                    votes[key].append(value)
    return {f"nodes_{k}": v for k, v in nodes.items()}, votes


MODES = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]


def tree_input(rng, dtype, missing):
    x = np.round(rng.normal(0, 1, (40, 5)), 1).astype(dtype)
    if missing:
        x[rng.integers(0, 5, x.shape) == 0] = np.nan
    return x


@pytest.mark.parametrize("aggregate", ["SUM", "AVERAGE", "MIN", "MAX"])
@pytest.mark.parametrize("transform", ["NONE", "SOFTMAX", "LOGISTIC"])
@pytest.mark.parametrize("targets", [1, 3])
def test_tree_regressor(aggregate, transform, targets):
    if targets == 1 and transform != "NONE":
        pytest.skip("onnxruntime leaves one target as it is")
    rng = np.random.default_rng(7)
    for trees, depth, modes, missing, base in (
        (1, 1, MODES[:1], False, None),
        (7, 4, MODES[:1], True, [0.5, -0.25, 1.0][:targets]),
        (5, 3, MODES, False, None),
    ):
        nodes, votes = forest(rng, trees, depth, 5, targets, modes)
        a = (
            nodes
            | {f"target_{k}": v for k, v in votes.items()}
            | dict(n_targets=targets, aggregate_function=aggregate, post_transform=transform)
        )
        if base:
            a["base_values"] = base
        for dtype in (np.float32, np.float64):
            against_ort(
                "TreeEnsembleRegressor", [tree_input(rng, dtype, missing)], [np.float32], opset=3, **a
            )


@pytest.mark.parametrize("transform", ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO"])
def test_tree_classifier_of_many_classes(transform):
    rng = np.random.default_rng(8)
    for trees, depth, base in ((1, 2, None), (9, 3, [0.5, -0.25, 1.0])):
        nodes, votes = forest(rng, trees, depth, 5, 3)
        a = (
            nodes
            | {f"class_{k}": v for k, v in votes.items()}
            | dict(post_transform=transform)
            | ({"base_values": base} if base else {})
        )
        for labels, out in (
            (dict(classlabels_int64s=[5, 3, 9]), np.int64),
            (dict(classlabels_strings=["a", "b", "c"]), str),
        ):
            against_ort(
                "TreeEnsembleClassifier",
                [tree_input(rng, np.float32, True)],
                [out, np.float32],
                opset=3,
                **a,
                **labels,
            )


@pytest.mark.parametrize(
    "transform,positive", [("NONE", True), ("NONE", False), ("LOGISTIC", True), ("LOGISTIC", False)]
)
def test_tree_classifier_of_two_classes(transform, positive):
    rng = np.random.default_rng(9)
    nodes, votes = forest(rng, 4, 3, 5, 1, positive=positive, single=True)
    a = (
        nodes
        | {f"class_{k}": v for k, v in votes.items()}
        | dict(post_transform=transform, classlabels_int64s=[4, 6])
    )
    against_ort(
        "TreeEnsembleClassifier", [tree_input(rng, np.float32, False)], [np.int64, np.float32], opset=3, **a
    )


def test_tree_classifier_picks_the_greatest_score():
    rng = np.random.default_rng(10)
    nodes, votes = forest(rng, 4, 3, 5, 2)
    x = tree_input(rng, np.float32, False)
    labels, scores = ml(
        "TreeEnsembleClassifier",
        [x],
        [np.int64, np.float32],
        opset=3,
        **nodes,
        **{f"class_{k}": v for k, v in votes.items()},
        classlabels_int64s=[4, 6],
    ).run()
    np.testing.assert_array_equal(labels, np.array([4, 6])[scores.argmax(1)])


def ensemble(**changes):
    """Two trees: x0 <= 0.5 ? leaf 0 : (x1 in {1, 3} ? leaf 1 : leaf 2), and a single leaf 3."""
    tensor = lambda v, t: numpy_helper.from_array(np.array(v, t))
    kind = changes.pop("kind", np.float32)
    a = dict(
        n_targets=2,
        tree_roots=[0, 2],
        nodes_featureids=[0, 1, 0],
        nodes_modes=tensor([0, 6, 0], np.uint8),
        nodes_splits=tensor([0.5, 0, 0], kind),
        nodes_truenodeids=[0, 1, 3],
        nodes_trueleafs=[1, 1, 1],
        nodes_falsenodeids=[1, 2, 3],
        nodes_falseleafs=[0, 1, 1],
        leaf_targetids=[0, 1, 0, 1],
        leaf_weights=tensor([1.5, 2.5, -3.5, 0.25], kind),
        membership_values=tensor([1, 3, np.nan], kind),
    )
    return a | changes


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.float16])
def test_tree_ensemble(kind):
    x = np.array([[0, 1], [1, 1], [1, 2], [1, 3], [np.nan, 0]], kind)
    rows = [[1.5, 0.25], [0, 2.75], [-3.5, 0.25], [0, 2.75], [-3.5, 0.25]]
    np.testing.assert_array_equal(
        ml("TreeEnsemble", [x], [kind], **ensemble(kind=kind)).run()[0], np.array(rows, kind)
    )
    average = ml("TreeEnsemble", [x], [kind], **ensemble(kind=kind, aggregate_function=0)).run()[0]
    np.testing.assert_array_equal(average, np.array(rows, kind) / 2)
    tracked = ml(
        "TreeEnsemble", [x], [kind], **ensemble(kind=kind, nodes_missing_value_tracks_true=[1, 0, 0])
    ).run()[0]
    np.testing.assert_array_equal(tracked[4], [1.5, 0.25])


@pytest.mark.parametrize(
    "changes",
    [
        dict(nodes_falsenodeids=[0, 2, 3]),
        dict(nodes_truenodeids=[9, 1, 3]),
        dict(nodes_falsenodeids=[7, 2, 3]),
        dict(nodes_truenodeids=[-1, 1, 3]),
        dict(tree_roots=[5]),
        dict(tree_roots=[-1]),
        dict(nodes_featureids=[2, 1, 0]),
        dict(nodes_featureids=[-1, 1, 0]),
        dict(leaf_targetids=[0, 1, 0, 2]),
        dict(leaf_targetids=[0, 1]),
        dict(nodes_trueleafs=[1, 1]),
        dict(n_targets=0),
        dict(aggregate_function=9),
        dict(post_transform=9),
        dict(membership_values=numpy_helper.from_array(np.array([], np.float32))),
        dict(nodes_modes=numpy_helper.from_array(np.array([0, 9, 0], np.uint8))),
    ],
)
def test_tree_ensemble_bad(changes):
    if "membership_values" in changes:  # two membership nodes, one set
        changes = dict(
            nodes_modes=numpy_helper.from_array(np.array([6, 6, 6], np.uint8)),
            membership_values=numpy_helper.from_array(np.array([1.0], np.float32)),
        )
    with pytest.raises(sx.Error):
        ml("TreeEnsemble", [np.zeros((2, 2), np.float32)], [np.float32], **ensemble(**changes)).run()


@pytest.mark.parametrize(
    "name,value",
    [
        ("nodes_truenodeids", [0, 0, 0]),
        ("nodes_truenodeids", [7, 0, 0]),
        ("nodes_falsenodeids", [-3, 0, 0]),
        ("nodes_featureids", [5, 0, 0]),
        ("nodes_featureids", [-1, 0, 0]),
        ("nodes_modes", ["BRANCH_LEQ", "LEAF", "OTHER"]),
        ("nodes_nodeids", [0, 1, 1]),
        ("nodes_values", [1.0]),
        ("target_ids", [0, 3]),
        ("target_ids", [0, -1]),
        ("target_nodeids", [1, 9]),
        ("target_weights", [1.0]),
        ("nodes_modes", ["BRANCH_LEQ", "BRANCH_LT", "LEAF"]),
    ],
)
def test_tree_regressor_bad(name, value):
    a = dict(
        nodes_treeids=[0, 0, 0],
        nodes_nodeids=[0, 1, 2],
        nodes_featureids=[0, 0, 0],
        nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"],
        nodes_values=[1.0, 0.0, 0.0],
        nodes_truenodeids=[1, 0, 0],
        nodes_falsenodeids=[2, 0, 0],
        target_treeids=[0, 0],
        target_nodeids=[1, 2],
        target_ids=[0, 0],
        target_weights=[1.0, 2.0],
        n_targets=1,
    )
    x = np.zeros((2, 2), np.float32)
    np.testing.assert_array_equal(
        ml("TreeEnsembleRegressor", [x], [np.float32], opset=3, **a).run()[0], [[1], [1]]
    )
    with pytest.raises(sx.Error):
        ml("TreeEnsembleRegressor", [x], [np.float32], opset=3, **(a | {name: value})).run()
