"""How often somebody may ask, before any cryptography is done for them (S12, checklist 32)."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Final

_MOST_KEYS: Final = 1 << 16
_HOST_BITS: Final = 64  # of an IPv6 address, which whoever has one network chooses as he likes


def network_of(address: str) -> str:
    """Return whom an address stands for: an IPv4 address for itself, an IPv6 address for its network of 64 bits."""
    parsed = ip_address(address)
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(IPv6Address(int(parsed) >> _HOST_BITS << _HOST_BITS))


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled: float


class RateLimit:
    """A token bucket per key: `burst` at once, then `per_minute`. Remembers a bounded number of keys."""

    def __init__(self, burst: int, per_minute: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._burst = burst
        self._rate = per_minute / 60
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, key: str) -> bool:
        """Return whether `key` may go on now, and count it."""
        now = self._clock()
        bucket = self._buckets.pop(key, None) or _Bucket(self._burst, now)
        bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.filled) * self._rate)
        bucket.filled = now
        allowed = bucket.tokens >= 1
        if allowed:
            bucket.tokens -= 1
        self._buckets[key] = bucket
        if len(self._buckets) > _MOST_KEYS:
            self._buckets.popitem(last=False)  # the one not seen for longest, whose bucket is the fullest
        return allowed
