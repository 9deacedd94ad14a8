"""What request bodies have in common."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from firecrest_local.usable_text import is_usable


class RequestBody(BaseModel):
    """A body whose fields may be written in camel case or in snake case."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _usable(cls, data: Any) -> Any:
        if not is_usable(data):
            raise ValueError("a null byte or half of a surrogate pair in a text")
        return data


class PathBody(RequestBody):
    """The body of an operation on a file.

    `RequestChecks.given_path` reads the path, because old clients call it `path`.
    """

    source_path: str | None = Field(None, description="The file. It is required.")
