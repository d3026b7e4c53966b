"""The example programs, in both languages, against each other and against ONNX Runtime.

The reference of a Python program is that program itself over ONNX Runtime (reference/sardonyx.py). Without the
models the tests are skipped, or fail when SARDONYX_REQUIRE_MODELS is set.
"""
import json
import os
import pathlib
import re
import struct
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("SARDONYX_BUILD") or ROOT / "build")
MODELS = pathlib.Path(os.environ.get("SARDONYX_MODELS") or
                      pathlib.Path(os.environ.get("SARDONYX_DEPS") or ROOT / ".deps") / "models")
PROGRAMS = ("file_type", "ocr", "speech", "detect")
IMAGE_PROGRAMS = ("ocr", "detect")

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")


@pytest.fixture(scope="module", autouse=True)
def models():
    missing = [name for name in ("magika", "ppocr", "silero_vad", "nudenet", "sklearn")
               if not (MODELS / name).is_dir()]
    if missing:
        message = f"{MODELS} holds no {', '.join(missing)}: run tools/fetch_models"
        pytest.fail(message) if os.environ.get("SARDONYX_REQUIRE_MODELS") else pytest.skip(message)


def execute(runtime, program, *arguments, models=MODELS):
    """Runs a program; runtime is "cpp", "python" or "reference"."""
    if runtime == "cpp":
        binary = BUILD / "examples" / program
        if not binary.is_file():
            pytest.skip(f"{binary} is not built")
        command = [binary]
    else:
        command = [sys.executable, ROOT / "examples" / program / f"{program}.py"]
    package = ROOT / "tests/examples/reference" if runtime == "reference" else BUILD / "python"
    environment = dict(os.environ, PYTHONPATH=str(package), SARDONYX_MODELS=str(models))
    return subprocess.run([*map(str, command), *map(str, arguments)], env=environment, capture_output=True,
                          text=True, timeout=300)


def results(runtime, program, *arguments):
    done = execute(runtime, program, "--json", "--threads", 2, *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def make(script, *arguments):
    done = subprocess.run([sys.executable, ROOT / "examples" / script, *map(str, arguments)],
                          env=dict(os.environ, PYTHONPATH=str(ROOT / "tests/examples/reference")),
                          capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("examples")


# File types.

BY_NAME = {"CMakeLists.txt": {"cmake"}, "Makefile": {"makefile"}, ".gitignore": {"ignorefile"},
           "LICENSE": {"txt"}}
BY_SUFFIX = {".cpp": {"cpp"}, ".h": {"c", "cpp"}, ".py": {"python"}, ".cmake": {"cmake"}, ".md": {"markdown"},
             ".json": {"json"}, ".sh": {"shell"}, ".yml": {"yaml"}, ".yaml": {"yaml"}, ".toml": {"toml"},
             ".npz": {"npz", "zip"}, ".npy": {"npy"}, ".png": {"png"}, ".onnx": {"onnx"}, ".tsv": {"tsv"},
             ".csv": {"csv"}}
BY_SHEBANG = {"bash": {"shell"}, "sh": {"shell"}, "python3": {"python"}}


def expected_types(path):
    """The types that a file's name allows, or None when the name does not say."""
    expected = BY_NAME.get(path.name) or BY_SUFFIX.get(path.suffix)
    if expected:
        # A few lines may be too little to tell more than that they are text.
        return expected | {"txt"} if path.stat().st_size < 256 else expected
    with open(path, "rb") as file:
        first = file.readline()
    return BY_SHEBANG.get(first.split()[-1].split(b"/")[-1].decode()) if first.startswith(b"#!") else None


def repository_files():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    if not paths:
        pytest.skip("not a git checkout: there is no list of the repository's own files")
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def test_file_types_of_the_repository():
    paths = repository_files()
    cpp = results("cpp", "file_type", *paths)
    assert [entry["path"] for entry in cpp] == [str(path) for path in paths]
    for other in (results("python", "file_type", *paths), results("reference", "file_type", *paths)):
        for ours, theirs in zip(cpp, other, strict=True):
            assert ours["type"] == theirs["type"], (ours, theirs)
            assert ours["score"] == pytest.approx(theirs["score"], abs=0.02), ours["path"]
            assert ours["description"] == theirs["description"]

    judged = [(path.name, entry["type"], expected_types(path)) for entry, path in zip(cpp, paths)]
    judged = [(name, found, expected) for name, found, expected in judged if expected]
    wrong = [(name, found) for name, found, expected in judged if found not in expected]
    print(f"{len(judged) - len(wrong)} of {len(judged)} right; wrong: {wrong}")
    assert len(judged) > 0.9 * len(paths)
    assert len(wrong) <= len(judged) // 100, wrong


def test_file_types_that_need_no_model(folder):
    contents = {"empty": (b"", "empty"), "short": (b"hello", "txt"), "bytes": (b"\xff\xfe\x00", "unknown"),
                "blank": (b" \n" * 3000, "txt"), "accents": ("é ü".encode(), "txt"),
                "surrogate": (b"\xed\xa0\x80", "unknown"), "overlong": (b"\xc0\xaf", "unknown"),
                "cut": (b"ab\xc3", "unknown"), "zeros": (b"\0" * 5, "txt")}
    for name, (data, _) in contents.items():
        (folder / name).write_bytes(data)
    paths = [folder / name for name in contents] + [folder]
    expected = [kind for _, kind in contents.values()] + ["directory"]
    for runtime in ("cpp", "python"):
        found = results(runtime, "file_type", *paths)
        assert [entry["type"] for entry in found] == expected
        assert all(entry["score"] == 1 for entry in found)


def test_file_type_goes_on_after_a_missing_file():
    for runtime in ("cpp", "python"):
        done = execute(runtime, "file_type", "/does/not/exist", __file__)
        assert done.returncode == 3
        assert "/does/not/exist" in done.stderr and "python" in done.stdout


# Text in photographs.

def edit_distance(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return row[-1]


def character_accuracy(written, read):
    """Each written line against the nearest one that was read."""
    errors = sum(min([edit_distance(line, found) for found in read] + [len(line)]) for line in written)
    return 1 - errors / sum(map(len, written))


def assert_same_lines(ours, theirs):
    assert [line["text"] for line in ours] == [line["text"] for line in theirs]
    for a, b in zip(ours, theirs):
        assert a["confidence"] == pytest.approx(b["confidence"], abs=0.03)
        assert a["upside_down"] == b["upside_down"]
        np.testing.assert_allclose(a["box"], b["box"], atol=2)


@pytest.mark.parametrize("turn, suffix", [(0, "png"), (0, "jpg"), (90, "png"), (180, "jpg"), (270, "png")])
def test_ocr_reads_what_was_written(folder, turn, suffix):
    photo, marked = folder / f"photo{turn}.{suffix}", folder / f"marked{turn}.png"
    written = make("ocr/make_photo.py", MODELS / "sklearn/china.jpg", photo, "--turn", turn)
    cpp = results("cpp", "ocr", photo, "--output", marked)
    assert len(cpp) == len(written)
    assert character_accuracy(written, [line["text"] for line in cpp]) >= 0.97
    assert all(line["confidence"] > 0.9 for line in cpp)
    assert all(line["upside_down"] for line in cpp) if turn == 180 else True
    assert_marked(photo, marked)

    python = results("python", "ocr", photo, "--output", marked)
    assert_same_lines(cpp, python)
    assert_same_lines(python, results("reference", "ocr", photo))
    assert_marked(photo, marked)


def test_ocr_finds_no_text_where_there_is_none():
    for runtime in ("cpp", "python"):
        assert results(runtime, "ocr", MODELS / "sklearn/flower.jpg") == []


def assert_marked(photo, marked):
    """The marked file is a whole PNG of the photograph's size that differs from it, but not everywhere."""
    with Image.open(marked) as image, Image.open(photo) as original:
        assert image.format == "PNG" and image.mode == "RGB" and image.size == original.size
        different = np.any(np.asarray(image) != np.asarray(original.convert("RGB")), axis=2)
    assert 0.001 < different.mean() < 0.5


# Speech.

@pytest.mark.parametrize("rate", [16000, 8000, 44100])
def test_speech_is_found_where_it_is(folder, rate):
    sound, plot = folder / f"speech{rate}.wav", folder / "plot.png"
    spoken = [list(map(float, line.split())) for line in make("speech/make_speech.py", sound, "--rate", rate)]
    reference = results("reference", "speech", sound)
    for runtime in ("cpp", "python"):
        found = results(runtime, "speech", sound, "--output", plot)
        np.testing.assert_allclose(found["speech"], spoken, atol=0.25)
        np.testing.assert_allclose(found["probabilities"], reference["probabilities"], atol=2e-3)
        assert found["speech"] == reference["speech"]
        assert found["seconds"] == reference["seconds"]
        with Image.open(plot) as image:
            assert image.format == "PNG" and image.size == (1200, 420)
            colours = np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)
        assert len(colours) >= 5  # ground, speech, wave, probability, text


def wav_bytes(encoding, channels, rate, bits, body):
    return (b"RIFF" + struct.pack("<I", 36 + len(body)) + b"WAVEfmt "
            + struct.pack("<IHHIIHH", 16, encoding, channels, rate, 0, channels * bits // 8, bits)
            + b"data" + struct.pack("<I", len(body)) + body)


def test_every_wav_encoding_is_the_same_sound(folder):
    make("speech/make_speech.py", folder / "base.wav")
    samples = np.frombuffer((folder / "base.wav").read_bytes()[44:], "<i2").astype(np.int64)
    stereo = np.repeat(samples, 2)
    wide = (samples << 8).astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3]
    variants = {
        "float32": (3, 1, 32, (samples / 32768).astype("<f4")), "float64": (3, 1, 64, samples / 32768),
        "int24": (1, 1, 24, wide), "int32": (1, 1, 32, (samples << 16).astype("<i4")),
        "stereo": (1, 2, 16, stereo.astype("<i2")),
    }
    expected = results("reference", "speech", folder / "base.wav")["probabilities"]
    for name, (encoding, channels, bits, body) in variants.items():
        path = folder / f"{name}.wav"
        path.write_bytes(wav_bytes(encoding, channels, 16000, bits, body.tobytes()))
        for runtime in ("cpp", "python"):
            found = results(runtime, "speech", path)
            np.testing.assert_allclose(found["probabilities"], expected, atol=2e-3, err_msg=name)


def test_silence_holds_no_speech(folder):
    (folder / "silence.wav").write_bytes(wav_bytes(1, 1, 16000, 16, bytes(64000)))
    (folder / "nothing.wav").write_bytes(wav_bytes(1, 1, 44100, 16, b""))
    for runtime in ("cpp", "python"):
        assert results(runtime, "speech", folder / "silence.wav")["speech"] == []
        found = results(runtime, "speech", folder / "nothing.wav", "--output", folder / "nothing.png")
        assert found == {"seconds": 0, "probabilities": [], "speech": []}


# Detection.

def assert_same_boxes(ours, theirs):
    assert [thing["class"] for thing in ours] == [thing["class"] for thing in theirs]
    for a, b in zip(ours, theirs):
        assert a["score"] == pytest.approx(b["score"], abs=0.01)
        np.testing.assert_allclose(a["box"], b["box"], atol=2)


@pytest.mark.parametrize("size", [320, 640])
def test_faces_are_found(folder, size):
    photo, marked = folder / f"people{size}.png", folder / f"people_marked{size}.png"
    make("detect/make_photo.py", MODELS / "sklearn/china.jpg", photo)
    cpp = results("cpp", "detect", photo, "--size", size, "--output", marked)
    assert len(cpp) == 2 and all(thing["class"].startswith("FACE") for thing in cpp)
    assert_marked(photo, marked)
    python = results("python", "detect", photo, "--size", size, "--output", marked)
    assert_marked(photo, marked)
    assert_same_boxes(cpp, python)
    assert_same_boxes(python, results("reference", "detect", photo, "--size", size))


def test_many_weak_boxes_are_the_same(folder):
    arguments = (MODELS / "sklearn/china.jpg", "--least", 0.002)
    reference = results("reference", "detect", *arguments)
    assert len(reference) > 2
    for runtime in ("cpp", "python"):
        assert_same_boxes(results(runtime, "detect", *arguments), reference)


# Wrong use.

@pytest.mark.parametrize("runtime", ["cpp", "python"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_wrong_use(runtime, program, folder):
    done = execute(runtime, program, "--help")
    assert done.returncode == 0 and "--threads" in done.stdout
    assert execute(runtime, program).returncode == 2
    assert execute(runtime, program, "x", "--no-such-option").returncode == 2
    assert execute(runtime, program, "x", "--threads", "-1").returncode == 2

    done = execute(runtime, program, folder / "missing.bin")
    assert done.returncode == 3 and "missing.bin" in done.stderr

    photo = MODELS / "sklearn/china.jpg"
    good = folder / "good.wav"
    good.write_bytes(wav_bytes(1, 1, 16000, 16, bytes(3200)))
    done = execute(runtime, program, good if program == "speech" else photo, models=folder / "nowhere")
    assert done.returncode == 3 and "nowhere" in done.stderr and "fetch_models" in done.stderr
    # A model that is no model.
    broken = folder / f"models_{runtime}_{program}"
    for path in MODELS.glob("*/*"):
        (broken / path.parent.name).mkdir(parents=True, exist_ok=True)
        (broken / path.parent.name / path.name).write_bytes(b"not a model" * 10)
    done = execute(runtime, program, good if program == "speech" else photo, models=broken)
    assert done.returncode == 3 and done.stderr.startswith(f"{program}: ")
    assert "Traceback" not in done.stderr


def assert_refused(done, name):
    assert done.returncode == 3, (name, done.returncode, done.stderr)
    assert name in done.stderr and "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize("runtime", ["cpp", "python"])
def test_broken_input(runtime, folder):
    jpeg = (MODELS / "sklearn/china.jpg").read_bytes()
    pixels = folder / "whole.png"
    Image.new("RGB", (64, 64), "white").save(pixels)
    png = pixels.read_bytes()
    inputs = {"empty": b"", "text": b"hello", "cut.jpg": jpeg[:5000], "head.jpg": jpeg[:20],
              "cut.png": png[:60], "noise.png": png[:40] + bytes(40) + png[80:]}
    for name, data in inputs.items():
        (folder / name).write_bytes(data)
        for program in IMAGE_PROGRAMS:
            assert_refused(execute(runtime, program, folder / name), name)
    wav = wav_bytes(1, 1, 16000, 16, bytes(3200))
    inputs = {"empty.wav": b"", "text.wav": b"hello", "head.wav": wav[:40],
              "rate.wav": wav_bytes(1, 1, 0, 16, b"12"), "channels.wav": wav_bytes(1, 0, 16000, 16, b"12"),
              "bits.wav": wav_bytes(1, 1, 16000, 12, b"12"),
              "adpcm.wav": wav_bytes(2, 1, 16000, 16, b"12"),
              "nan.wav": wav_bytes(3, 1, 16000, 32, struct.pack("<f", float("nan")) * 99)}
    for name, data in inputs.items():
        (folder / name).write_bytes(data)
        assert_refused(execute(runtime, "speech", folder / name), name)

    done = execute(runtime, "detect", MODELS / "sklearn/china.jpg", "--output", folder / "no/such/folder.png")
    assert_refused(done, "folder.png")


def test_digits_are_learnt(folder):
    """Two epochs: far from chance, and the written file is as good elsewhere."""
    path = folder / "digits.onnx"
    done = subprocess.run([sys.executable, str(ROOT / "examples/finetune_digits/finetune_digits.py"), "--epochs", "2",
                           "--output", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    before, after, scored = (float(x) for x in re.findall(r"([0-9.]+) %", done.stdout))
    assert before < 30 and after > 85 and scored == after, done.stdout
    assert "ONNX Runtime scores it" in done.stdout
