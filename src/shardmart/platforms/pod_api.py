"""The Kubernetes API as a pod reaches it: with its service account, in its own namespace, and nothing but `urllib`."""

from __future__ import annotations

import json
import os
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from ..errors import UnreachableError

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TIMEOUT_SECONDS = 30


class PodApi:
    """The API of the pod's namespace. Raises UnreachableError when this is no pod with a service account's token."""

    def __init__(self) -> None:
        try:
            self.namespace = (ACCOUNT / "namespace").read_text()
            host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
            context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
        except (OSError, KeyError) as error:
            raise UnreachableError(f"cannot reach the Kubernetes API from here: {error}") from None
        # Past a proxy of the environment, which knows no addresses of this cluster.
        handlers = (urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
        self._open = urllib.request.build_opener(*handlers).open
        self._server = f"https://{f'[{host}]' if ':' in host else host}:{port}"

    def call(
        self, method: str, path: str, body: Any = None, *, group: str = "", content: str = "application/json"
    ) -> Any:
        """The answer to a request below the namespace, of the core API or a `group` such as "apps/v1".

        None when there is no such object.  Raises UnreachableError for every other refusal, with what the API said.
        """
        api = f"apis/{group}" if group else "api/v1"
        request = urllib.request.Request(  # noqa: S310  always https
            f"{self._server}/{api}/namespaces/{self.namespace}/{path}",
            data=json.dumps(body).encode() if body is not None else None,
            method=method,
            headers={"Authorization": f"Bearer {(ACCOUNT / 'token').read_text()}", "Content-Type": content},
        )
        try:
            with self._open(request, timeout=TIMEOUT_SECONDS) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            said = json.loads(error.read() or b"{}").get("message", error.reason)
            raise UnreachableError(f"the Kubernetes API refused: {said}") from None
        except OSError as error:
            raise UnreachableError(f"cannot reach the Kubernetes API from here: {error}") from None
