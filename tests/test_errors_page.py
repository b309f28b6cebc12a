"""docs/errors.md has every message that ends a command, and every error type of inputs: no more, and no less."""

from __future__ import annotations

import ast
import itertools
import re
from pathlib import Path
from typing import get_args

from motivnet_cli import errors

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "errors.md"
FATAL = {"ConfigError", "WeightsError", "OutputConflictError", "FetchError", "WorkerError", "TrainingError"}
FATAL |= {"MissingWeightsError", "RefusedError", "PrivateAddressError"}
"""The last two are a part of a message of the others."""
HOLE = "..."
"""What stands on the page for the part of a message that differs."""


class Messages(ast.NodeVisitor):
    """The messages of the errors that a module makes, with HOLE for what is put in."""

    def __init__(self, module: ast.Module) -> None:
        self.found: set[str] = set()
        self._functions = {node.name: node for node in ast.walk(module) if isinstance(node, ast.FunctionDef)}
        self._scope: ast.AST = module
        self.visit(module)

    def visit_FunctionDef(self, node):
        outer, self._scope = self._scope, node
        self.generic_visit(node)
        self._scope = outer

    def visit_Call(self, node):
        if _name(node.func) in FATAL and node.args:
            texts = self._texts(node.args[-1], self._scope)
            self.found |= {re.sub(rf"(?:{re.escape(HOLE)})+", HOLE, " ".join(text.split())) for text in texts}
        self.generic_visit(node)

    def _texts(self, node: ast.expr, scope: ast.AST) -> set[str]:
        """What an expression can come to: a variable any of its assignments, a call any of a function's results."""
        if isinstance(node, ast.Constant):
            return {str(node.value)}
        if isinstance(node, ast.JoinedStr):
            parts = [{str(part.value)} if isinstance(part, ast.Constant) else {HOLE} for part in node.values]
            if not any(map(_has_words, itertools.chain(*parts))):  # then what is put in makes the message
                inner = (part.value for part in node.values if isinstance(part, ast.FormattedValue))
                parts = [{HOLE} if _has_words(*part) else part for part in parts]
                parts = [self._texts(next(inner), scope) if part == {HOLE} else part for part in parts]
            return {"".join(each) for each in itertools.product(*parts)}
        if isinstance(node, ast.BinOp):
            pairs = itertools.product(self._texts(node.left, scope), self._texts(node.right, scope))
            return {left + right for left, right in pairs}
        if isinstance(node, ast.IfExp):
            return self._texts(node.body, scope) | self._texts(node.orelse, scope)
        sources: list[ast.expr | None] = []
        if isinstance(node, ast.Name):
            sources = [
                each.value
                for each in ast.walk(scope)
                if isinstance(each, ast.Assign) and any(_name(target) == node.id for target in each.targets)
            ]
        elif isinstance(node, ast.Call) and _name(node.func) in self._functions:
            scope = self._functions[_name(node.func)]
            sources = [each.value for each in ast.walk(scope) if isinstance(each, ast.Return)]
        return {text for source in sources if source for text in self._texts(source, scope)} or {HOLE}


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _has_words(text: str) -> bool:
    return any(char.isalpha() for char in text)


def messages_of_the_package() -> dict[str, str]:
    """Every message, and the module that makes it; without those whose words are all put in."""
    found = {}
    for path in sorted((ROOT / "motivnet_cli").rglob("*.py")):
        for message in Messages(ast.parse(path.read_text())).found:
            if _has_words(message):
                found[message] = str(path.relative_to(ROOT))
    return found


def tables() -> list[list[tuple[list[str], str]]]:
    """The rows of each table of the page: what is in code type in the first cell, and the last cell."""
    found, rows = [], []
    for line in [*PAGE.read_text().splitlines(), ""]:
        if line.startswith("| `"):
            cells = line.strip("| ").split(" | ")
            rows.append(([code.strip() for _, code in re.findall(r"(`+)(.+?)\1(?!`)", cells[0])], cells[-1]))
        elif line.startswith("|---"):
            rows = []  # what came before was the head
        elif rows:
            found.append(rows)
            rows = []
    return found


def test_every_message_has_its_cause_and_cure():
    """The page has each message of the package in a row with its cause and cure, and none that is gone."""
    rows = [row for table in tables()[1:] for row in table]
    listed = [message for messages, _ in rows for message in messages]
    made = messages_of_the_package()

    assert {message: path for message, path in made.items() if message not in listed} == {}, "rows to add to the page"
    assert [message for message in listed if message not in made] == [], "rows to remove"
    assert sorted(listed) == sorted(set(listed)), "doubled rows"
    assert [messages for messages, remedy in rows if len(remedy) < 10] == []


def test_every_exit_code_is_explained():
    """The first table has the exit codes that there are, and no others."""
    codes = {value for name, value in vars(errors).items() if name.startswith("EXIT_")}

    assert {int(code) for code in re.findall(r"^\| (\d+) \|", PAGE.read_text(), flags=re.M)} == codes


def test_every_error_type_has_its_cause_and_cure():
    """The page has the error types that an input can have, and no others; each is in use."""
    listed = [name for names, _ in tables()[0] for name in names]
    sources = [path.read_text() for path in (ROOT / "motivnet_cli").rglob("*.py") if path.name != "errors.py"]

    assert sorted(listed) == sorted(get_args(errors.ErrorType))
    assert [name for name in listed if not any(f'"{name}"' in source for source in sources)] == []


def test_a_new_message_would_be_missed_on_the_page():
    """The collector sees a message that is put together, in a variable, or made by another function."""
    source = """
def f(x):
    message = f"no {x}: " + "name one" if x else "none"
    if x:
        raise ConfigError(message)
    raise errors.FetchError(_why(x)) from None

def _why(x):
    reason = "it is odd"
    return f"{x}: {reason}"
"""
    assert Messages(ast.parse(source)).found == {"no ...: name one", "none", "...: it is odd"}
