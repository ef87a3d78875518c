"""Compare a run's journals with its final documents, workload by workload, and give the verdict.

Called by `ledger.cli` and the controls of `chaos`.  It reads files only; the cluster was read by `ledger.final_state`
and the members are looked at by `ledger.members`.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import final_state
from .checks import effects, keyed
from .checks.staging import MAY, MUST, MUST_NOT, Row, Staging
from .checks.verdict import Verdict
from .journal import CLIENT_BITS, Operation, Run, journal_path, read, read_all
from .workloads import WORKLOADS
from .workloads.orders import REMEMBERED
from .workloads.transfer import ACCOUNTS, INITIAL_CENTS

Document = dict[str, Any]
Progress = Callable[[str], None]


def check(folder: Path, scratch: Path | None = None, progress: Progress = lambda _: None) -> Verdict:
    """Check the run in `folder`.  Raises JournalError if journal or final documents cannot be read.

    `scratch` is where the staging file goes (about 200 bytes an operation); the system's temporary folder if None.
    """
    run = Run.read(folder)
    verdict = Verdict(run=run.id)
    for workload in run.workloads:
        progress(f"checking {workload}")
        with tempfile.TemporaryDirectory(dir=scratch, prefix="ledger-check-") as place, Staging(Path(place)) as staging:
            _CheckOne(folder, workload, staging, verdict).run()
    return verdict


class _CheckOne:
    def __init__(self, folder: Path, workload: str, staging: Staging, verdict: Verdict) -> None:
        self.folder, self.workload, self.staging, self.verdict = folder, workload, staging, verdict
        self.functions = WORKLOADS[workload].effect_functions
        self.placed: dict[int, None] = {}

    def run(self) -> None:
        """Stage, ask, add to the verdict."""
        stage_seen = {
            "orders": self._orders,
            "stock": self._stock,
            "transfer": self._transfers,
            "register": lambda: iter(()),
            "append": self._lists,
        }[self.workload]
        histories = self.workload in {"register", "append"}
        pending: list[Row] = []

        def expected() -> Iterator[Row]:
            for operation in self._journal():
                if operation.function in self.functions:
                    yield expect(self.workload, operation)
                if histories:
                    pending.append(keyed.row(operation))
                    if len(pending) >= 5000:
                        self.staging.fill("history", pending)
                        pending.clear()

        self.staging.fill("expected", expected())
        self.staging.fill("history", pending)
        self.staging.fill("seen", stage_seen())
        self.staging.index()
        before = self.verdict.counts["lost"] + self.verdict.counts["doubled"]
        self._describe(effects.check(self.staging, self.workload, self.verdict))
        if self.workload == "register":
            checked = keyed.check_registers(self.staging, self.verdict)
            self.verdict.checked.append(f"register: {checked:,} registers linearizable or reported")
        elif self.workload == "append":
            reads = keyed.check_lists(self.staging, self.verdict)
            self.verdict.checked.append(f"append: {reads:,} reads against the order of the final lists")
        if self.functions:
            total = next(self.staging.ask("SELECT COUNT(*) FROM expected WHERE must = 1"))[0]
            wrong = self.verdict.counts["lost"] + self.verdict.counts["doubled"] - before
            found = f"{wrong:,} of them not there exactly once" if wrong else "each there exactly once"
            self.verdict.checked.append(f"{self.workload}: {total:,} acknowledged effects, {found}")

    def _journal(self) -> Iterator[Operation]:
        for operation in read_all(self.folder, self.workload):
            self.verdict.count(self.workload, operation.outcome)
            if operation.function in {"place", "advance"}:
                self._notice_vanished_order(operation)
            if operation.function == "audit" and operation.outcome == "ok":
                expected = ACCOUNTS * INITIAL_CENTS
                if operation.result != expected:
                    self.verdict.add(
                        "unbalanced",
                        "transfer",
                        f"a snapshot of all accounts adds up to {operation.result} cents instead of {expected}",
                        (operation.describe(),),
                    )
            yield operation

    def _notice_vanished_order(self, operation: Operation) -> None:
        """A client's own acknowledged order must be found by its next update, not only at the end."""
        if operation.outcome != "ok":
            return
        if operation.function == "place":
            self.placed[operation.token] = None
            if len(self.placed) > 2 * REMEMBERED:
                self.placed.pop(next(iter(self.placed)))
        elif operation.result == 0 and operation.value["order"] in self.placed:
            self.verdict.add(
                "stale", "orders", "an update did not find an order acknowledged before", (operation.describe(),)
            )

    def _describe(self, kept: list[tuple[int, int]]) -> None:
        """Replace tokens by the journal's own words; reads only the journals of the clients concerned."""
        wanted: dict[int, dict[int, list[int]]] = {}
        for index, token in kept:
            client, number = token >> CLIENT_BITS, token & ((1 << CLIENT_BITS) - 1)
            wanted.setdefault(client, {}).setdefault(number, []).append(index)
        for client, numbers in wanted.items():
            path = journal_path(self.folder, self.workload, client)
            if not path.exists():
                continue
            last = max(numbers)
            for operation in read(path):
                for index in numbers.get(operation.number, ()):
                    anomaly = self.verdict.anomalies[index]
                    self.verdict.anomalies[index] = replace(anomaly, operations=(operation.describe(),))
                if operation.number >= last:
                    break

    def _orders(self) -> Iterator[Row]:
        for document in final_state.read(self.folder, "orders"):
            history = document["history"]
            for entry in history:
                placed = entry["status"] == "placed"
                yield (
                    entry["op"],
                    f"order {document['_id']}",
                    f"{document['total_cents']} cents" if placed else entry["status"],
                )
            if not history or history[-1]["status"] != document["status"]:
                self.verdict.add(
                    "tampered",
                    "orders",
                    f"order {document['_id']} is {document['status']}, but its history ends with"
                    f" {history[-1]['status'] if history else 'nothing'}",
                )

    def _stock(self) -> Iterator[Row]:
        for document in final_state.read(self.folder, "stock"):
            name = f"product {document['_id']}"
            units = sum(entry["units"] for entry in document["reservations"])
            initial, available, sold = document["initial"], document["available"], document["sold"]
            if available < 0 or sold > initial:
                self.verdict.add("oversold", "stock", f"{name}: {available} available, {sold} of {initial} sold")
            if not initial - available == sold == units:
                self.verdict.add(
                    "unbalanced",
                    "stock",
                    f"{name}: initial {initial} - available {available} = {initial - available}, sold {sold},"
                    f" reservations add up to {units}",
                )
            for entry in document["reservations"]:
                yield entry["op"], name, f"{entry['units']} units"

    def _transfers(self) -> Iterator[Row]:
        moved = [0] * ACCOUNTS
        for document in final_state.read(self.folder, "transfers"):
            moved[document["source"]] -= document["cents"]
            moved[document["target"]] += document["cents"]
            # The document's _id cannot be there twice on one shard, but a token under two ids is a double all the same.
            yield document["op"], f"{document['source']}>{document['target']}", f"{document['cents']} cents"
        balances: dict[int, int] = {}
        for document in final_state.read(self.folder, "accounts"):
            balances[int(document["_id"])] = document["balance_cents"]
        for account in range(ACCOUNTS):
            expected = INITIAL_CENTS + moved[account]
            if balances.get(account) != expected:
                self.verdict.add(
                    "unbalanced",
                    "transfer",
                    f"account {account} holds {balances.get(account)} cents, its transfers leave {expected}:"
                    " half a transaction took effect",
                )
        total = sum(balances.values())
        if total != ACCOUNTS * INITIAL_CENTS:
            self.verdict.add(
                "unbalanced",
                "transfer",
                f"all accounts hold {total} cents instead of {ACCOUNTS * INITIAL_CENTS}",
            )

    def _lists(self) -> Iterator[Row]:
        documents: list[Row] = []

        def rows() -> Iterable[Row]:
            for document in final_state.read(self.folder, "lists"):
                documents.append((int(document["_id"]), json.dumps(document["items"])))
                for item in document["items"]:
                    yield item, f"list {document['_id']}", None
                if len(documents) >= 1000:
                    self.staging.fill("document", documents)
                    documents.clear()

        yield from rows()
        self.staging.fill("document", documents)


def expect(workload: str, operation: Operation) -> Row:
    """The row of `expected` for an operation with an effect: token, MUST/MAY/MUST_NOT, key, amount."""
    if operation.outcome == "unknown":
        must = MAY
    else:
        must = MUST if operation.outcome == "ok" and operation.result == 1 else MUST_NOT
    value = operation.value
    if workload == "orders":
        amount = f"{value['cents']} cents" if operation.function == "place" else value["status"]
        return operation.token, must, f"order {value['order']}", amount
    if workload == "stock":
        return operation.token, must, f"product {value['product']}", f"{value['units']} units"
    if workload == "transfer":
        return operation.token, must, f"{value['source']}>{value['target']}", f"{value['cents']} cents"
    return operation.token, must, f"list {value['key']}", None
