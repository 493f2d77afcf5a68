"""From a request's parameters to the bytes of its answers, whatever carries them: HTTP, a stream or a WebSocket."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import orjson
import strawberry
from graphql import GraphQLError

from schema.documents import Documents, Operation
from schema.errors import from_execution, with_request_id
from schema.execution import RequestContext, execute, follow
from schema.negotiation import Parameters


class Answering:
    """Prepared documents of one schema, and how they are run."""

    def __init__(self, schema: strawberry.Schema, documents: Documents, *, timeout_s: float, compiled: bool) -> None:
        self._schema, self._documents = schema, documents
        self._timeout_s, self._compiled = timeout_s, compiled

    def operation(self, parameters: Parameters) -> Operation:
        """The operation that is asked for; raises `Rejected`."""
        if parameters.query is not None:
            document = self._documents.by_text(parameters.query)
        else:
            document = self._documents.by_id(parameters.document_id or "")
        return document.operation(parameters.operation_name)

    async def answer(self, operation: Operation, variables: Mapping[str, Any], context: RequestContext) -> bytes:
        """The one answer of a query or mutation; raises `Rejected` where nothing has run."""
        if operation.answer is not None:
            return operation.answer
        data, errors = await execute(
            self._schema, operation, variables, context, timeout_s=self._timeout_s, compiled=self._compiled
        )
        answer = shown(data, errors, context.request_id)
        if operation.introspects and not errors:
            operation.answer = answer
        return answer

    async def results(
        self, operation: Operation, variables: Mapping[str, Any], context: RequestContext
    ) -> AsyncGenerator[bytes, None]:
        """Each answer of a subscription that differs from the one before, the present state first. Raises `Rejected` at
        the start, or when it ends by a fault. Close it when done (`aclosing`)."""
        last = b""
        async with aclosing(follow(self._schema, operation, variables, context, compiled=self._compiled)) as results:
            async for data, errors in results:
                result = shown(data, errors, context.request_id)
                if result != last:
                    yield result
                last = result


def shown(data: dict[str, Any] | None, errors: list[GraphQLError] | None, request_id: str) -> bytes:
    """A result as JSON."""
    if not errors:
        return orjson.dumps({"data": data})
    described = (from_execution(error, request_id) for error in errors)
    return orjson.dumps({"errors": with_request_id(described, request_id), "data": data})
