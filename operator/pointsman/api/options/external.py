"""Options of engine External: where the server is, and how it is known."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from pointsman.api.base import ApiModel, Rule, Text
from pointsman.api.references import CaBundleRef, LocalRef, SecretRef


class Stored(StrEnum):
    """What clients may reach, through a gateway, of what the server keeps under its key."""

    NONE = "None"
    BY_ID = "ById"
    ALL = "All"


class ExternalOptions(ApiModel):
    """A server that someone else runs and that speaks OpenAI's API."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.caBundleRef) || self.url.startsWith('https://')",
            "external.caBundleRef needs a url with https: without TLS there is no certificate to check",
            lambda s: s.ca_bundle_ref is None or s.url.startswith("https://"),
        ),
        Rule(
            "!has(self.clientCertificateRef) || self.url.startsWith('https://')",
            "external.clientCertificateRef needs a url with https: without TLS there is nobody to show it to",
            lambda s: s.client_certificate_ref is None or s.url.startswith("https://"),
        ),
    )

    url: Annotated[
        str,
        Text(
            r"^https?://[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?$",
            "must be the API's base URL with http or https, such as https://api.openai.com/v1 or http://vllm.team.svc:8000/v1",
            1024,
        ),
    ] = Field(description="Base URL of the API, with its version: https://api.openai.com/v1.")
    secret_ref: SecretRef | None = Field(default=None, description="The API key, sent as a bearer token.")
    ca_bundle_ref: CaBundleRef | None = Field(
        default=None,
        description="Certificates of the authorities that may sign the server's; in place of the system's, not beside"
        " them.",
    )
    client_certificate_ref: LocalRef | None = Field(
        default=None,
        description="A Secret of type kubernetes.io/tls (tls.crt, tls.key): the certificate that the gateways show the"
        " server, where it wants one (mutual TLS).",
    )
    stored: Stored = Field(
        default=Stored.BY_ID,
        description="What clients may reach of what the server keeps under this key, whoever made it: None; ById:"
        " chats and responses whose id they know, to read, change, cancel and delete them; All: also the list of stored"
        " chats, and the deletion of models that a route names.",
    )
