"""The operators of ai.onnx.ml against onnxruntime and onnx.reference, and models that must be refused."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import sardonyx as sx
from nodes import against_ort, assert_close, ml

TRANSFORMS = ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"]
NUMBERS = [np.float32, np.float64, np.int64, np.int32]


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
    np.testing.assert_array_equal(
        ml("ArrayFeatureExtractor", [x, np.array([2, 0], np.int64)], [str]).run()[0], [["c", "a"], ["f", "d"]]
    )


@pytest.mark.parametrize("dtype", NUMBERS)
def test_binarizer_scaler_normalizer(dtype):
    x = np.random.default_rng(0).integers(-5, 6, (4, 5)).astype(dtype)
    want = (x > 1.5).astype(dtype)
    np.testing.assert_array_equal(ml("Binarizer", [x], [dtype], threshold=1.5).run()[0], want)
    against_ort(
        "Scaler", [x], [np.float32], scale=[2.0, 0.5, 1.0, 3.0, -1.0], offset=[1.0, 2.0, 3.0, 0.0, 0.5]
    )
    against_ort("Scaler", [x], [np.float32], scale=[2.0], offset=[1.0])
    x[2] = 0
    for norm in ("L1", "L2", "MAX"):
        y = ml("Normalizer", [x], [np.float32], norm=norm).run()[0]
        total = {
            "L1": np.abs(x).sum(1),
            "L2": np.sqrt(np.square(x.astype(np.float64)).sum(1)),
            "MAX": np.abs(x).max(1),
        }[norm]
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
                y = ml(
                    "Imputer", [x], [dtype], imputed_value_floats=values, replaced_value_float=replaced
                ).run()[0]
                hit = np.isnan(x) if np.isnan(replaced) else x == replaced
                np.testing.assert_array_equal(y, np.where(hit, np.array(values, dtype), x))
    else:
        y = ml("Imputer", [x], [dtype], imputed_value_int64s=[9], replaced_value_int64=1).run()[0]
        np.testing.assert_array_equal(y, np.where(x == 1, 9, x))
    with pytest.raises(sx.Error):
        ml(
            "Imputer",
            [x],
            [dtype],
            **({"imputed_value_floats": [1.0, 2.0]} if floats else {"imputed_value_int64s": [1, 2]}),
        ).run()


def test_feature_vectorizer():
    a, b = np.arange(6, dtype=np.float32).reshape(2, 3), np.arange(4, dtype=np.float32).reshape(2, 2)
    np.testing.assert_array_equal(
        ml("FeatureVectorizer", [a, b], [np.float32], inputdimensions=[2, 4]).run()[0],
        [[0, 1, 0, 1, 0, 0], [3, 4, 2, 3, 0, 0]],
    )
    against_ort("FeatureVectorizer", [a, b], [np.float32], inputdimensions=[3, 2])
    with pytest.raises(sx.Error):
        ml("FeatureVectorizer", [a, b[:1]], [np.float32], inputdimensions=[3, 2]).run()


def test_one_hot_encoder():
    for x in (
        np.array([1, 5, 2], np.int64),
        np.array([[1, 2], [2, 7]], np.int64),
        np.array([1.0, 2.5], np.float32),
    ):
        y = ml("OneHotEncoder", [x], [np.float32], cats_int64s=[1, 2, 7]).run()[0]
        np.testing.assert_array_equal(y, x.astype(np.int64)[..., None] == [1, 2, 7])
    s = np.array([["a", "z"], ["c", "a"]], object)
    np.testing.assert_array_equal(
        ml("OneHotEncoder", [s], [np.float32], cats_strings=["a", "c"]).run()[0], s[..., None] == ["a", "c"]
    )
    with pytest.raises(sx.Error):
        ml("OneHotEncoder", [np.array([9], np.int64)], [np.float32], cats_int64s=[1, 2], zeros=0).run()


# ---- labels


def test_category_mapper():
    cats = dict(cats_strings=["a", "b"], cats_int64s=[4, 5])
    np.testing.assert_array_equal(
        ml("CategoryMapper", [np.array(["b", "x"], object)], [np.int64], default_int64=-7, **cats).run()[0],
        [5, -7],
    )
    np.testing.assert_array_equal(
        ml("CategoryMapper", [np.array([4, 9], np.int64)], [str], default_string="?", **cats).run()[0],
        ["a", "?"],
    )


@pytest.mark.parametrize("key", ["int64s", "floats", "strings"])
@pytest.mark.parametrize("value", ["int64s", "floats", "strings"])
def test_label_encoder(key, value):
    keys = {"int64s": [1, -2, 3], "floats": [1.5, float("nan"), 0.0], "strings": ["a", "b", ""]}[key]
    values = {"int64s": [10, 20, 30], "floats": [0.5, -0.5, 2.0], "strings": ["x", "y", "z"]}[value]
    x = {
        "int64s": np.array([3, 1, 8], np.int64),
        "floats": np.array([np.nan, -0.0, 7], np.float32),
        "strings": np.array([["b", "a", "q"]], object),
    }[key]
    out = {"int64s": np.int64, "floats": np.float32, "strings": str}[value]
    node = ml("LabelEncoder", [x], [out], **{f"keys_{key}": keys, f"values_{value}": values})
    default = {"int64s": -1, "floats": -0.0, "strings": "_Unused"}[value]
    want = (
        [values[2], values[0], default]
        if key == "int64s"
        else [values[1], values[2] if key == "floats" else values[0], default]
    )
    np.testing.assert_array_equal(node.run()[0].ravel(), want)


@pytest.mark.parametrize("key", [np.float64, np.int32, np.int16, np.int64, np.float32])
@pytest.mark.parametrize("value", [np.float64, np.int32, np.int16, np.int64, np.float32])
def test_label_encoder_tensors(key, value):
    tensor = lambda v, t: numpy_helper.from_array(np.array(v, t))
    node = ml(
        "LabelEncoder",
        [np.array([2, 3, 1], key)],
        [value],
        keys_tensor=tensor([1, 2, 1], key),
        values_tensor=tensor([10, 20, 30], value),
        default_tensor=tensor([7], value),
    )
    np.testing.assert_array_equal(
        node.run()[0], np.array([20, 7, 30], value)
    )  # the last of repeated keys wins


@pytest.mark.parametrize(
    "attributes",
    [
        dict(keys_int64s=[1, 2], values_int64s=[1]),
        dict(keys_int64s=[1]),
        dict(keys_int64s=[1], keys_floats=[1.0], values_int64s=[1]),
        dict(keys_floats=[1.0], values_int64s=[1]),
    ],
)
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
    for labels, out in (
        (dict(classlabels_ints=[5, 6, 7][:classes]), np.int64),
        (dict(classlabels_strings=["a", "b", "c"][:classes]), str),
    ):
        against_ort(
            "LinearClassifier",
            [x],
            [out, np.float32],
            1e-3,
            opset=1,
            coefficients=weights,
            intercepts=intercepts,
            post_transform=transform,
            **labels,
        )


@pytest.mark.parametrize("transform", TRANSFORMS[:4])
def test_linear_classifier_of_one_score(transform):
    """Two classes from one row of weights; onnxruntime writes something else than the reference here."""
    rng = np.random.default_rng(2)
    x = rng.normal(0, 1, (20, 4)).astype(np.float32)
    node = ml(
        "LinearClassifier",
        [x],
        [np.int64, np.float32],
        coefficients=rng.normal(0, 1, 4).tolist(),
        intercepts=[0.25],
        post_transform=transform,
        classlabels_ints=[3, 8],
    )
    for got, want in zip(node.run(), node.reference()):
        assert_close(got, want, 1e-5)


@pytest.mark.parametrize("transform", TRANSFORMS[:4])
def test_linear_regressor(transform):
    rng = np.random.default_rng(3)
    x = rng.normal(0, 1, (7, 5)).astype(np.float32)
    for targets in (1, 3):
        weights = rng.normal(0, 1, targets * 5).astype(np.float32).tolist()
        if targets > 1 or transform == "NONE":  # onnxruntime leaves one target as it is
            against_ort(
                "LinearRegressor",
                [x],
                [np.float32],
                opset=1,
                coefficients=weights,
                intercepts=[0.5] * targets,
                targets=targets,
                post_transform=transform,
            )
    with pytest.raises(sx.Error):
        ml("LinearRegressor", [x], [np.float32], coefficients=[1.0, 2.0]).run()


KERNELS = [
    ("LINEAR", [0.0, 0.0, 0.0]),
    ("POLY", [0.3, 0.5, 3.0]),
    ("RBF", [0.2, 0.0, 0.0]),
    ("SIGMOID", [0.1, 0.2, 0.0]),
]


@pytest.mark.parametrize("kernel,parameters", KERNELS, ids=lambda v: str(v)[:7])
@pytest.mark.parametrize("one_class", [0, 1])
def test_svm_regressor(kernel, parameters, one_class):
    rng = np.random.default_rng(4)
    x = rng.normal(0, 1, (15, 4)).astype(np.float32)
    against_ort(
        "SVMRegressor",
        [x],
        [np.float32],
        1e-4,
        opset=1,
        kernel_type=kernel,
        kernel_params=parameters,
        n_supports=6,
        one_class=one_class,
        coefficients=rng.normal(0, 1, 6).tolist(),
        support_vectors=rng.normal(0, 1, 24).tolist(),
        rho=[0.1],
    )


def svm_attributes(rng, classes, per_class, features, probabilities):
    supports, pairs = sum(per_class), classes * (classes - 1) // 2
    a = dict(
        coefficients=rng.normal(0, 1, supports * (classes - 1)).tolist(),
        support_vectors=rng.normal(0, 1, supports * features).tolist(),
        rho=rng.normal(0, 0.1, pairs).tolist(),
        vectors_per_class=per_class,
    )
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
    against_ort(
        "SVMClassifier",
        [x],
        [np.int64, np.float32],
        2e-4,
        opset=1,
        kernel_type=kernel,
        kernel_params=parameters,
        classlabels_ints=[3, 1, 8, 2][:classes],
        **a,
    )


def test_svm_bad():
    rng = np.random.default_rng(6)
    x = rng.normal(0, 1, (3, 4)).astype(np.float32)
    good = svm_attributes(rng, 3, [2, 2, 2], 4, True)
    for name, value in (
        ("coefficients", [1.0]),
        ("support_vectors", [1.0]),
        ("rho", [1.0]),
        ("vectors_per_class", [1, 2]),
        ("vectors_per_class", [-1, 4, 3]),
        ("prob_a", [1.0]),
    ):
        with pytest.raises(sx.Error):
            ml(
                "SVMClassifier",
                [x],
                [np.int64, np.float32],
                kernel_type="RBF",
                kernel_params=[0.1, 0.0, 0.0],
                classlabels_ints=[0, 1, 2],
                **(good | {name: value}),
            ).run()


# ---- maps


def map_node(op, key, value, output, **attributes):
    kind = helper.make_map_type_proto(key, helper.make_tensor_type_proto(value, []))
    node = helper.make_node(op, ["x"], ["y"], domain="ai.onnx.ml", **attributes)
    graph = helper.make_graph(
        [node], "g", [helper.make_value_info("x", kind)], [helper.make_tensor_value_info("y", output, None)]
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("ai.onnx.ml", 3), helper.make_opsetid("", 21)]
    )
    session = sx.InferenceSession(model.SerializeToString())
    return lambda x: session.run(None, {"x": x})[0]


def test_dict_vectorizer():
    f = map_node(
        "DictVectorizer",
        TensorProto.STRING,
        TensorProto.INT64,
        TensorProto.INT64,
        string_vocabulary=["a", "c", "b", "z"],
    )
    np.testing.assert_array_equal(f({"a": 4, "c": 8}), [4, 8, 0, 0])
    np.testing.assert_array_equal(f({}), [0, 0, 0, 0])
    with pytest.raises(sx.Error):
        f({"q": 1})
    f = map_node(
        "DictVectorizer", TensorProto.INT64, TensorProto.FLOAT, TensorProto.FLOAT, int64_vocabulary=[3, 1]
    )
    np.testing.assert_array_equal(f({1: 0.5, 3: -1.0}), np.array([-1.0, 0.5], np.float32))


def test_cast_map():
    f = map_node("CastMap", TensorProto.INT64, TensorProto.FLOAT, TensorProto.FLOAT)
    np.testing.assert_array_equal(f({5: 1.5, 1: 2.5}), np.array([[2.5, 1.5]], np.float32))
    f = map_node(
        "CastMap",
        TensorProto.INT64,
        TensorProto.FLOAT,
        TensorProto.INT64,
        cast_to="TO_INT64",
        map_form="SPARSE",
        max_map=4,
    )
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
        kind = helper.make_sequence_type_proto(
            helper.make_map_type_proto(
                TensorProto.INT64 if isinstance(keys[0], int) else TensorProto.STRING,
                helper.make_tensor_type_proto(TensorProto.FLOAT, []),
            )
        )
        graph = helper.make_graph(
            [helper.make_node("ZipMap", ["x"], ["z"], domain="ai.onnx.ml", **labels)],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, None])],
            [helper.make_value_info("z", kind)],
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("ai.onnx.ml", 3), helper.make_opsetid("", 21)]
        )
        session = sx.InferenceSession(model.SerializeToString())
        got = session.run(None, {"x": x})[0]
        assert [{k: float(v) for k, v in row.items()} for row in got] == [
            dict(zip(keys, map(float, row))) for row in x
        ]
        with pytest.raises(sx.Error):
            session.run(None, {"x": x[:, :1]})
