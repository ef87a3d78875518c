"""findAndModify: one document, found and changed on the one shard that owns it."""

from __future__ import annotations

from typing import Any

from ..protocol.errors import Code, RouterError
from . import shard_key_updates
from .authorization import Need
from .context import Context, Reply, command
from .send import ask, routing_for, until_fresh
from .targeting import owner_of_modification


def _needs(context: Context) -> list[Need]:
    actions = ["find", "remove"] if context.head.get("remove") else ["find", "update"]
    if context.head.get("upsert"):
        actions.append("insert")
    if context.head.get("bypassDocumentValidation"):
        actions.append("bypassDocumentValidation")
    return [Need(action, context.db, context.collection) for action in actions]


@command("findAndModify", "findandmodify", access=_needs, transaction=True)
async def find_and_modify(context: Context) -> Reply:
    """Target by the shard key in `query`; the member does the rest."""
    concern = {} if context.in_transaction else await context.write_concern()

    async def attempt() -> Reply:
        await context.service.catalog.create_database(context.db)
        routing = await routing_for(context)
        shard = owner_of_modification(context, routing)
        fields: dict[str, Any] = {"findAndModify": context.collection, **context.options(), **concern}
        fields |= routing.versions(shard)
        if context.retryable or context.in_transaction:
            fields["stmtId"] = context.integer("stmtId")
        return (await ask(context, shard, fields, write=True))[1].body

    try:
        return await until_fresh(context, context.namespace, attempt)
    except RouterError as error:
        if error.code != Code.WouldChangeOwningShard:
            raise
        return await shard_key_updates.serve(context, error, find_and_modify)
