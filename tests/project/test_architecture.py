"""The repository's own rules: which way imports point, how long things are, what stands where."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAYERS = ["partners", "auth", "schema", "gateway"]
SOURCES = sorted(path for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))
FUNCTION_LINES_MAX = 50
FILE_LINES_MAX = 300
MUTATING = {"insert", "update", "delete", "select", "text"}


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(tree: ast.AST) -> Iterator[tuple[str, list[str]]]:
    """Every module that is imported anywhere in a file, with the names taken from it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module, [alias.name for alias in node.names]


def test_imports_point_down() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in SOURCES
        for module, _ in imported(tree_of(path))
        if module.split(".")[0] in LAYERS
        and LAYERS.index(module.split(".")[0]) > LAYERS.index(path.relative_to(ROOT).parts[0])
    ]
    assert wrong == []


def test_the_schema_holds_no_sql() -> None:
    wrong = [
        f"{path.name} imports {sorted(MUTATING & set(names))} from {module}"
        for path in (ROOT / "schema").glob("*.py")
        for module, names in imported(tree_of(path))
        if module.split(".")[0] in ("sqlalchemy", "sqlmodel") and MUTATING & set(names)
    ]
    assert wrong == []


@pytest.mark.parametrize("word", ["commit", "begin", "rollback"])
def test_partners_never_end_a_transaction(word: str) -> None:
    wrong = [
        f"{path.name}:{node.lineno}"
        for path in (ROOT / "partners").rglob("*.py")
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == word
    ]
    assert wrong == []


def test_only_the_composition_root_reads_the_clock() -> None:
    allowed = {"gateway"}
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in SOURCES
        if path.relative_to(ROOT).parts[0] not in allowed
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("now", "utcnow", "today")
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id in ("datetime", "date")
    ]
    assert wrong == []


def test_functions_and_files_stay_short() -> None:
    wrong = []
    for path in SOURCES:
        source = path.read_text(encoding="utf-8")
        if source.count("\n") > FILE_LINES_MAX:
            wrong.append(f"{path.relative_to(ROOT)}: {source.count(chr(10))} lines")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > FUNCTION_LINES_MAX:
                    wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {lines} lines")
    assert wrong == []


def test_every_module_says_why_it_exists() -> None:
    wrong = [
        str(path.relative_to(ROOT))
        for path in [*SOURCES, *(ROOT / "tests").rglob("*.py"), *(ROOT / "alembic").rglob("*.py")]
        if not (ast.get_docstring(tree_of(path)) or "").strip()
    ]
    assert wrong == []


def test_public_functions_and_classes_of_the_product_are_documented() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in SOURCES
        for node in tree_of(path).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and ast.get_docstring(node) is None
        # A GraphQL type says it in its description, which the SDL shows.
        and not (path.is_relative_to(ROOT / "schema") and isinstance(node, ast.ClassDef) and node.decorator_list)
    ]
    assert wrong == []


def test_tests_assert_something() -> None:
    wrong = []
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                calls = {ast.unparse(call.func) for call in ast.walk(node) if isinstance(call, ast.Call)}
                asserts = any(isinstance(inner, ast.Assert) for inner in ast.walk(node))
                words = "raises|assert|check|expect|verify|refus|require|compare|same|answers"
                if not asserts and not any(re.search(words, call) for call in calls):
                    wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}")
    assert wrong == []


def test_there_is_no_init_where_one_would_shadow_a_package() -> None:
    assert not (ROOT / "alembic" / "__init__.py").exists()
    assert list((ROOT / "tests").rglob("__init__.py")) == []


def test_our_packages_load_from_this_repository() -> None:
    import auth
    import gateway
    import partners
    import schema

    for package in (auth, gateway, partners, schema):
        assert package.__file__ is not None
        assert Path(package.__file__).is_relative_to(ROOT)


def test_the_top_level_is_the_one_that_was_given() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    folders = {line.split("/")[0] for line in tracked.splitlines() if "/" in line and not line.startswith(".")}
    assert folders <= {"gateway", "schema", "auth", "partners", "tests", "alembic", "docs", "examples"}


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_locks_pin_with_hashes_and_name_no_registry(lock: str) -> None:
    text = (ROOT / lock).read_text(encoding="utf-8")
    assert "://" not in text
    assert "--index-url" not in text
    pinned = re.findall(r"^[a-zA-Z0-9._-]+(?:\[[^\]]+\])?==.*?(?=^\S|\Z)", text, re.M | re.S)
    assert len(pinned) > 40
    assert [entry.split("==")[0] for entry in pinned if "--hash=sha256:" not in entry] == []
