"""The table of the store contract says what failed and what was not run, and never more than was seen."""

from __future__ import annotations

from tests.support.store_table import StoreTable, table

MODULE = "tests/integration/shop/store/test_store_contract.py"


def test_a_claim_of_which_one_test_failed_or_did_not_run_has_not_passed() -> None:
    seen = StoreTable()
    for text, outcome in (("$where", "passed"), ("a-b]\n", "passed"), ("{}", "failed")):
        seen.note(f"{MODULE}::test_texts_are_texts[postgres-{text}]", outcome)
        seen.note(f"{MODULE}::test_texts_are_texts[memory-{text}]", "passed")
    seen.note(f"{MODULE}::test_a_claim[memory]", "passed")
    seen.note(f"{MODULE}::test_a_claim[citus]", "skipped", "it is not set")
    seen.note("tests/unit/test_cli.py::test_other[memory]", "failed")
    assert table(seen.seen, seen.reasons) == [
        "| the store's claim | postgres | memory | citus |",
        "|---|---|---|---|",
        "| texts are texts | **failed** | 3 passed | not run |",
        "| a claim | not run | passed | not run |",
        "",
        "- citus: not run: it is not set",
    ]
