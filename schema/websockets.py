"""GraphQL over WebSocket (graphql-transport-ws) on a bare ASGI channel: what graphql-ws and other clients speak."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.types import Receive, Scope, Send
from uuid_utils.compat import uuid7

from auth.errors import Unauthenticated
from partners.errors import Overloaded, Unavailable
from schema.answering import Answering
from schema.documents import Operation
from schema.errors import FormattedError, Rejected, from_exception, with_request_id
from schema.execution import RequestContext
from schema.limits import exceeded
from schema.negotiation import Parameters, parameters_of, read_json
from schema.staying import Again, Places, being_read

PROTOCOL = "graphql-transport-ws"
REASON_BYTES_MAX = 123  # RFC 6455, section 5.5
ID_LENGTH_MAX = 255

Message = dict[str, Any]


class Closing(Exception):
    """The connection ends, with the code and reason of its close frame (RFC 6455, section 7.4)."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code, self.reason = code, reason


class Gone(Exception):
    """The client, or the server under it, ended the connection."""


@dataclass(frozen=True, slots=True)
class Running:
    """One operation under way: a subscription ends when nobody listens, anything else goes on unheard."""

    operation: Operation
    task: asyncio.Task[None]

    def leave(self) -> None:
        """Its client does not listen any more."""
        if self.operation.kind == "subscription":
            self.task.cancel()


class Socket:
    """One connection: its caller is admitted once, by the token of its handshake or of its first message, and every
    operation after runs as that caller for as long as the token lives."""

    def __init__(
        self,
        answering: Answering,
        admit: Callable[[Scope], Awaitable[RequestContext]],
        again: Again,
        places: Places,
        body_max: int,
        channel: tuple[Scope, Receive, Send],
    ) -> None:
        self._answering, self._admit, self._again = answering, admit, again
        self._places, self._bounds, self._body_max = places, places.bounds, body_max
        self._scope, self._receive, self._send = channel
        self._running: dict[str, Running] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    async def serve(self) -> None:
        """Until either side closes; nothing that runs for it is left behind."""
        await self._receive()
        offered = PROTOCOL in self._scope["subprotocols"]
        try:
            await self._send({"type": "websocket.accept", "subprotocol": PROTOCOL if offered else None})
            if not offered:
                raise Closing(4406, "Subprotocol not acceptable")
            with self._places.take():
                context = await self._admitted()
                with self._places.take_for(context):
                    await self._say({"type": "connection_ack"})
                    await self._listen(context)
        except (Gone, OSError):
            self._closed = True
        except Exception as error:
            await self._close(closing_of(error, self._request_id()))
        finally:
            self._closed = True
            for running in self._running.values():
                running.leave()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _admitted(self) -> RequestContext:
        """The caller, after the one `connection_init`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._bounds.init_s
        while True:
            message = await self._next_message(deadline - loop.time())
            if message is None:
                raise Closing(4408, "Connection initialisation timeout")
            if message["type"] == "subscribe":
                raise Closing(4401, "Unauthorized")
            if message["type"] == "connection_init":
                return await self._admit(self._handshake(message.get("payload") or {}))
            await self._answer_ping(message)

    def _handshake(self, payload: Message) -> Scope:
        """The handshake as a request, with the token of the first message where that has one: browsers can't set a
        header. A proof (RFC 9449) can only come with the handshake, and so does the token that needs one."""
        headers = list(self._scope["headers"])
        token = payload.get("Authorization", payload.get("authorization"))
        if token is not None:
            if not isinstance(token, str):
                raise Closing(4400, "Authorization must be a string")
            if token.lower().startswith("dpop "):
                raise Closing(4403, "send a token that is bound to a key in the handshake's headers, with its proof")
            headers = [(name, value) for name, value in headers if name != b"authorization"]
            headers.append((b"authorization", token.encode()))
        return {**self._scope, "method": "GET", "headers": headers, "state": {"request_id": self._request_id()}}

    async def _listen(self, context: RequestContext) -> None:
        while True:
            context = self._again(context, context.request_id)
            message = await self._next_message(min(self._bounds.beat_s, context.seconds_left))
            if message is None:
                continue
            if message["type"] == "subscribe":
                await self._begin(context, message)
            elif message["type"] == "complete":
                if (running := self._running.pop(id_of(message), None)) is not None:
                    running.leave()
            elif message["type"] == "connection_init":
                raise Closing(4429, "Too many initialisation requests")
            else:
                await self._answer_ping(message)

    async def _answer_ping(self, message: Message) -> None:
        if message["type"] == "ping":
            payload = message.get("payload")
            await self._say({"type": "pong"} | ({} if payload is None else {"payload": payload}))
        elif message["type"] not in ("pong", "complete"):
            raise Closing(4400, "Unknown message type")

    async def _begin(self, context: RequestContext, message: Message) -> None:
        """Starts an operation; a malformed one ends the connection, and one that can't run only itself."""
        id, payload = id_of(message), message.get("payload")
        if not isinstance(payload, dict):
            raise Closing(4400, "The payload of subscribe must be an object")
        try:
            parameters = parameters_of(payload)
        except Rejected as rejected:
            raise Closing(4400, rejected.errors[0]["message"]) from None
        if id in self._running:
            raise Closing(4409, f"Subscriber for {id} already exists")
        context = self._again(context, str(uuid7()))
        try:
            if len(self._tasks) >= self._bounds.operations:
                raise exceeded("operations at once", self._bounds.operations)
            operation = self._answering.operation(parameters)
        except Exception as error:
            await self._say(error_message(id, error, context.request_id))
            return
        task = asyncio.create_task(self._run(id, operation, parameters, context))
        self._running[id] = Running(operation, task)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, id: str, operation: Operation, parameters: Parameters, context: RequestContext) -> None:
        """One operation to its end; a token that ended meanwhile ends the connection."""
        try:
            if operation.kind == "subscription":
                async with aclosing(self._answering.results(operation, parameters.variables, context)) as results:
                    async for body in results:
                        self._again(context, context.request_id)
                        await self._tell(id, body)
            else:
                await self._tell(id, await self._answering.answer(operation, parameters.variables, context))
            last: Message = {"id": id, "type": "complete"}
        except (Gone, OSError):
            return
        except Unauthenticated as ended:
            await self._close(closing_of(ended, context.request_id))
            return
        except Exception as error:
            last = error_message(id, error, context.request_id)
        with suppress(Gone, OSError):
            if self._is_heard(id):
                del self._running[id]
                await self._say(last)

    def _is_heard(self, id: str) -> bool:
        """Whether the operation that asks is still the one of this id."""
        running = self._running.get(id)
        return running is not None and running.task is asyncio.current_task()

    async def _tell(self, id: str, body: bytes) -> None:
        """One result, whose JSON is there already."""
        if self._is_heard(id):
            head = orjson.dumps({"id": id, "type": "next"})[:-1]
            await self._write((head + b',"payload":' + body + b"}").decode())

    async def _say(self, message: Message) -> None:
        await self._write(orjson.dumps(message).decode())

    async def _write(self, text: str) -> None:
        if self._closed:
            raise Gone
        try:
            async with being_read():
                await self._send({"type": "websocket.send", "text": text})
        except OSError:
            self._closed = True
            raise

    async def _close(self, closing: Closing) -> None:
        if not self._closed:
            self._closed = True
            reason = closing.reason.encode()[:REASON_BYTES_MAX].decode(errors="ignore")
            with suppress(OSError, RuntimeError):  # it may have left at this very moment
                async with being_read():
                    await self._send({"type": "websocket.close", "code": closing.code, "reason": reason})

    async def _next_message(self, patience_s: float) -> Message | None:
        """What the client says next; None when it says nothing for so long."""
        event = None
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, patience_s)):
                await asyncio.sleep(0)  # else a flood of what is there already leaves nobody else a turn
                event = await self._receive()
        if self._closed or (event is not None and event["type"] == "websocket.disconnect"):
            raise Gone
        return None if event is None else parsed(event.get("text"), self._body_max)

    def _request_id(self) -> str:
        state: Message = self._scope.setdefault("state", {})
        request_id: str = state.setdefault("request_id", str(uuid7()))
        return request_id


def id_of(message: Message) -> str:
    """The id of the operation that a message is about."""
    id = message.get("id")
    if not isinstance(id, str) or not 0 < len(id) <= ID_LENGTH_MAX:
        raise Closing(4400, f"id: a string of 1 to {ID_LENGTH_MAX} characters")
    return id


def parsed(text: str | None, bytes_max: int) -> Message:
    """A message of the client: a JSON object with a type."""
    if text is None:
        raise Closing(4400, "Messages are text")
    encoded = text.encode()
    if len(encoded) > bytes_max:
        raise Closing(1009, f"A message may have {bytes_max} bytes")
    try:
        message = read_json(encoded, "message")
    except Rejected as rejected:
        raise Closing(4400, rejected.errors[0]["message"]) from None
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise Closing(4400, "A message is an object with a type")
    if message["type"] in ("connection_init", "ping", "pong") and not isinstance(message.get("payload"), dict | None):
        raise Closing(4400, "The payload must be an object")
    return message


def error_message(id: str, error: Exception, request_id: str) -> Message:
    """Why an operation has no further results."""
    rejected = error if isinstance(error, Rejected) else from_exception(error, request_id)
    errors: list[FormattedError] = with_request_id(rejected.errors, request_id)
    return {"id": id, "type": "error", "payload": errors}


def closing_of(error: Exception, request_id: str) -> Closing:
    """What a fault means for the whole connection. With 1013 and 4403 clients may try again, with a new token."""
    if isinstance(error, Closing):
        return error
    if isinstance(error, Unauthenticated):
        return Closing(4403, error.message)
    if isinstance(error, Overloaded | Unavailable):
        return Closing(1013, error.message)
    from_exception(error, request_id)
    return Closing(4500, f"Internal server error ({request_id})")
