"""Only the package `platforms` asks which platform it is, and only the description takes a place out of plain data."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
QUESTION = re.compile(
    r"platform\W*(==|!=)|\bmatch .*platform|\.platform\W+(is|not|in)\b|\bplatform\s+(is not|is|not in|in)\s*[\[({\"']"
)
"""Words of prose ("on this platform in two steps") are none."""
PLACE = re.compile(r"""\[["'](host|port)["']\]""")
REPLIES_OF_MONGODB = {
    "src/shardmart/shop/console/cluster.py",  # listShards
    "src/shardmart/cluster/converge/replica_set.py",  # replSetGetConfig
    "src/shardmart/cluster/converge/sharding.py",  # listShards
    "src/shardmart/loader/survey.py",  # $collStats
    "src/shardmart/router/routing/catalog.py",  # config.shards
}


def lines(pattern: re.Pattern[str], *folders: str) -> list[str]:
    """ "file:line: text" of every line of a text file in these folders that the pattern finds."""
    listed = subprocess.run(["git", "ls-files", *folders], cwd=ROOT, capture_output=True, text=True, check=True)
    files = [ROOT / name for name in listed.stdout.splitlines()]
    return [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()}"
        for file in files
        if file.is_file() and file.suffix in {".py", ".yml", ".j2"}
        for number, line in enumerate(file.read_text().splitlines(), start=1)
        if pattern.search(line)
    ]


@pytest.mark.parametrize(
    "line",
    [
        "if platform == 'kind':",
        'if cluster["platform"] != "embedded":',
        "when: cluster.platform == 'kubernetes'",
        "when: cluster.platform in ['kubernetes']",
        'return platform in {"embedded"}',
        "match cluster.platform:",
        "if state.description().platform is KUBERNETES:",
    ],
)
def test_question_is_recognised(line: str) -> None:
    assert QUESTION.search(line)


def test_nobody_else_asks_which_platform_it_is() -> None:
    asked = lines(QUESTION, "src", "plugins", "roles", "playbooks", "site.yml")
    assert [line for line in asked if not line.startswith("src/shardmart/platforms/")] == []


def test_nobody_takes_host_and_port_out_of_plain_data() -> None:
    taken = lines(PLACE, "src", "plugins")
    typed_here = (
        "cluster/description.py",
        "cluster/shop.py",
        "fragments/configuration.py",
        "ledger/regions/connections.py",  # the ledger reads what `make fragments` noted, and imports nothing of it
    )
    options = "plugins/modules/postgres_servers.py"  # what a play gives its module
    allowed = (*(f"src/shardmart/{file}" for file in typed_here), options, *REPLIES_OF_MONGODB)
    assert [line for line in taken if not line.startswith(allowed)] == []
