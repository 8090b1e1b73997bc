"""Strings with a form: durations, quantities, names. Each says what it wants in one sentence, and reads itself."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated

from pointsman.api.base import Text

_DURATION = r"^([0-9]+(ms|s|m|h))+$"
_QUANTITY = r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|Pi|m|k|M|G|T|P)?$"
_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_UNIT_FACTOR = {
    "": Decimal(1),
    "m": Decimal("0.001"),
    "k": Decimal(10) ** 3,
    "M": Decimal(10) ** 6,
    "G": Decimal(10) ** 9,
    "T": Decimal(10) ** 12,
    "P": Decimal(10) ** 15,
    "Ki": Decimal(2) ** 10,
    "Mi": Decimal(2) ** 20,
    "Gi": Decimal(2) ** 30,
    "Ti": Decimal(2) ** 40,
    "Pi": Decimal(2) ** 50,
}

Duration = Annotated[str, Text(_DURATION, "must be a duration such as 500ms, 5s, 2m or 1h30m", 16)]
Quantity = Annotated[str, Text(_QUANTITY, "must be a quantity such as 500m, 512Mi or 100Gi", 24)]
DnsLabel = Annotated[
    str,
    Text(
        r"^[a-z]([-a-z0-9]*[a-z0-9])?$",
        "must be a name of lower-case letters, digits and '-', beginning with a letter and ending with a letter or"
        " digit, at most 50 characters",
        50,
        1,
    ),
]
ObjectName = Annotated[
    str,
    Text(
        r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
        "must be the name of an object: lower-case letters, digits, '-' and '.', at most 253 characters",
        253,
        1,
    ),
]
ModelName = Annotated[
    str,
    Text(
        r"^[A-Za-z0-9]([A-Za-z0-9._:/@+-]*[A-Za-z0-9])?$",
        "must be a model name: letters, digits and . _ : / @ + -, beginning and ending with a letter or digit,"
        " at most 128 characters",
        128,
        1,
    ),
]
ModelPattern = Annotated[
    str,
    Text(
        r"^(\*|[A-Za-z0-9])([A-Za-z0-9._:/@+*-]*[A-Za-z0-9*])?$",
        "must be a model name or a pattern such as gpt-4o*: letters, digits and . _ : / @ + - and * for any text,"
        " beginning and ending with a letter, a digit or *, at most 128 characters",
        128,
        1,
    ),
]
HeaderName = Annotated[
    str,
    Text(
        r"^[A-Za-z0-9]([-_A-Za-z0-9]*[A-Za-z0-9])?$",
        "must be the name of a header: letters, digits, '-' and '_', at most 64 characters",
        64,
        1,
    ),
]
Money = Annotated[
    str, Text(r"^[0-9]{1,6}(\.[0-9]{1,6})?$", "must be an amount of money such as 0.15, with at most 6 decimals", 13, 1)
]
Digest = Annotated[
    str, Text(r"^sha256:[0-9a-f]{64}$", "must be a digest: sha256: and 64 lower-case hexadecimal digits", 71)
]
SecretKey = Annotated[
    str, Text(r"^[-._A-Za-z0-9]+$", "must be a key of a Secret: letters, digits, '-', '_' and '.'", 253, 1)
]


def seconds(duration: str) -> float:
    """The length of a `Duration` in seconds."""
    return sum(int(n) * _UNIT_SECONDS[u] for n, u in re.findall(r"([0-9]+)(ms|s|m|h)", duration))


def millionths(money: str) -> int:
    """The value of a `Money` in millionths, exactly."""
    whole, _, part = money.partition(".")
    return int(whole) * 1_000_000 + int((part + "000000")[:6])


def amount(quantity: str) -> Decimal:
    """The value of a `Quantity` (bytes, cores), exactly."""
    m = re.match(r"^([0-9]+(?:\.[0-9]+)?)([A-Za-z]*)$", quantity)
    if m is None:
        raise ValueError(f"not a quantity: {quantity!r}")
    return Decimal(m[1]) * _UNIT_FACTOR[m[2]]
