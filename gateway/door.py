"""Who comes in: from the headers of a request to its context, and whether those who stay may stay."""

from collections.abc import Callable
from datetime import datetime

from starlette.types import Scope

from auth.admission import Admission
from auth.dpop import Proofs
from auth.tokens import TokenVerifier
from schema.context import Context, Resources


class Door:
    """Of one resource, which stands at `path` below the issuer's address."""

    def __init__(
        self, verifier: TokenVerifier, proofs: Proofs, path: str, clock: Callable[[], datetime], resources: Resources
    ) -> None:
        self._verifier, self._clock, self._resources = verifier, clock, resources
        self._admission = Admission(verifier, proofs, path)

    async def admit(self, scope: Scope) -> Context:
        """The context of a request: the caller from its token, the clock read once; Unauthenticated."""
        authorization = next((value for name, value in scope["headers"] if name == b"authorization"), None)
        now, generation = self._clock(), self._verifier.generation
        caller = self._verifier.cached(authorization, now)
        if caller is None or caller.key_thumbprint is not None:
            caller = await self._admission.caller(scope, authorization, now)
        return Context(caller, now, scope["state"]["request_id"], self._resources, generation)

    def again(self, context: Context, request_id: str) -> Context:
        """The same caller as of now, under another request id; Unauthenticated once its token has ended."""
        now = self._clock()
        self._verifier.require_alive(context.caller, context.generation, now)
        return Context(context.caller, now, request_id, self._resources, context.generation)
