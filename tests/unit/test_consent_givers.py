"""A subscription becomes active only where its evidence is recorded."""

from __future__ import annotations

import ast

import pytest

from tests import house

ACTIVE = ("State.ACTIVE", "'active'")


def gives_active(node: ast.AST) -> bool:
    """An assignment, an argument or an entry of a dictionary; comparing with it gives nothing."""
    values: list[ast.expr | None] = []
    if isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr):
        values = [node.value]
    elif isinstance(node, ast.keyword):
        values = [node.value] if node.arg == "state" else []
    elif isinstance(node, ast.Dict):
        values = [*node.values]
    elif isinstance(node, ast.Call) and ast.unparse(node.func) == "setattr":
        values = [*node.args]
    return any(_is_active(part) for value in values if value for part in _parts(value))


def _is_active(value: ast.expr) -> bool:
    said = ast.unparse(value)
    return said.endswith(ACTIVE) and "EditorState" not in said


def _parts(value: ast.expr) -> list[ast.expr]:
    if isinstance(value, ast.Tuple | ast.List):
        return [part for inner in value.elts for part in _parts(inner)]
    if isinstance(value, ast.IfExp):
        return [*_parts(value.body), *_parts(value.orelse)]
    return [value]


def givers(module: house.Module) -> dict[str, str]:
    """Functions that make one active, with their source."""
    return {
        f"{module.name}:{function.name}": ast.unparse(function)
        for function in ast.walk(module.tree)
        if isinstance(function, ast.FunctionDef) and any(map(gives_active, ast.walk(function)))
    }


def test_evidence_is_recorded_where_a_subscription_becomes_active() -> None:
    found: dict[str, str] = {}
    for module in house.modules():
        if "ACTIVE" in module.text or "active" in module.text:
            found |= givers(module)
    assert set(found) == {
        "service/subscribers/confirmation.py:activate",
        "service/subscribers/importing.py:_activate",
        "service/subscribers/importing.py:_upsert",  # the statement that _activate runs
    }
    upsert = found.pop("service/subscribers/importing.py:_upsert")
    assert "consent.record(" not in upsert
    assert "_upsert(" in found["service/subscribers/importing.py:_activate"]
    assert all("consent.record(" in source for source in found.values())


@pytest.mark.parametrize(
    ("line", "gives"),
    [
        ("row.state = State.ACTIVE", True),
        ("row.state, row.at = (State.ACTIVE, now)", True),
        ("row.state = models.State.ACTIVE if so else State.ENDED", True),
        ("session.add(Subscription(state=State.ACTIVE))", True),
        ("update(Subscription).values(state='active')", True),
        ("update(Subscription).values({'state': State.ACTIVE})", True),
        ("setattr(row, 'state', State.ACTIVE)", True),
        ("query.where(Subscription.state == State.ACTIVE)", False),
        ("editor.state = EditorState.ACTIVE", False),
        ("row.state = State.ENDED", False),
    ],
)
def test_each_way_of_writing_it_is_seen(line: str, gives: bool) -> None:
    found = givers(house.Module("service/x.py", f"def f():\n    {line}\n"))
    assert bool(found) is gives
