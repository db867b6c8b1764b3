"""What the licence of weights permits, by the list in `data/licences.yaml`."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from vtbench.base.errors import RegistryError
from vtbench.base.locations import data_dir
from vtbench.base.schema import describe_invalid, load_yaml
from vtbench.registry.entries import Entry

LicenceClass = Literal["free", "non-commercial", "unclear"]


@functools.cache
def licence_classes() -> Mapping[str, LicenceClass]:
    """Return the class of each licence, by the words in which entries state it.

    Raises:
        RegistryError: for a malformed file, or a licence of two classes.
    """
    path = data_dir() / "licences.yaml"
    data, lines = load_yaml(path, RegistryError)
    try:
        listed = TypeAdapter(dict[LicenceClass, list[str]]).validate_python(data)
    except ValidationError as error:
        raise RegistryError(*describe_invalid(path, error, lines)) from None
    classes: dict[str, LicenceClass] = {}
    for name, licences in listed.items():
        for licence in licences:
            if licence in classes:
                raise RegistryError(f"{path}: {licence!r} is both {classes[licence]} and {name}")
            classes[licence] = name
    return classes


def classify_licence(entry: Entry) -> LicenceClass:
    """Return the class of the weights' licence, or of the code's where there are no weights; one that
    is not listed is unclear."""
    stated = entry.licence if entry.weights is None else entry.weights.licence
    return licence_classes().get(stated or "", "unclear")
