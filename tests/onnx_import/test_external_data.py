"""Tensors in files beside the model: read where they lie, and nothing else is."""

import os
import socket

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import sardonyx as sx
from import_models import BOOL, FLOAT, INT64, function, graph, info, model, scalar

node = helper.make_node
DATA = np.arange(64, dtype=np.float32)


def external(location="data.bin", dims=(4,), dtype=FLOAT, **entries):
    tensor = TensorProto(name="k", data_type=dtype, dims=list(dims), data_location=TensorProto.EXTERNAL)
    for key, value in ({"location": location} | entries).items():
        if value is not None:
            tensor.external_data.add(key=key, value=str(value))
    return tensor


def in_initializer(tensor):
    return model(
        graph([node("Identity", ["k"], ["y"])], [], [info("y", tensor.data_type, None)], [tensor]),
        opset=28,
        ir=14,
    )


def in_constant(tensor):
    return model(graph([node("Constant", [], ["y"], value=tensor)], [], [info("y", FLOAT, None)]))


def in_attribute(tensor):
    return model(
        graph(
            [node("ConstantOfShape", ["s"], ["y"], value=tensor)],
            [info("s", INT64, [1])],
            [info("y", FLOAT, None)],
        )
    )


def in_body(tensor):
    body = graph([node("Identity", ["k"], ["r"])], [], [info("r", FLOAT, None)], [tensor])
    return model(
        graph(
            [node("If", ["c"], ["y"], then_branch=body, else_branch=body)],
            [scalar("c", BOOL)],
            [info("y", FLOAT, None)],
        )
    )


def in_function(tensor):
    f = function("F", [], ["b"], [node("Constant", [], ["b"], value=tensor)])
    return model(
        graph([node("F", [], ["y"], domain="local")], [], [info("y", FLOAT, None)]),
        functions=[f],
        opsets=[("local", 1)],
    )


def in_sparse_values(tensor):
    g = graph([node("Identity", ["k"], ["y"])], [], [info("y", FLOAT, None)])
    g.sparse_initializer.append(
        helper.make_sparse_tensor(tensor, helper.make_tensor("", INT64, [4], [0, 1, 2, 3]), [5])
    )
    return model(g)


def in_sparse_indices(tensor):
    indices = TensorProto()
    indices.CopyFrom(tensor)
    indices.data_type = INT64
    g = graph([node("Identity", ["k"], ["y"])], [], [info("y", FLOAT, None)])
    g.sparse_initializer.append(
        helper.make_sparse_tensor(helper.make_tensor("k", FLOAT, [4], [1.0] * 4), indices, [5])
    )
    return model(g)


PLACES = [
    in_initializer,
    in_constant,
    in_attribute,
    in_body,
    in_function,
    in_sparse_values,
    in_sparse_indices,
]


@pytest.fixture
def folder(tmp_path):
    """inside/: the model's folder, with data files; outside/: what a model must not reach."""
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    (inside / "deep" / "er").mkdir(parents=True)
    outside.mkdir()
    for place in (inside / "data.bin", inside / "deep" / "er" / "data.bin", outside / "secret.bin"):
        place.write_bytes(DATA.tobytes())
    return inside


def load(folder, m):
    path = folder / "model.onnx"
    path.write_bytes(m.SerializeToString())
    return sx.Model(str(path))


def read(folder, tensor):
    return sx.InferenceSession(load(folder, in_initializer(tensor))).run(None, {})[0]


@pytest.mark.parametrize("location", ["data.bin", "./data.bin", "deep/er/data.bin", "deep//er/./data.bin"])
def test_locations(folder, location):
    np.testing.assert_array_equal(read(folder, external(location)), DATA[:4])


@pytest.mark.parametrize("offset,length", [(None, None), (0, 16), (8, None), (12, 16), (240, 16)])
def test_offset_and_length(folder, offset, length):
    np.testing.assert_array_equal(
        read(folder, external("data.bin", offset=offset, length=length)), DATA[(offset or 0) // 4 :][:4]
    )


def test_offset_that_is_not_aligned(folder):
    (folder / "odd.bin").write_bytes(b"abc" + DATA.tobytes())
    np.testing.assert_array_equal(read(folder, external("odd.bin", offset=3)), DATA[:4])


@pytest.mark.parametrize("place", [p for p in PLACES if p is not in_sparse_indices])
def test_every_place(folder, place):
    feeds = (
        {"s": np.array([2])} if place is in_attribute else {"c": np.array(True)} if place is in_body else {}
    )
    tensor = external("data.bin", dims=(1,) if place is in_attribute else (4,), offset=4)
    exported = onnx.load_from_string(sx.convert(load(folder, place(tensor))))
    from import_models import run_ort

    expected = {in_attribute: DATA[[1, 1]], in_sparse_values: np.append(DATA[1:5], 0)}.get(place, DATA[1:5])
    np.testing.assert_array_equal(run_ort(exported, feeds)[0], expected)


@pytest.mark.parametrize(
    "dtype", ["INT4", "UINT2", "FLOAT6E3M2", "BOOL", "FLOAT16", "COMPLEX128", "UINT8", "INT64"]
)
def test_element_types(folder, dtype):
    dtype = TensorProto.DataType.Value(dtype)
    numpy_type = helper.tensor_dtype_to_np_dtype(dtype)
    array = (np.arange(35) % 2).astype(np.float32).astype(numpy_type).reshape(5, 7)
    (folder / "typed.bin").write_bytes(numpy_helper.from_array(array).raw_data)
    # The constant itself is the output: no operator takes every type.
    tensor = external("typed.bin", dims=(5, 7), dtype=dtype)
    m = model(graph([], [], [info("k", dtype, None)], [tensor]), opset=28, ir=14)
    got = sx.InferenceSession(load(folder, m)).run(None, {})[0]
    assert got.dtype == array.dtype and got.tobytes() == array.tobytes()


def test_no_elements(folder):
    (folder / "empty.bin").write_bytes(b"")
    assert read(folder, external("empty.bin", dims=(0, 3))).shape == (0, 3)


def test_written_by_onnx(folder):
    array = np.random.default_rng(0).standard_normal((300, 50), np.float32)
    tensors = [numpy_helper.from_array(array + i, f"k{i}") for i in range(3)]
    m = model(graph([node("Sum", ["k0", "k1", "k2"], ["y"])], [], [info("y", shape=(300, 50))], tensors))
    onnx.save(m, folder / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    exported = onnx.load_from_string(sx.convert(str(folder / "model.onnx")))
    for i in range(3):
        np.testing.assert_array_equal(numpy_helper.to_array(exported.graph.initializer[i]), array + i)


def make_link(folder):
    (folder / "link").symlink_to(folder.parent / "outside" / "secret.bin")
    return "link"


def make_inner_link(folder):
    (folder / "inner").symlink_to("data.bin")
    return "inner"


def make_folder_link(folder):
    (folder / "linked").symlink_to(folder.parent / "outside")
    return "linked/secret.bin"


def make_pipe(folder):
    os.mkfifo(folder / "pipe")
    return "pipe"


def make_socket(folder):
    here = os.getcwd()
    os.chdir(folder)  # the path of a socket is short
    try:
        socket.socket(socket.AF_UNIX).bind("socket")
    finally:
        os.chdir(here)
    return "socket"


def make_device(folder):
    try:
        os.mknod(folder / "zero", 0o600 | 0o020000, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("making a device needs root")
    return "zero"


ATTACKS = {
    "parent": lambda f: "../outside/secret.bin",
    "parent after a folder": lambda f: "deep/../../outside/secret.bin",
    "parent that stays inside": lambda f: "deep/../data.bin",
    "parent at the end": lambda f: "deep/..",
    "absolute": lambda f: str(f.parent / "outside" / "secret.bin"),
    "absolute inside": lambda f: str(f / "data.bin"),
    "absolute device": lambda f: "/dev/zero",
    "empty": lambda f: "",
    "dot": lambda f: ".",
    "null character": lambda f: "data.bin\0x",
    "folder": lambda f: "deep",
    "missing": lambda f: "none.bin",
    "file as a folder": lambda f: "data.bin/x",
    "long": lambda f: "a" * 5000,
    "link": make_link,
    "link inside": make_inner_link,
    "linked folder": make_folder_link,
    "pipe": make_pipe,
    "socket": make_socket,
    "device": make_device,
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_containment(folder, place, attack):
    m = place(external(attack(folder)))
    with pytest.raises((sx.ModelError, sx.FileError), match="external data"):
        load(folder, m)


BAD_NUMBERS = {
    "offset past the end": dict(offset=10_000),
    "last byte missing": dict(offset=244),
    "negative offset": dict(offset=-4),
    "offset of words": dict(offset="four"),
    "offset with a tail": dict(offset="4 "),
    "empty offset": dict(offset=""),
    "huge offset": dict(offset=1 << 70),
    "offset that would wrap": dict(offset=(1 << 63) - 8),
    "short length": dict(length=12),
    "long length": dict(length=20),
    "negative length": dict(length=-16),
    "huge length": dict(length=1 << 64),
    "no location": dict(location=None),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("entries", BAD_NUMBERS.values(), ids=BAD_NUMBERS)
def test_bad_numbers(folder, place, entries):
    with pytest.raises(sx.ModelError, match="external"):
        load(folder, place(external(**entries)))


def test_more_elements_than_the_file(folder):
    for dims in ((65,), (1 << 40,), (1 << 31, 1 << 31)):
        with pytest.raises((sx.ModelError, sx.LimitError), match="external data|bytes of a tensor"):
            load(folder, in_initializer(external("data.bin", dims=dims)))


def test_two_locations(folder):
    tensor = external("data.bin")
    tensor.external_data.add(key="location", value="deep/er/data.bin")
    with pytest.raises(sx.ModelError, match="one 'location'"):
        load(folder, in_initializer(tensor))


def test_strings(folder):
    with pytest.raises(sx.ModelError, match="string_data"):
        load(folder, in_initializer(external("data.bin", dtype=TensorProto.STRING)))


def test_a_model_in_memory_has_no_folder(folder):
    os.chdir(folder)
    with pytest.raises(sx.ModelError, match="a model loaded with a folder"):
        sx.Model(in_initializer(external("data.bin")).SerializeToString())


def test_the_model_itself_may_be_a_link(folder, tmp_path):
    load(folder, in_initializer(external("data.bin")))
    (folder / "model.onnx").rename(tmp_path / "elsewhere.onnx")
    (folder / "model.onnx").symlink_to(tmp_path / "elsewhere.onnx")
    sx.Model(str(folder / "model.onnx"))


def test_writes_stay_out_of_the_file(folder):
    session = sx.InferenceSession(load(folder, in_initializer(external("data.bin"))))
    out = session.run(None, {})[0]
    try:
        out[:] = -1
    except ValueError:
        pass
    assert (folder / "data.bin").read_bytes() == DATA.tobytes()
