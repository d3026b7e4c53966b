"""Operators on strings, against Python's own strings, onnxruntime and hand-made answers."""

import numpy as np
import pytest

import sardonyx as sx
from node_models import assert_same, random_shape, run, run_ort


def words(values):
    array = np.empty(np.shape(values), dtype=object)
    array[...] = values
    return array


def normalize(values, opset=10, **attributes):
    return run("StringNormalizer", [words(values)], opset=opset, **attributes)[0]


def test_normalizer():
    week = ["Monday", "tuesday", "WEDNESDAY", "thursday"]
    assert normalize(week).tolist() == week
    assert normalize(week, case_change_action="UPPER").tolist() == [w.upper() for w in week]
    assert normalize([week], case_change_action="LOWER", stopwords=["MONDAY"]).tolist() == [
        ["tuesday", "wednesday", "thursday"]
    ]
    assert normalize(week, stopwords=["MONDAY", "thursday"], is_case_sensitive=1).tolist() == [
        "Monday",
        "tuesday",
        "WEDNESDAY",
    ]
    assert normalize(["monday", "Monday"], stopwords=["monday"], is_case_sensitive=0).tolist() == [""]
    assert normalize([["a"]], stopwords=["a"]).tolist() == [[""]]
    assert normalize([]).tolist() == [""]
    with pytest.raises(sx.Error):
        normalize([["a"], ["b"]])
    with pytest.raises(sx.Error):
        normalize(["a"], case_change_action="TITLE")


def test_normalizer_unicode():
    assert normalize(["straße", "ÉCOLE", "ΟΔΥΣΣΕΥΣ"], case_change_action="UPPER").tolist() == [
        "STRASSE",
        "ÉCOLE",
        "ΟΔΥΣΣΕΥΣ",
    ]
    assert normalize(["ÉCOLE", "ΟΔΟΣ"], case_change_action="LOWER").tolist() == ["école", "οδος"]
    assert normalize(["I", "i"], case_change_action="LOWER", locale="tr_TR").tolist() == ["ı", "i"]
    assert normalize(["I", "i"], case_change_action="UPPER", locale="tr-TR").tolist() == ["I", "İ"]
    assert normalize(["École", "x"], stopwords=["éCOLE"]).tolist() == ["x"]


@pytest.mark.parametrize("seed", range(20))
def test_concat(seed):
    rng = np.random.default_rng(seed)
    shape = random_shape(rng, int(rng.integers(0, 4)))
    sides = []
    for side in "xy":
        thin = [n if rng.random() < 0.6 else 1 for n in shape][
            int(rng.integers(0, len(shape) + 1)) if side == "x" else 0 :
        ]
        sides.append(words(np.array([f"{side}{i}é" for i in range(int(np.prod(thin)))], object).reshape(thin)))
    want = words(np.broadcast_to(sides[0], np.broadcast_shapes(sides[0].shape, sides[1].shape)) + sides[1])
    assert_same(run("StringConcat", sides, opset=20)[0], want)


def test_concat_errors():
    with pytest.raises(sx.Error):
        run("StringConcat", [words(["a", "b"]), words(["a", "b", "c"])], opset=20)


PIECES = ["", " ", "  ", "a", "bc", ",", ",,", "é", "\t", "\u2003", "--", "-"]


@pytest.mark.parametrize("delimiter", [None, "", ",", "--", "a"])
@pytest.mark.parametrize("maxsplit", [None, 0, 1, 2])
def test_split(delimiter, maxsplit):
    rng = np.random.default_rng(1)
    x = words([["".join(rng.choice(PIECES, int(rng.integers(0, 7)))) for _ in range(8)] for _ in range(3)])
    attributes = {k: v for k, v in (("delimiter", delimiter), ("maxsplit", maxsplit)) if v is not None}
    parts = [s.split(delimiter or None, -1 if maxsplit is None else maxsplit) for s in x.ravel()]
    longest = max(len(p) for p in parts)
    y, counts = run("StringSplit", [x], outputs=2, opset=20, **attributes)
    assert_same(counts, np.array([len(p) for p in parts], np.int64).reshape(3, 8))
    assert_same(y, words([p + [""] * (longest - len(p)) for p in parts]).reshape(3, 8, longest))


def test_split_of_nothing():
    y, counts = run("StringSplit", [np.empty((3, 0), object)], outputs=2, opset=20)
    assert y.shape == (3, 0, 0) and counts.shape == (3, 0)
    y, counts = run("StringSplit", [words(["", "  "])], outputs=2, opset=20)
    assert y.shape == (2, 0) and counts.tolist() == [0, 0]
    y, counts = run("StringSplit", [words("a b")], outputs=2, opset=20)
    assert y.tolist() == ["a", "b"] and counts.tolist() == 2


def test_regex():
    x = words([["www.google.com", "www.facebook.com"], ["", "bücher\n"]])
    for pattern in (r"www\.[\w.-]+\.\bcom\b", "", r"(?s).*", r"\pL+\n", "b.cher\n"):
        assert_same(
            run("RegexFullMatch", [x], opset=20, pattern=pattern)[0],
            run_ort("RegexFullMatch", [x], opset=20, pattern=pattern)[0],
        )
    for pattern in ("(", r"\1", "a{1001}", "(?<=a)b"):
        with pytest.raises(sx.Error, match="pattern"):
            run("RegexFullMatch", [x], opset=20, pattern=pattern)


def ngrams(rng, strings):
    longest = int(rng.integers(1, 4))
    tokens = [f"t{i}" for i in range(6)] if strings else list(range(6))
    pool, counts, total = [], [], 0
    for length in range(1, longest + 1):
        counts.append(len(pool))
        seen = {tuple(int(t) for t in rng.integers(0, 6, length)) for _ in range(int(rng.integers(0, 5)))}
        total += len(seen)
        pool += [tokens[t] for gram in sorted(seen) for t in gram]
    columns = [int(c) for c in rng.permutation(total)]
    return tokens, pool, counts, columns, longest


@pytest.mark.parametrize("seed", range(60))
def test_tf_idf(seed):
    rng = np.random.default_rng(seed)
    strings = seed % 3 == 0
    tokens, pool, counts, columns, longest = ngrams(rng, strings)
    if not columns:
        return
    shortest = int(rng.integers(1, longest + 1))
    attributes = dict(
        mode=["TF", "IDF", "TFIDF"][seed % 3],
        min_gram_length=shortest,
        max_gram_length=longest,
        max_skip_count=int(rng.integers(0, 4)),
        ngram_counts=counts,
        ngram_indexes=columns,
    )
    attributes["pool_strings" if strings else "pool_int64s"] = pool
    if rng.random() < 0.7:
        attributes["weights"] = [float(w) for w in rng.random(len(columns))]
    shape = (int(rng.integers(1, 4)), int(rng.integers(0, 12))) if rng.random() < 0.5 else (int(rng.integers(0, 12)),)
    picked = rng.integers(0, 6, shape)
    x = words(np.array(tokens, object)[picked]) if strings else picked.astype(np.int32 if seed % 2 else np.int64)
    got = run("TfIdfVectorizer", [x], opset=9, **attributes)[0]
    np.testing.assert_allclose(got, run_ort("TfIdfVectorizer", [x], opset=9, **attributes)[0], rtol=1e-6)
    assert got.dtype == np.float32


def test_tf_idf_errors():
    good = dict(
        mode="TF",
        min_gram_length=1,
        max_gram_length=2,
        max_skip_count=0,
        ngram_counts=[0, 2],
        ngram_indexes=[0, 1, 2],
        pool_int64s=[1, 2, 1, 2],
    )
    x = np.array([1, 2, 1, 2], np.int64)
    assert run("TfIdfVectorizer", [x], opset=9, **good)[0].tolist() == [2, 2, 2]
    for change in (
        {"mode": "X"},
        {"min_gram_length": 0},
        {"min_gram_length": 3},
        {"max_skip_count": -1},
        {"ngram_counts": [0, 9]},
        {"ngram_counts": [2, 0]},
        {"ngram_counts": [0, 1]},
        {"ngram_indexes": [0, -1, 2]},
        {"ngram_indexes": [0, 1]},
        {"weights": [1.0], "mode": "IDF"},
        {"pool_strings": ["a"] * 4},
        {"ngram_indexes": [0, 1, 2**62]},
    ):
        with pytest.raises(sx.Error):
            run("TfIdfVectorizer", [x], opset=9, **{**good, **change})
    with pytest.raises(sx.Error):
        run("TfIdfVectorizer", [words(["a"])], opset=9, **good)
