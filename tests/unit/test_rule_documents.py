"""What docs say of rules: every kind has its line, and adding one works as it is written."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from partners.facts import RefusalCode
from partners.policies import validate_rules
from partners.rules import KINDS

ROOT = Path(__file__).parents[2]
RULES = (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")
ADDING = (ROOT / "docs" / "adding-a-rule.md").read_text(encoding="utf-8")
TIERS = ("member", "silver", "gold", "black")
EXAMPLES = [json.loads(found) for found in re.findall(r'`(\{"kind": .*?\})`', RULES)]


def test_every_kind_has_an_example_that_is_good() -> None:
    assert {example["kind"] for example in EXAMPLES} == set(KINDS)
    assert [rule.kind for rule in validate_rules(EXAMPLES, TIERS)] == [example["kind"] for example in EXAMPLES]


def test_every_code_that_rules_can_give_is_told() -> None:
    named = set()
    for source in (*(ROOT / "partners" / "rules").glob("*.py"), ROOT / "partners" / "standing.py"):
        named |= set(re.findall(r"RefusalCode\.([A-Z_]+)", source.read_text(encoding="utf-8")))
    assert named - set(re.findall(r"`([A-Z_]+)`", RULES)) == set()
    assert named <= set(RefusalCode)


def test_every_setting_is_told() -> None:
    fields = {name for rule in KINDS.values() for name in rule.model_fields} - {"kind"}
    assert {name for name in fields if name not in RULES} == set()


def blocks(language: str) -> list[tuple[str, str]]:
    """The code blocks of a language in their order: the file that they are for, and their text."""
    return re.findall(rf"^```{language} ?(\S*)\n(.*?)^```$", ADDING, re.M | re.S)


def apply(block: str, text: str) -> str:
    """A file with one change: lines with - or a space are there, those with + or a space will be."""
    lines = block.splitlines()
    before = "\n".join(line[1:] for line in lines if line[:1] != "+")
    after = "\n".join(line[1:] for line in lines if line[:1] != "-")
    assert text.count(before) == 1, before
    return text.replace(before, after)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The domain's code, to be changed."""
    shutil.copytree(ROOT / "partners", tmp_path / "partners", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_adding_a_rule_works_as_it_is_written(copy: Path) -> None:
    for name, block in blocks("diff"):
        file = copy / name
        file.write_text(apply(block, file.read_text(encoding="utf-8")), encoding="utf-8")
    [(name, rule), (_, attempt)] = blocks("python")
    with (copy / name).open("a", encoding="utf-8") as file:
        file.write(f"\n\n{rule}")
    environment = {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    tried = subprocess.run(
        [sys.executable, "-c", attempt], cwd=copy, env=environment, capture_output=True, text=True, check=False
    )
    [(_, expected)] = blocks("text")
    assert (tried.stdout, tried.stderr, tried.returncode) == (expected, "", 0)
    assert "founding_member" not in KINDS
