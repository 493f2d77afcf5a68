"""How a mutation is made of the function that does it."""

from functools import wraps
from typing import Any

from schema.context import Info
from schema.permissions import Permission, mutation


def command(resolver: Any, *, permission: Permission, description: str) -> Any:
    """A mutation on a resolver that lives with its noun, at an instant of its own: by one instant of what a member
    does with two partners in one request, these could match it (law 8)."""

    @wraps(resolver)
    async def done(info: Info, **given: Any) -> Any:
        info.context.now = info.context.resources.feeds.clock()
        return await resolver(info, **given)

    return mutation(permission=permission, description=description)(done)
