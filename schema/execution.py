"""Runs one prepared operation for one caller: permissions, then variables, then graphql-core, against the clock."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Mapping
from contextlib import aclosing
from inspect import isawaitable
from typing import Any, Protocol, cast

import strawberry
from graphql import (
    ExecutionResult,
    FieldNode,
    GraphQLAbstractType,
    GraphQLError,
    GraphQLObjectType,
    GraphQLResolveInfo,
    create_source_event_stream,
    default_field_resolver,
    default_type_resolver,
    located_error,
)
from graphql.execution.collect_fields import FieldDetailsList
from graphql.execution.values import VariableValues

from auth.caller import Caller
from partners.errors import PerksError
from schema.completion import COUNTS, CompilingExecutor, Plans
from schema.documents import Operation
from schema.errors import Rejected, from_execution
from schema.shortcut import Expired, Resolved


class RequestContext(Protocol):
    """What the engine needs to know of a request's context; resolvers find more in it."""

    @property
    def caller(self) -> Caller: ...
    @property
    def request_id(self) -> str: ...
    @property
    def seconds_left(self) -> float: ...


class Closed(PerksError):
    """An interface turned out to be an object of a type that does not admit the caller."""

    code = "FORBIDDEN"


class PermittedExecutor(CompilingExecutor):
    """The executor for callers to whom some object types are closed when they stand behind an interface."""

    def __init__(self, *args: Any, closed: frozenset[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._closed = closed

    def ensure_valid_runtime_type(
        self,
        runtime_type_name: Any,
        return_type: GraphQLAbstractType,
        field_details_list: FieldDetailsList,
        info: GraphQLResolveInfo[Any],
        result: Any,
    ) -> GraphQLObjectType:
        """The object type behind an abstract one, if the caller may see it."""
        if runtime_type_name in self._closed:
            raise Closed(f"{runtime_type_name} is not open to this caller.")
        return super().ensure_valid_runtime_type(runtime_type_name, return_type, field_details_list, info, result)


async def execute(
    schema: strawberry.Schema,
    operation: Operation,
    inputs: Mapping[str, Any],
    context: RequestContext,
    *,
    timeout_s: float,
    compiled: bool = True,
) -> tuple[dict[str, Any] | None, list[GraphQLError] | None]:
    """Data and field errors of an operation; `inputs` are the variables as they came.

    Raises `Rejected` for a caller who may not (nothing has run), for variables of the wrong type
    (BAD_USER_INPUT) and after `timeout_s` seconds (TIMEOUT; what was running is cancelled).
    """
    closed = operation.demands.admit(context.caller, inputs)
    values = operation.variable_values(schema._schema, inputs)
    # Compiled code picks an object's type by itself, so it may not run where types are closed.
    plans = operation.plans if compiled and not closed else None
    try:
        found = await _by_shortcut(operation, plans, values, context, timeout_s)
        if isinstance(found, dict):
            return found, None
        executor = executor_of(schema, operation, closed, plans, found, values, context)
        try:
            result = executor.execute_operation()
            if not isinstance(result, ExecutionResult):
                async with asyncio.timeout(timeout_s):
                    result = await cast(Awaitable[ExecutionResult], result)
        finally:
            executor.release()
    except (Expired, TimeoutError):
        raise Rejected.because("TIMEOUT", f"The request was stopped after {timeout_s:g} s.") from None
    return result.data, result.errors


def executor_of(
    schema: strawberry.Schema,
    operation: Operation,
    closed: frozenset[str],
    plans: Plans | None,
    root: Any,
    values: VariableValues,
    context: RequestContext,
) -> CompilingExecutor:
    """What runs an operation on this root value, for a caller to whom these types are closed."""
    executor_class, extra = (PermittedExecutor, {"closed": closed}) if closed else (CompilingExecutor, {})
    return executor_class(
        schema._schema,
        operation.fragment_definitions,
        operation.fragments,
        root,
        context,
        operation.node,
        values,
        default_field_resolver,
        default_type_resolver,
        default_field_resolver,
        plans=plans,
        **extra,
    )


async def follow(
    schema: strawberry.Schema,
    operation: Operation,
    inputs: Mapping[str, Any],
    context: RequestContext,
    *,
    compiled: bool = True,
) -> AsyncGenerator[tuple[dict[str, Any] | None, list[GraphQLError] | None], None]:
    """Data and field errors for each event of a subscription. Close it when done (`aclosing`).

    Raises `Rejected` as `execute` does, and when the events themselves fail, which ends them.
    """
    closed = operation.demands.admit(context.caller, inputs)
    values = operation.variable_values(schema._schema, inputs)
    plans = operation.plans if compiled and not closed else None
    executor = executor_of(schema, operation, closed, plans, None, values, context)
    try:
        events = await _events(executor)
        async with aclosing(events):
            while True:
                try:
                    event = await anext(events)
                except StopAsyncIteration:
                    return
                except Exception as error:
                    raise Rejected(from_execution(_located(error, operation), context.request_id)) from error
                result = executor.build_per_event_executor(event).execute_operation()
                if not isinstance(result, ExecutionResult):
                    result = await cast(Awaitable[ExecutionResult], result)
                yield result.data, result.errors
    finally:
        executor.release()


async def _events(executor: CompilingExecutor) -> AsyncGenerator[Any, None]:
    stream = create_source_event_stream(executor)
    if not isinstance(stream, ExecutionResult) and isawaitable(stream):
        stream = await stream
    if isinstance(stream, ExecutionResult):
        request_id = executor.context_value.request_id
        raise Rejected(*(from_execution(error, request_id) for error in stream.errors or ()))
    return cast(AsyncGenerator[Any, None], stream)


def _located(error: Exception, operation: Operation) -> GraphQLError:
    """The error at the one field of a subscription."""
    node = operation.node.selection_set.selections[0]
    if not isinstance(node, FieldNode):
        return GraphQLError(str(error), original_error=error)
    return located_error(error, [node], [node.alias.value if node.alias else node.name.value])


async def _by_shortcut(
    operation: Operation, plans: Plans | None, values: VariableValues, context: RequestContext, timeout_s: float
) -> dict[str, Any] | Resolved | None:
    """The data, if the operation has a short way and all goes smoothly; else what is resolved already, or None."""
    shortcut = operation.shortcut
    positions = None if shortcut is None or plans is None else plans.under(values.coerced)
    complete = None if shortcut is None or positions is None else positions.get(shortcut.position)
    if shortcut is None or not callable(complete):
        return None
    try:
        value = await shortcut.resolve(values, context, timeout_s)
    except Expired:
        raise
    except Exception as error:
        return Resolved(error, raised=True)
    if value is None and shortcut.nullable:
        return {shortcut.name: None}
    try:
        data = {shortcut.name: complete(value)}
    except Exception:  # whatever it is: the executor completes the same value and has the right words
        COUNTS.fallbacks += 1
        return Resolved(value)
    COUNTS.hits += 1
    return data
