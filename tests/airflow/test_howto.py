"""The how-to pages' blocks for Airflow and for the core can be pasted as they are."""

from __future__ import annotations

import ast

import pytest
from airflow.sdk import DAG

from tests.howto import snippets

SNIPPETS = snippets(prefect=False)


@pytest.mark.parametrize("code", SNIPPETS.values(), ids=SNIPPETS.keys())
def test_block_works(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[DAG] = []
    monkeypatch.setattr(DAG, "__exit__", lambda dag, *_, leave=DAG.__exit__: (made.append(dag), leave(dag, *_))[0])
    exec(compile(ast.parse(code), "the block", "exec"), {"__name__": "block"})
    assert len(made) == code.count("with DAG(")
    assert all(dag.tasks for dag in made)
