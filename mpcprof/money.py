"""What a private inference costs in money: machines by the hour, traffic by the GB.

cost = parties x seconds / 3600 x per_hour + bytes sent by all parties / 10^9 x per_gb
"""

import math
import re
from dataclasses import dataclass
from typing import Final

from mpcprof.errors import UsageError

_PRICE: Final = re.compile(
    r"([A-Za-z]*|[$€£¥])\s*(\d+\.?\d*|\.\d+)\s*([A-Za-z]*|[$€£¥])"
)
_SIGNS: Final = {"$": "USD", "€": "EUR", "£": "GBP", "¥": "JPY"}
_DEFAULT_CURRENCY: Final = "USD"
_GB: Final = 1e9
_HOUR_S: Final = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Money:
    """An amount of a currency.

    Attributes:
        currency: Its code, such as "USD".
    """

    amount: float
    currency: str = _DEFAULT_CURRENCY

    def __str__(self) -> str:
        return f"{self.amount:.4g} {self.currency}"


def parse_money(text: str) -> Money:
    """Read `3.06`, `$3.06`, `3.06 USD` or `EUR 3`; without a currency it is USD.

    Raises:
        UsageError: If it is no amount of at least 0.
    """
    match = _PRICE.fullmatch(text.strip())
    if match is None or (match[1] and match[3]):
        raise UsageError(f"{text!r} is not a price; expected 3.06, $3.06 or 3.06EUR")
    unit = match[1] or match[3] or _DEFAULT_CURRENCY
    return Money(amount=float(match[2]), currency=_SIGNS.get(unit, unit))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """What calls cost.

    Attributes:
        machines: For the hours of all parties.
        traffic: For the bytes that all parties send.
    """

    machines: float
    traffic: float
    currency: str

    @property
    def total(self) -> Money:
        """Machines and traffic together."""
        return Money(amount=self.machines + self.traffic, currency=self.currency)

    def __str__(self) -> str:
        parts = [
            Money(amount=amount, currency=self.currency)
            for amount in (self.machines, self.traffic)
        ]
        return f"{self.total} ({parts[0]} of machines, {parts[1]} of traffic)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tariff:
    """What machines and traffic are paid for.

    Attributes:
        per_hour: Price of an hour of the machine of one party; it is paid for while the
            party waits, too.
        per_gb: Price of 10^9 bytes that a party sends.
        currency: Currency of both.
    """

    per_hour: float = 0.0
    per_gb: float = 0.0
    currency: str = _DEFAULT_CURRENCY

    def __post_init__(self) -> None:
        for price in (self.per_hour, self.per_gb):
            if not 0 <= price < math.inf:
                raise UsageError(f"a price of {price}: expected a number from 0 on")

    def bill(
        self,
        *,
        n_parties: int,
        latency_s: float,
        total_bytes_sent: float,
        n_inputs: int = 1,
    ) -> Bill:
        """Return what each of the inputs of one call costs.

            >>> tariff = Tariff(per_hour=3.6, per_gb=0.1)
            >>> str(tariff.bill(n_parties=2, latency_s=10, total_bytes_sent=1e9))
            '0.12 USD (0.02 USD of machines, 0.1 USD of traffic)'

        Args:
            n_inputs: Inputs that share the call.
        """
        hours = n_parties * latency_s / _HOUR_S
        return Bill(
            machines=hours * self.per_hour / n_inputs,
            traffic=total_bytes_sent / _GB * self.per_gb / n_inputs,
            currency=self.currency,
        )


def make_tariff(per_hour: Money | None, per_gb: Money | None) -> Tariff | None:
    """Return the tariff of two prices; None if neither is given.

    Raises:
        UsageError: If they are of two currencies.
    """
    given = [price for price in (per_hour, per_gb) if price is not None]
    if not given:
        return None
    currencies = {price.currency for price in given}
    if len(currencies) > 1:
        raise UsageError(
            f"--price-per-hour {per_hour} and --price-per-GB {per_gb}: expected one "
            "currency"
        )
    return Tariff(
        per_hour=per_hour.amount if per_hour else 0.0,
        per_gb=per_gb.amount if per_gb else 0.0,
        currency=given[0].currency,
    )
