"""The addresses of the table: which jobs they ask for, and how one leads to another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from urllib.parse import urlencode

from airflow_provider_firecrest.monitoring.query import JobQuery, SortKey
from firecrest_core.states import JobState, Phase

SCOPE = ("dag_id", "run_id", "task_id", "map_index")
"""What the tabs of a DAG, a run and a task fix."""

_LONGEST = 300


@dataclass(frozen=True)
class Asked:
    """What the query of an address says. Whatever is not understood counts as not said.

    :param state: a state, or a phase
    :param order: the column to sort by; a ``-`` before it means the largest first
    """

    dag_id: str = ""
    run_id: str = ""
    task_id: str = ""
    map_index: str = ""
    text: str = ""
    state: str = ""
    system: str = ""
    account: str = ""
    order: str = ""
    page: str = ""

    @classmethod
    def read(cls, given: Mapping[str, str]) -> Asked:
        """Read the query of an address.

        :param given: its names and values
        """
        # Airflow leaves the placeholder of what a tab does not have, as it does for the index of a task without one.
        known = {one.name: given[one.name][:_LONGEST] for one in fields(cls) if one.name in given}
        return cls(**{name: value for name, value in known.items() if not value.startswith("{")})

    def query(self) -> JobQuery:
        """Return what to ask the board."""
        sort, descending = SortKey.SUBMITTED, True
        if self.order.removeprefix("-") in set(SortKey):
            sort, descending = SortKey(self.order.removeprefix("-")), self.order.startswith("-")
        return JobQuery(
            states=frozenset({JobState(self.state)} if self.state in set(JobState) else ()),
            phases=frozenset({Phase(self.state)} if self.state in set(Phase) else ()),
            system=self.system or None,
            account=self.account or None,
            dag_id=self.dag_id or None,
            run_id=self.run_id or None,
            task_id=self.task_id or None,
            map_index=int(self.map_index) if self.map_index.isdecimal() and len(self.map_index) < 10 else None,
            text=self.text,
            sort=sort,
            descending=descending,
            page=int(self.page) if self.page.isdecimal() and len(self.page) < 10 else 1,
        )

    @property
    def scope(self) -> list[tuple[str, str]]:
        """The words that say to what a tab has narrowed the table."""
        words = {"dag_id": "DAG", "run_id": "run", "task_id": "task", "map_index": "map index"}
        return [(word, value) for name, word in words.items() if (value := getattr(self, name))]

    @property
    def is_filtered(self) -> bool:
        """Whether the form has narrowed the table."""
        return bool(self.text or self.state or self.system or self.account)

    def address(self, **changed: str) -> str:
        """Return the query of another address, from its first page unless that is changed, too.

        :param changed: what differs
        """
        other = replace(self, **{"page": "", **changed})
        said = {one.name: getattr(other, one.name) for one in fields(other) if getattr(other, one.name)}
        return f"?{urlencode(said)}"
