"""Claims of `shardmart.command`: what the environment of a command may not decide."""

from __future__ import annotations

import psycopg
import pytest
import typer

from shardmart import command


def test_a_variable_of_postgresql_leads_no_command_to_another_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would be told the password that belongs to the server whose address was given."""
    for name, value in {"PGHOSTADDR": "127.0.0.2", "PGSERVICE": "another", "PGSSLMODE": "require"}.items():
        monkeypatch.setenv(name, value)
    app = typer.Typer()

    @app.command()
    def connect() -> None:
        with pytest.raises(psycopg.OperationalError, match=r'server at "127\.0\.0\.1", port 1 failed'):
            psycopg.connect(host="127.0.0.1", port=1, user="shop", password="x", dbname="shop", connect_timeout=5)

    assert command.run_app(app, "connect", []) == 0
