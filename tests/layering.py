"""Holds the source tree against docs/architecture.md: who may include whom, where ONNX may appear, how long
files are, and that no path of somebody's machine is written down.

The allowed directions are read from the table "Rooms and the direction of dependency", so that page cannot
drift from the code. Run as `python tests/layering.py` or through pytest.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCE = {".h", ".hpp", ".cpp", ".cc", ".cu", ".cuh"}
TEXT = SOURCE | {".py", ".md", ".txt", ".cmake", ".json", ".toml", ".yml", ".yaml", ".sh", ""}
MAX_LINES = 600
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)
ONNX_HEADER = re.compile(r"^(onnx|google/protobuf)/")
ONNX_ROOMS = ("onnx_import/", "ops/registry/")
# Within one room: the runtime knows no particular provider.
APART = [("providers/runtime/", "providers/cpu/"), ("providers/runtime/", "providers/cuda/"),
         ("providers/cpu/", "providers/cuda/"), ("providers/cuda/", "providers/cpu/")]
MACHINE_PATH = re.compile(r"(?<![\w.$}])/(?:work|home|root|Users|mnt)/\w")


def table():
    """{room: [rooms it may include]} from the first fenced block of the architecture page. A room is a path
    prefix; "leaf headers" are the public headers of the table's first lines."""
    page = (ROOT / "docs/architecture.md").read_text()
    block = page.split("```")[1]
    rooms, leaf, current = {}, [], None
    for line in block.splitlines():
        if not line.strip():
            continue
        left, arrow, right = line.rpartition("<- ")
        left = left or line
        words = left.split()
        if not line.startswith(" "):
            names = [word for word in words if word.endswith("/")]
            current = names[0] if names else None
        else:
            names = []
        if current == "include/sardonyx/":
            for word in words:
                if (ROOT / "include/sardonyx" / f"{word}.h").is_file() and "nothing" in right:
                    leaf.append(f"include/sardonyx/{word}")
            continue
        if not names or not arrow:
            continue
        if "all of the above" in right:
            allowed = list(rooms) + ["include/sardonyx/"]
        elif right.split() == ["api"]:
            allowed = ["include/sardonyx/"]
        elif "leaf headers" in right:
            allowed = ["leaf"]
        else:
            allowed = [word + "/" for word in right.split()]
        for name in names:
            rooms[name] = allowed

    # What a room may include, its dependencies may include too: the rows name only the direct ones.
    def closure(room, seen):
        for other in rooms.get(room, []):
            if other not in seen:
                seen.add(other)
                closure(other, seen)
        return seen

    result = {}
    for room in rooms:
        allowed = closure(room, {room})
        result[room] = sorted(allowed - {"leaf"}) + (leaf if "leaf" in allowed else [])
    result["include/sardonyx/"] = leaf
    return result


def sources(rooms):
    for room in rooms:
        for path in sorted((ROOT / room).rglob("*")):
            if path.suffix in SOURCE and path.is_file():
                yield path.relative_to(ROOT).as_posix(), path


def resolve(includer, name):
    """The repository path that a quoted or angled name means, or None for a header from elsewhere."""
    for base in (includer.parent, ROOT, ROOT / "include"):
        candidate = (base / name).resolve()
        if candidate.is_file() and candidate.is_relative_to(ROOT):
            return candidate.relative_to(ROOT).as_posix()
    return None


def check_includes():
    problems = []
    rooms = table()
    for name, path in sources(rooms):
        room = max((room for room in rooms if name.startswith(room)), key=len)
        for quote, included in INCLUDE.findall(path.read_text()):
            if ONNX_HEADER.match(included):
                if not name.startswith(ONNX_ROOMS):
                    problems.append(f"{name}: includes {included}: expected only in {' and '.join(ONNX_ROOMS)}")
                continue
            target = resolve(path, included)
            if target is None:
                # A quoted name that is not here is generated, or a mistake that the compiler reports.
                continue
            if not target.startswith(tuple(rooms[room]) + (room,)):
                problems.append(f"{name}: includes {target}: {room} may include {' '.join(rooms[room])}")
            for here, there in APART:
                if name.startswith(here) and target.startswith(there):
                    problems.append(f"{name}: includes {target}: {here} must not know {there}")
    return problems


def own_files():
    """Every text file of the repository, found without git so that it works in a source archive too."""
    skipped = re.compile(r"^(build[^/]*|dist|\.deps|\.git|\.cache|deps-[^/]*|__pycache__|.*\.egg-info)$")
    stack = [ROOT]
    while stack:
        for path in sorted(stack.pop().iterdir()):
            if skipped.match(path.name) or path.is_symlink() or path.name == ".git":
                continue
            if path.is_dir():
                stack.append(path)
            elif path.suffix in TEXT:
                yield path.relative_to(ROOT).as_posix(), path


def check_lengths():
    problems = []
    for name, path in own_files():
        if path.suffix in SOURCE | {".py"}:
            lines = path.read_text().count("\n")
            if lines > MAX_LINES:
                problems.append(f"{name}: expected at most {MAX_LINES} lines, got {lines}")
    return problems


def check_machine_paths():
    problems = []
    for name, path in own_files():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if MACHINE_PATH.search(line) and "MACHINE_PATH" not in line:
                problems.append(f"{name}:{number}: a path of one machine: {line.strip()[:80]}")
    return problems


STRUCT = re.compile(r"^struct (\w+)(?: : [\w: ,]+)? \{", re.MULTILINE)


def check_struct_names():
    """Two types of one name in one namespace make one of them, whichever the linker sees first."""
    problems, seen = [], {}
    for path in sorted((ROOT / "ops").rglob("*.h")):
        for name in STRUCT.findall(path.read_text()):
            here = path.relative_to(ROOT).as_posix()
            if name in seen:
                problems.append(f"{here}: struct {name} is also in {seen[name]}")
            seen[name] = here
    return problems


def test_table_is_read():
    rooms = table()
    assert "graph/" in rooms["ops/"] and "ops/" not in rooms["graph/"]
    assert "include/sardonyx/" in rooms["cli/"] and "graph/" not in rooms["cli/"]
    assert "include/sardonyx/tensor" in rooms["graph/"] and "api/" in rooms


def test_includes():
    assert check_includes() == []


def test_lengths():
    assert check_lengths() == []


def test_struct_names():
    assert check_struct_names() == []


def test_machine_paths():
    assert check_machine_paths() == []


if __name__ == "__main__":
    test_table_is_read()
    found = check_includes() + check_lengths() + check_struct_names() + check_machine_paths()
    print("\n".join(found) if found else "layering: as docs/architecture.md says")
    sys.exit(1 if found else 0)
