"""The operators of ai.onnx.ml against onnxruntime and onnx.reference, and models that must be refused."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import sardonyx as sx
from nodes import Node, assert_close

TRANSFORMS = ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"]
NUMBERS = [np.float32, np.float64, np.int64, np.int32]


def ml(op, inputs, out, **attributes):
    return Node(op, inputs, out, domain="ai.onnx.ml", **attributes)


def against_ort(op, inputs, out, tolerance=1e-5, opset=3, **attributes):
    node = ml(op, inputs, out, opset=opset, **attributes)
    for got, want in zip(node.run(), node.ort()):
        if want.dtype.kind in "OUS":
            np.testing.assert_array_equal(got.astype(str), want.astype(str))
        else:
            assert got.dtype == want.dtype
            assert_close(got, want, tolerance)


# ---- features

@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.int32])
def test_array_feature_extractor(dtype):
    for shape in ((4,), (1, 4), (3, 4), (2, 3, 4)):
        x = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
        for index in ([2], [0, 3, 3], [[1, 0]]):
            against_ort("ArrayFeatureExtractor", [x, np.array(index, np.int64)], [dtype])
    for index in ([4], [-1]):
        with pytest.raises(sx.Error):
            ml("ArrayFeatureExtractor", [np.zeros((2, 4), dtype), np.array(index, np.int64)], [dtype]).run()


def test_array_feature_extractor_strings():
    x = np.array([["a", "b", "c"], ["d", "e", "f"]], object)
    np.testing.assert_array_equal(ml("ArrayFeatureExtractor", [x, np.array([2, 0], np.int64)], [str]).run()[0], [["c", "a"], ["f", "d"]])


@pytest.mark.parametrize("dtype", NUMBERS)
def test_binarizer_scaler_normalizer(dtype):
    x = np.random.default_rng(0).integers(-5, 6, (4, 5)).astype(dtype)
    want = (x > 1.5).astype(dtype)
    np.testing.assert_array_equal(ml("Binarizer", [x], [dtype], threshold=1.5).run()[0], want)
    against_ort("Scaler", [x], [np.float32], scale=[2.0, 0.5, 1.0, 3.0, -1.0], offset=[1.0, 2.0, 3.0, 0.0, 0.5])
    against_ort("Scaler", [x], [np.float32], scale=[2.0], offset=[1.0])
    x[2] = 0
    for norm in ("L1", "L2", "MAX"):
        y = ml("Normalizer", [x], [np.float32], norm=norm).run()[0]
        total = {"L1": np.abs(x).sum(1), "L2": np.sqrt(np.square(x.astype(np.float64)).sum(1)), "MAX": np.abs(x).max(1)}[norm]
        assert_close(y, x / np.where(total == 0, 1, total)[:, None], 1e-6)
    with pytest.raises(sx.Error):
        ml("Scaler", [x], [np.float32], scale=[1.0, 2.0], offset=[0.0]).run()
    with pytest.raises(sx.Error):
        ml("Normalizer", [x], [np.float32], norm="L3").run()


@pytest.mark.parametrize("dtype", NUMBERS)
def test_imputer(dtype):
    floats = np.dtype(dtype).kind == "f"
    x = np.random.default_rng(1).integers(0, 3, (6, 4)).astype(dtype)
    if floats:
        x[1, 2] = np.nan
        for replaced in (1.0, float("nan")):
            for values in ([7.5], [1.0, 2.0, 3.0, 4.0]):
                y = ml("Imputer", [x], [dtype], imputed_value_floats=values, replaced_value_float=replaced).run()[0]
                hit = np.isnan(x) if np.isnan(replaced) else x == replaced
                np.testing.assert_array_equal(y, np.where(hit, np.array(values, dtype), x))
    else:
        y = ml("Imputer", [x], [dtype], imputed_value_int64s=[9], replaced_value_int64=1).run()[0]
        np.testing.assert_array_equal(y, np.where(x == 1, 9, x))
    with pytest.raises(sx.Error):
        ml("Imputer", [x], [dtype], **({"imputed_value_floats": [1.0, 2.0]} if floats else {"imputed_value_int64s": [1, 2]})).run()


def test_feature_vectorizer():
    a, b = np.arange(6, dtype=np.float32).reshape(2, 3), np.arange(4, dtype=np.float32).reshape(2, 2)
    np.testing.assert_array_equal(ml("FeatureVectorizer", [a, b], [np.float32], inputdimensions=[2, 4]).run()[0],
                                  [[0, 1, 0, 1, 0, 0], [3, 4, 2, 3, 0, 0]])
    against_ort("FeatureVectorizer", [a, b], [np.float32], inputdimensions=[3, 2])
    with pytest.raises(sx.Error):
        ml("FeatureVectorizer", [a, b[:1]], [np.float32], inputdimensions=[3, 2]).run()


def test_one_hot_encoder():
    for x in (np.array([1, 5, 2], np.int64), np.array([[1, 2], [2, 7]], np.int64), np.array([1.0, 2.5], np.float32)):
        y = ml("OneHotEncoder", [x], [np.float32], cats_int64s=[1, 2, 7]).run()[0]
        np.testing.assert_array_equal(y, x.astype(np.int64)[..., None] == [1, 2, 7])
    s = np.array([["a", "z"], ["c", "a"]], object)
    np.testing.assert_array_equal(ml("OneHotEncoder", [s], [np.float32], cats_strings=["a", "c"]).run()[0], s[..., None] == ["a", "c"])
    with pytest.raises(sx.Error):
        ml("OneHotEncoder", [np.array([9], np.int64)], [np.float32], cats_int64s=[1, 2], zeros=0).run()


# ---- labels

def test_category_mapper():
    cats = dict(cats_strings=["a", "b"], cats_int64s=[4, 5])
    np.testing.assert_array_equal(ml("CategoryMapper", [np.array(["b", "x"], object)], [np.int64], default_int64=-7, **cats).run()[0], [5, -7])
    np.testing.assert_array_equal(ml("CategoryMapper", [np.array([4, 9], np.int64)], [str], default_string="?", **cats).run()[0], ["a", "?"])


@pytest.mark.parametrize("key", ["int64s", "floats", "strings"])
@pytest.mark.parametrize("value", ["int64s", "floats", "strings"])
def test_label_encoder(key, value):
    keys = {"int64s": [1, -2, 3], "floats": [1.5, float("nan"), 0.0], "strings": ["a", "b", ""]}[key]
    values = {"int64s": [10, 20, 30], "floats": [0.5, -0.5, 2.0], "strings": ["x", "y", "z"]}[value]
    x = {"int64s": np.array([3, 1, 8], np.int64), "floats": np.array([np.nan, -0.0, 7], np.float32), "strings": np.array([["b", "a", "q"]], object)}[key]
    out = {"int64s": np.int64, "floats": np.float32, "strings": str}[value]
    node = ml("LabelEncoder", [x], [out], **{f"keys_{key}": keys, f"values_{value}": values})
    default = {"int64s": -1, "floats": -0.0, "strings": "_Unused"}[value]
    want = [values[2], values[0], default] if key == "int64s" else [values[1], values[2] if key == "floats" else values[0], default]
    np.testing.assert_array_equal(node.run()[0].ravel(), want)


@pytest.mark.parametrize("key", [np.float64, np.int32, np.int16, np.int64, np.float32])
@pytest.mark.parametrize("value", [np.float64, np.int32, np.int16, np.int64, np.float32])
def test_label_encoder_tensors(key, value):
    tensor = lambda v, t: numpy_helper.from_array(np.array(v, t))
    node = ml("LabelEncoder", [np.array([2, 3, 1], key)], [value], keys_tensor=tensor([1, 2, 1], key), values_tensor=tensor([10, 20, 30], value),
              default_tensor=tensor([7], value))
    np.testing.assert_array_equal(node.run()[0], np.array([20, 7, 30], value))  # the last of repeated keys wins


@pytest.mark.parametrize("attributes", [dict(keys_int64s=[1, 2], values_int64s=[1]), dict(keys_int64s=[1]), dict(keys_int64s=[1], keys_floats=[1.0], values_int64s=[1]),
                                        dict(keys_floats=[1.0], values_int64s=[1])])
def test_label_encoder_bad(attributes):
    with pytest.raises(sx.Error):
        ml("LabelEncoder", [np.array([1], np.int64)], [np.int64], **attributes).run()


# ---- linear models and support vectors

@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("classes", [2, 3])
def test_linear_classifier(transform, dtype, classes):
    rng = np.random.default_rng(2)
    x = rng.integers(-4, 5, (20, 4)).astype(dtype)
    # The quantiles of PROBIT are those of probabilities.
    scale, middle = (0.02, 0.5) if transform == "PROBIT" else (1, 0)
    weights = (rng.normal(0, 1, classes * 4) * scale).astype(np.float32).tolist()
    intercepts = (rng.normal(0, 1, classes) * scale + middle).astype(np.float32).tolist()
    for labels, out in ((dict(classlabels_ints=[5, 6, 7][:classes]), np.int64), (dict(classlabels_strings=["a", "b", "c"][:classes]), str)):
        against_ort("LinearClassifier", [x], [out, np.float32], 1e-3, opset=1, coefficients=weights, intercepts=intercepts, post_transform=transform, **labels)


@pytest.mark.parametrize("transform", TRANSFORMS[:4])
def test_linear_classifier_of_one_score(transform):
    """Two classes from one row of weights; onnxruntime writes something else than the reference here."""
    rng = np.random.default_rng(2)
    x = rng.normal(0, 1, (20, 4)).astype(np.float32)
    node = ml("LinearClassifier", [x], [np.int64, np.float32], coefficients=rng.normal(0, 1, 4).tolist(), intercepts=[0.25], post_transform=transform, classlabels_ints=[3, 8])
    for got, want in zip(node.run(), node.reference()):
        assert_close(got, want, 1e-5)


@pytest.mark.parametrize("transform", TRANSFORMS[:4])
def test_linear_regressor(transform):
    rng = np.random.default_rng(3)
    x = rng.normal(0, 1, (7, 5)).astype(np.float32)
    for targets in (1, 3):
        weights = rng.normal(0, 1, targets * 5).astype(np.float32).tolist()
        if targets > 1 or transform == "NONE":  # onnxruntime leaves one target as it is
            against_ort("LinearRegressor", [x], [np.float32], opset=1, coefficients=weights, intercepts=[0.5] * targets, targets=targets, post_transform=transform)
    with pytest.raises(sx.Error):
        ml("LinearRegressor", [x], [np.float32], coefficients=[1.0, 2.0]).run()


KERNELS = [("LINEAR", [0.0, 0.0, 0.0]), ("POLY", [0.3, 0.5, 3.0]), ("RBF", [0.2, 0.0, 0.0]), ("SIGMOID", [0.1, 0.2, 0.0])]


@pytest.mark.parametrize("kernel,parameters", KERNELS, ids=lambda v: str(v)[:7])
@pytest.mark.parametrize("one_class", [0, 1])
def test_svm_regressor(kernel, parameters, one_class):
    rng = np.random.default_rng(4)
    x = rng.normal(0, 1, (15, 4)).astype(np.float32)
    against_ort("SVMRegressor", [x], [np.float32], 1e-4, opset=1, kernel_type=kernel, kernel_params=parameters, n_supports=6, one_class=one_class,
                coefficients=rng.normal(0, 1, 6).tolist(), support_vectors=rng.normal(0, 1, 24).tolist(), rho=[0.1])


def svm_attributes(rng, classes, per_class, features, probabilities):
    supports, pairs = sum(per_class), classes * (classes - 1) // 2
    a = dict(coefficients=rng.normal(0, 1, supports * (classes - 1)).tolist(), support_vectors=rng.normal(0, 1, supports * features).tolist(),
             rho=rng.normal(0, 0.1, pairs).tolist(), vectors_per_class=per_class)
    if probabilities:
        a |= dict(prob_a=rng.normal(-1, 0.2, pairs).tolist(), prob_b=rng.normal(0, 0.2, pairs).tolist())
    return a


@pytest.mark.parametrize("kernel,parameters", KERNELS, ids=lambda v: str(v)[:7])
@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize("probabilities", [False, True])
def test_svm_classifier(kernel, parameters, classes, probabilities):
    rng = np.random.default_rng(5)
    x = rng.normal(0, 1, (25, 4)).astype(np.float32)
    a = svm_attributes(rng, classes, [3, 4, 2, 5][:classes], 4, probabilities)
    against_ort("SVMClassifier", [x], [np.int64, np.float32], 2e-4, opset=1, kernel_type=kernel, kernel_params=parameters, classlabels_ints=[3, 1, 8, 2][:classes], **a)


def test_svm_bad():
    rng = np.random.default_rng(6)
    x = rng.normal(0, 1, (3, 4)).astype(np.float32)
    good = svm_attributes(rng, 3, [2, 2, 2], 4, True)
    for name, value in (("coefficients", [1.0]), ("support_vectors", [1.0]), ("rho", [1.0]), ("vectors_per_class", [1, 2]), ("vectors_per_class", [-1, 4, 3]), ("prob_a", [1.0])):
        with pytest.raises(sx.Error):
            ml("SVMClassifier", [x], [np.int64, np.float32], kernel_type="RBF", kernel_params=[0.1, 0.0, 0.0], classlabels_ints=[0, 1, 2], **(good | {name: value})).run()


# ---- trees

def forest(rng, trees, depth, features, targets, modes=("BRANCH_LEQ",), positive=False, single=False):
    """Random full trees; the attributes of nodes and of votes."""
    nodes = {k: [] for k in ("treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids", "missing_value_tracks_true")}
    votes = {"treeids": [], "nodeids": [], "ids": [], "weights": []}
    for tree in range(trees):
        inner = 2**depth - 1
        for i in range(2 * inner + 1):
            leaf = i >= inner
            for key, value in (("treeids", tree), ("nodeids", i), ("featureids", 0 if leaf else int(rng.integers(features))),
                               ("modes", "LEAF" if leaf else str(rng.choice(modes))), ("values", 0.0 if leaf else float(np.float32(np.round(rng.normal(), 1)))),
                               ("truenodeids", 0 if leaf else 2 * i + 1), ("falsenodeids", 0 if leaf else 2 * i + 2), ("missing_value_tracks_true", int(rng.integers(2)))):
                nodes[key].append(value)
            for target in ([0] if single else range(targets)) if leaf else ():
                weight = float(np.float32(rng.normal()))
                for key, value in (("treeids", tree), ("nodeids", i), ("ids", target), ("weights", abs(weight) / trees if positive else weight)):
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
    for trees, depth, modes, missing, base in ((1, 1, MODES[:1], False, None), (7, 4, MODES[:1], True, [0.5, -0.25, 1.0][:targets]), (5, 3, MODES, False, None)):
        nodes, votes = forest(rng, trees, depth, 5, targets, modes)
        a = nodes | {f"target_{k}": v for k, v in votes.items()} | dict(n_targets=targets, aggregate_function=aggregate, post_transform=transform)
        if base:
            a["base_values"] = base
        for dtype in (np.float32, np.float64):
            against_ort("TreeEnsembleRegressor", [tree_input(rng, dtype, missing)], [np.float32], opset=3, **a)


@pytest.mark.parametrize("transform", ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO"])
def test_tree_classifier_of_many_classes(transform):
    rng = np.random.default_rng(8)
    for trees, depth, base in ((1, 2, None), (9, 3, [0.5, -0.25, 1.0])):
        nodes, votes = forest(rng, trees, depth, 5, 3)
        a = nodes | {f"class_{k}": v for k, v in votes.items()} | dict(post_transform=transform) | ({"base_values": base} if base else {})
        for labels, out in ((dict(classlabels_int64s=[5, 3, 9]), np.int64), (dict(classlabels_strings=["a", "b", "c"]), str)):
            against_ort("TreeEnsembleClassifier", [tree_input(rng, np.float32, True)], [out, np.float32], opset=3, **a, **labels)


@pytest.mark.parametrize("transform,positive", [("NONE", True), ("NONE", False), ("LOGISTIC", True), ("LOGISTIC", False)])
def test_tree_classifier_of_two_classes(transform, positive):
    rng = np.random.default_rng(9)
    nodes, votes = forest(rng, 4, 3, 5, 1, positive=positive, single=True)
    a = nodes | {f"class_{k}": v for k, v in votes.items()} | dict(post_transform=transform, classlabels_int64s=[4, 6])
    against_ort("TreeEnsembleClassifier", [tree_input(rng, np.float32, False)], [np.int64, np.float32], opset=3, **a)


def test_tree_classifier_picks_the_greatest_score():
    rng = np.random.default_rng(10)
    nodes, votes = forest(rng, 4, 3, 5, 2)
    x = tree_input(rng, np.float32, False)
    labels, scores = ml("TreeEnsembleClassifier", [x], [np.int64, np.float32], opset=3, **nodes, **{f"class_{k}": v for k, v in votes.items()}, classlabels_int64s=[4, 6]).run()
    np.testing.assert_array_equal(labels, np.array([4, 6])[scores.argmax(1)])


def ensemble(**changes):
    """Two trees: x0 <= 0.5 ? leaf 0 : (x1 in {1, 3} ? leaf 1 : leaf 2), and a single leaf 3."""
    tensor = lambda v, t: numpy_helper.from_array(np.array(v, t))
    kind = changes.pop("kind", np.float32)
    a = dict(n_targets=2, tree_roots=[0, 2], nodes_featureids=[0, 1, 0], nodes_modes=tensor([0, 6, 0], np.uint8), nodes_splits=tensor([0.5, 0, 0], kind),
             nodes_truenodeids=[0, 1, 3], nodes_trueleafs=[1, 1, 1], nodes_falsenodeids=[1, 2, 3], nodes_falseleafs=[0, 1, 1],
             leaf_targetids=[0, 1, 0, 1], leaf_weights=tensor([1.5, 2.5, -3.5, 0.25], kind), membership_values=tensor([1, 3, np.nan], kind))
    return a | changes


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.float16])
def test_tree_ensemble(kind):
    x = np.array([[0, 1], [1, 1], [1, 2], [1, 3], [np.nan, 0]], kind)
    rows = [[1.5, 0.25], [0, 2.75], [-3.5, 0.25], [0, 2.75], [-3.5, 0.25]]
    np.testing.assert_array_equal(ml("TreeEnsemble", [x], [kind], **ensemble(kind=kind)).run()[0], np.array(rows, kind))
    average = ml("TreeEnsemble", [x], [kind], **ensemble(kind=kind, aggregate_function=0)).run()[0]
    np.testing.assert_array_equal(average, np.array(rows, kind) / 2)
    tracked = ml("TreeEnsemble", [x], [kind], **ensemble(kind=kind, nodes_missing_value_tracks_true=[1, 0, 0])).run()[0]
    np.testing.assert_array_equal(tracked[4], [1.5, 0.25])


@pytest.mark.parametrize("changes", [
    dict(nodes_falsenodeids=[0, 2, 3]), dict(nodes_truenodeids=[9, 1, 3]), dict(nodes_falsenodeids=[7, 2, 3]), dict(nodes_truenodeids=[-1, 1, 3]), dict(tree_roots=[5]),
    dict(tree_roots=[-1]), dict(nodes_featureids=[2, 1, 0]), dict(nodes_featureids=[-1, 1, 0]), dict(leaf_targetids=[0, 1, 0, 2]), dict(leaf_targetids=[0, 1]),
    dict(nodes_trueleafs=[1, 1]), dict(n_targets=0), dict(aggregate_function=9), dict(post_transform=9),
    dict(membership_values=numpy_helper.from_array(np.array([], np.float32))), dict(nodes_modes=numpy_helper.from_array(np.array([0, 9, 0], np.uint8)))])
def test_tree_ensemble_bad(changes):
    if "membership_values" in changes:  # two membership nodes, one set
        changes = dict(nodes_modes=numpy_helper.from_array(np.array([6, 6, 6], np.uint8)), membership_values=numpy_helper.from_array(np.array([1.0], np.float32)))
    with pytest.raises(sx.Error):
        ml("TreeEnsemble", [np.zeros((2, 2), np.float32)], [np.float32], **ensemble(**changes)).run()


@pytest.mark.parametrize("name,value", [
    ("nodes_truenodeids", [0, 0, 0]), ("nodes_truenodeids", [7, 0, 0]), ("nodes_falsenodeids", [-3, 0, 0]), ("nodes_featureids", [5, 0, 0]), ("nodes_featureids", [-1, 0, 0]),
    ("nodes_modes", ["BRANCH_LEQ", "LEAF", "OTHER"]), ("nodes_nodeids", [0, 1, 1]), ("nodes_values", [1.0]), ("target_ids", [0, 3]), ("target_ids", [0, -1]),
    ("target_nodeids", [1, 9]), ("target_weights", [1.0]), ("nodes_modes", ["BRANCH_LEQ", "BRANCH_LT", "LEAF"])])
def test_tree_regressor_bad(name, value):
    a = dict(nodes_treeids=[0, 0, 0], nodes_nodeids=[0, 1, 2], nodes_featureids=[0, 0, 0], nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"], nodes_values=[1.0, 0.0, 0.0],
             nodes_truenodeids=[1, 0, 0], nodes_falsenodeids=[2, 0, 0], target_treeids=[0, 0], target_nodeids=[1, 2], target_ids=[0, 0], target_weights=[1.0, 2.0], n_targets=1)
    x = np.zeros((2, 2), np.float32)
    np.testing.assert_array_equal(ml("TreeEnsembleRegressor", [x], [np.float32], opset=3, **a).run()[0], [[1], [1]])
    with pytest.raises(sx.Error):
        ml("TreeEnsembleRegressor", [x], [np.float32], opset=3, **(a | {name: value})).run()


# ---- maps

def map_node(op, key, value, output, **attributes):
    kind = helper.make_map_type_proto(key, helper.make_tensor_type_proto(value, []))
    node = helper.make_node(op, ["x"], ["y"], domain="ai.onnx.ml", **attributes)
    graph = helper.make_graph([node], "g", [helper.make_value_info("x", kind)], [helper.make_tensor_value_info("y", output, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("ai.onnx.ml", 3), helper.make_opsetid("", 21)])
    session = sx.InferenceSession(model.SerializeToString())
    return lambda x: session.run(None, {"x": x})[0]


def test_dict_vectorizer():
    f = map_node("DictVectorizer", TensorProto.STRING, TensorProto.INT64, TensorProto.INT64, string_vocabulary=["a", "c", "b", "z"])
    np.testing.assert_array_equal(f({"a": 4, "c": 8}), [4, 8, 0, 0])
    np.testing.assert_array_equal(f({}), [0, 0, 0, 0])
    with pytest.raises(sx.Error):
        f({"q": 1})
    f = map_node("DictVectorizer", TensorProto.INT64, TensorProto.FLOAT, TensorProto.FLOAT, int64_vocabulary=[3, 1])
    np.testing.assert_array_equal(f({1: 0.5, 3: -1.0}), np.array([-1.0, 0.5], np.float32))


def test_cast_map():
    f = map_node("CastMap", TensorProto.INT64, TensorProto.FLOAT, TensorProto.FLOAT)
    np.testing.assert_array_equal(f({5: 1.5, 1: 2.5}), np.array([[2.5, 1.5]], np.float32))
    f = map_node("CastMap", TensorProto.INT64, TensorProto.FLOAT, TensorProto.INT64, cast_to="TO_INT64", map_form="SPARSE", max_map=4)
    np.testing.assert_array_equal(f({3: -1.5, 1: 2.5}), [[0, 2, 0, -1]])
    for bad in ({4: 1.0}, {-1: 1.0}):
        with pytest.raises(sx.Error):
            f(bad)
    f = map_node("CastMap", TensorProto.INT64, TensorProto.STRING, TensorProto.FLOAT)
    np.testing.assert_array_equal(f({1: "2.5"}), np.array([[2.5]], np.float32))
    with pytest.raises(sx.Error):
        f({1: "two"})


def test_zip_map():
    x = np.array([[1, 2], [3, 4]], np.float32)
    for labels in (dict(classlabels_int64s=[7, 3]), dict(classlabels_strings=["b", "a"])):
        keys = list(labels.values())[0]
        kind = helper.make_sequence_type_proto(helper.make_map_type_proto(TensorProto.INT64 if isinstance(keys[0], int) else TensorProto.STRING,
                                                                          helper.make_tensor_type_proto(TensorProto.FLOAT, [])))
        graph = helper.make_graph([helper.make_node("ZipMap", ["x"], ["z"], domain="ai.onnx.ml", **labels)], "g",
                                  [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, None])], [helper.make_value_info("z", kind)])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("ai.onnx.ml", 3), helper.make_opsetid("", 21)])
        session = sx.InferenceSession(model.SerializeToString())
        got = session.run(None, {"x": x})[0]
        assert [{k: float(v) for k, v in row.items()} for row in got] == [dict(zip(keys, map(float, row))) for row in x]
        with pytest.raises(sx.Error):
            session.run(None, {"x": x[:, :1]})
