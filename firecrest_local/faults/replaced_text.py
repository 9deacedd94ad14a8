"""Other words in an answer, for what old and other servers say."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Literal

from pydantic import field_validator

from firecrest_local.faults.replacement import Answer, Rewriting


class ReplacedText(Rewriting):
    r"""In the body of the answer, a pattern is replaced by a text.

    :param pattern: a regular expression for the body, which is compact JSON: `"state":"COMPLETED"`.
    :param text: the replacement. It can name groups: `\1`.
    """

    fault: Literal["replaced_text"]
    pattern: str
    text: str

    @field_validator("pattern")
    @classmethod
    def _valid(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return pattern

    def rewrite(self, answer: Answer, system: str) -> Answer:
        """Replace the pattern."""
        body = re.sub(self.pattern, self.text, answer.body.decode(errors="surrogateescape"))
        return replace(answer, body=body.encode(errors="surrogateescape"))
