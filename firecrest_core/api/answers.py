"""How an answer of the API becomes a type: the forms of its values, and what happens to one that has no such form."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar, cast

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic.alias_generators import to_camel

from firecrest_core.api.job_ids import read_job_id
from firecrest_core.errors import ConfigurationError, InvalidJobId, ServerFault
from firecrest_core.system_names import check_system_name

T = TypeVar("T")

# What a double holds exactly. No count, size, time or code of an honest server is larger.
_LARGEST_NUMBER = 2**53


def _job_id(value: Any) -> str:
    try:
        return read_job_id(value)
    except InvalidJobId as error:  # in an answer, it is not the user's fault
        raise ValueError(str(error)) from None


def _system_name(value: Any) -> str:
    try:
        return check_system_name(value)
    except ConfigurationError as error:
        raise ValueError(str(error)) from None


def _number(value: Any, read: ValidatorFunctionWrapHandler) -> int | None:
    try:
        number = cast(int | None, read(value))
    except ValidationError:
        return None
    return None if number is None or abs(number) > _LARGEST_NUMBER else number


# The server writes null for "not yet", "unknown" and "none" alike.
Text = Annotated[str, BeforeValidator(lambda value: "" if value is None else value)]
# A number, or a word of the scheduler's for none: UNKNOWN, UNLIMITED, Partition_Limit.
Number = Annotated[int | None, WrapValidator(_number)]
JobId = Annotated[str, BeforeValidator(_job_id)]
SystemName = Annotated[str, BeforeValidator(_system_name)]
Count = Annotated[
    int, BeforeValidator(lambda value: 0 if value is None else value), Field(ge=-_LARGEST_NUMBER, le=_LARGEST_NUMBER)
]


class Answer(BaseModel):
    """An answer, or a part of one. Fields that nobody knows here are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)


def parse(form: type[T], answer: Any, what: str) -> T:
    """Convert an answer to a type.

    :param form: the type
    :param answer: the answer's JSON
    :param what: the request in words, for the message
    :raises ServerFault: the answer does not have the documented form
    """
    try:
        return TypeAdapter(form).validate_python(answer)
    except ValidationError as error:
        raise _not_the_form(error, what) from None


def parse_each(form: type[T], answers: Any, what: str) -> list[T]:
    """Convert the elements of a list, without those that cannot be read: one odd element must not hide all others.

    :param form: the type of an element
    :param answers: the list
    :param what: the request in words, for the message
    :raises ServerFault: it is no list, or none of its elements has the documented form
    """
    adapter, found, odd = TypeAdapter(form), [], None
    for element in parse(tuple[Any, ...], answers, what):
        try:
            found.append(adapter.validate_python(element))
        except ValidationError as error:
            odd = error
    if odd is not None and not found:
        raise _not_the_form(odd, what)
    return found


def _not_the_form(error: ValidationError, what: str) -> ServerFault:
    where = "; ".join(".".join(map(str, one["loc"])) + " " + one["type"] for one in error.errors()[:3])
    return ServerFault(f"{what}: the answer has not the form of FirecREST version 2 ({where}).")
