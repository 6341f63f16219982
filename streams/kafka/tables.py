"""Faust's tables, of which a role has none: what is left is the end of a rebalance.

Faust's own manager waits a second for tables to be declared and then runs a recovery over none; a role that was
killed would wait for both before it reads again.
"""

import asyncio
from typing import Any

from faust.tables.manager import TableManager
from faust.types import TP


class NoTables(TableManager):
    """Ends each rebalance at once: the flow goes on as soon as the index knows the partitions."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._flowing = asyncio.Event()

    async def on_start(self) -> None:
        """There is nothing to wait for."""
        await self._update_channels()

    def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """There is no state to let go."""

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """There is nothing to recover; the consumer calls `flow` when the whole chain is through."""

    async def flow(self) -> None:
        """The signal of the new assignment was heard by all: records may arrive."""
        self.app.flow_control.resume()
        self.app.consumer.resume_flow()
        await self.app._fetcher.maybe_start()
        self.on_actives_ready()
        self.on_standbys_ready()
        self.app.on_rebalance_end()
        self._flowing.set()

    async def wait_until_recovery_completed(self) -> bool:
        """Wait for the first assignment; the app's own tasks start after it."""
        return await self.wait_for_stopped(self._flowing)
