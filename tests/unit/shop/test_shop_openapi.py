"""The OpenAPI document of each service is true: schemathesis asks what it says, and what it says is not taken."""

from __future__ import annotations

import logging
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
import urllib3
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.core.failures import FailureGroup
from schemathesis.core.parameters import ParameterLocation
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.asgi import AsgiClient
from tests.support.shop_apps import SERVICES, app_in_memory, bearer
from tests.support.shop_in_memory import MemoryShop

CASES = 12
"""Of each operation and mode: some 20 s of CPU for all of them."""
CHECKS = [
    allow_header_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
]
SHARED = ("/parked", "/parked/again", "/replay")
"""Every consuming service has them from the same function: tried on the first."""
LIVE = "/stream"
"""It does not end; `test_shop_stream` holds it to its claims."""


class InProcess:
    """Sends schemathesis' cases to an app in this process."""

    def __init__(self, app: Any) -> None:
        self._client = AsgiClient(app)

    def send(self, case: schemathesis.Case[Any], headers: dict[str, str]) -> requests.Response:
        """The answer, as schemathesis reads answers."""
        options = case.as_transport_kwargs(base_url="http://shop", headers=headers)
        known = ("method", "url", "headers", "params", "data", "json", "cookies", "files")
        prepared = requests.Request(**{key: value for key, value in options.items() if key in known}).prepare()
        body = prepared.body or b""
        assert isinstance(body, bytes | str)
        given = {str(k): v.decode("latin-1") if isinstance(v, bytes) else str(v) for k, v in prepared.headers.items()}
        answer = self._client.request(str(prepared.method), prepared.path_url, headers=given, content=body)
        found = requests.Response()
        found.status_code, found.request, found.elapsed = answer.status_code, prepared, timedelta(0)
        found.url = str(prepared.url)
        found.headers.update(answer.headers)
        found.raw = urllib3.HTTPResponse(
            body=answer.content, headers=dict(answer.headers), status=answer.status_code, preload_content=False
        )
        found._content = answer.content
        return found


def has_bad_body(case: schemathesis.Case[Any]) -> bool:
    """Whether its body breaks the document; a query that is not known breaks nothing, it is not looked at."""
    components = case.meta.components if case.meta else {}
    body = components.get(ParameterLocation.BODY)
    return body is not None and body.mode is GenerationMode.NEGATIVE


def problem_of(operation: Any, mode: GenerationMode, app: Any, headers: dict[str, str]) -> str | None:
    """What the service did that its document does not say; None after all cases were as it says."""
    sender = InProcess(app)

    @settings(
        max_examples=CASES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def try_one(case: schemathesis.Case[Any]) -> None:
        answer = sender.send(case, headers)
        assert answer.status_code < 500, f"{case.as_curl_command()}: {answer.text}"
        if answer.status_code >= 400:
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["status"] == answer.status_code
        case.validate_response(answer, checks=[*CHECKS, negative_data_rejection] if has_bad_body(case) else CHECKS)

    try:
        try_one()
    except (AssertionError, FailureGroup) as error:
        return f"{operation.method.upper()} {operation.path}: {error}"
    return None


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: str(mode.value))
@pytest.mark.parametrize("service", SERVICES)
def test_a_service_answers_as_its_openapi_document_says(
    tmp_path: Path, service: str, mode: GenerationMode, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    document = app_in_memory(service, MemoryShop(tmp_path), tmp_path).openapi()
    left_out = {LIVE} | (set() if service == SERVICES[0] else set(SHARED))
    results: list[Any] = list(schemathesis.openapi.from_dict(document).get_all_operations())
    operations = [operation for result in results if (operation := result.ok()).path not in left_out]
    assert {operation.path for operation in operations} == document["paths"].keys() - left_out
    wrong = []
    for number, operation in enumerate(operations):
        # One app for each, or the mistakes that `PUT /rules` asks for would be made by the others.
        folder = tmp_path / str(number)
        app = app_in_memory(service, MemoryShop(folder), folder)
        if problem := problem_of(operation, mode, app, dict(bearer(service))):
            wrong.append(problem)
    assert wrong == []
