"""What request bodies have in common."""

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class RequestBody(BaseModel):
    """A body whose fields may be written in camel case or in snake case."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)
