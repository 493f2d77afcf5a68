"""The interface of everything that has an id of its own."""

import strawberry

from schema.permissions import Authenticated, field, interface


@interface(permission=Authenticated, description="Anything with a global id: fetch it again with `node(id:)`.")
class Node:
    id: strawberry.ID = field(description="Its global id: keep it as it is.")
