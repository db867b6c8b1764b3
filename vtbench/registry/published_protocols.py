"""The protocols of published numbers: `data/published_protocols.yaml`."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, TypeAdapter, ValidationError, model_validator

from vtbench.base.errors import RegistryError
from vtbench.base.locations import data_dir
from vtbench.base.schema import Strict, describe_invalid, load_yaml

MetricKey = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*(@[a-z0-9-]+)?$")]


class PublishedProtocol(Strict):
    """How a table of published numbers was made, as far as its source says; null is "not stated".

    Attributes:
        source: The paper and table, README or model card.
        standing: "verified" where the number was read in the source itself, "second-hand" where it
            comes from another's account of it.
        data: The set, named as suites name it.
        n: Images.
        size: Of the measured square in pixels, or "native".
        crop: Named as in suites (adm, center, …).
        reference: What a set-level metric compares with.
        posterior: Which point of a latent distribution.
        departs: By metric, how its definition differs from vtbench's of that key.

    A value of `lpips` is one whose network the source does not state.
    """

    source: str
    url: Annotated[str, Field(pattern=r"^https://\S+$")] | None
    standing: Literal["verified", "second-hand"]
    data: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
    n: Annotated[int, Field(ge=1)] | None
    size: Annotated[int, Field(ge=1)] | Literal["native"] | None
    crop: str | None
    reference: str | None = None
    posterior: Literal["mode", "sample"] | None = None
    departs: dict[MetricKey, str] = Field(default_factory=dict)
    note: str | None = None

    @model_validator(mode="after")
    def _verified_has_an_address(self) -> PublishedProtocol:
        if self.standing == "verified" and self.url is None:
            raise ValueError("what was verified has a url where it was read")
        return self


class Reported(Strict):
    """Numbers that somebody published of a tokenizer under one protocol.

    protocol: a name of `data/published_protocols.yaml`, or the protocol itself. named: what the source
    calls the tokenizer, where that does not settle which checkpoint it is. decoder: steps, guidance,
    noise or a refiner that the number depends on.
    """

    protocol: Annotated[
        Annotated[str, Tag("protocol-name")] | Annotated[PublishedProtocol, Tag("own-protocol")],
        Discriminator(lambda value: "protocol-name" if isinstance(value, str) else "own-protocol"),
    ]
    values: Annotated[
        dict[MetricKey, Annotated[float, Field(allow_inf_nan=False)]], Field(min_length=1)
    ]
    named: str | None = None
    decoder: str | None = None


def protocols_path() -> Path:
    """Return the file of the protocols of published numbers."""
    return data_dir() / "published_protocols.yaml"


@functools.cache
def published_protocols() -> Mapping[str, PublishedProtocol]:
    """Return the protocols that entries name, by name. Raises RegistryError with file and line."""
    data, lines = load_yaml(protocols_path(), RegistryError)
    try:
        return TypeAdapter(dict[str, PublishedProtocol]).validate_python(data)
    except ValidationError as error:
        raise RegistryError(*describe_invalid(protocols_path(), error, lines)) from None
