"""The fields the tangent engine runs over: floats, and integers mod p held in float64.

A field says how a stored real number becomes one of its elements, how products are summed, and how
a result is brought back to a canonical element. Residues are centred and p < 2^20, so a product is
below 2^38 and sums of up to 2^14 products are exact in float64; longer sums are split
(shared design; theory.md 5.2: floats are dyadic, so every odd p divides no denominator).
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from theory.errors import InputError

#: products that can be summed exactly: 2^14 * 2^19 * 2^19 = 2^52
LONGEST_SUM = 1 << 14


@dataclass(frozen=True)
class FloatField:
    """Real numbers rounded to ``dtype`` (torch.float32 or torch.float64)."""

    dtype: torch.dtype = torch.float64
    prime: int = 0

    @property
    def name(self) -> str:
        """``float32`` or ``float64``."""
        return str(self.dtype).removeprefix("torch.")

    def constant(self, value: Tensor) -> Tensor:
        """A stored tensor as field elements, a copy: the module may change its own while they are used."""
        return value.to(self.dtype, copy=True)

    def scalar(self, value: float) -> float:
        """A stored number as a field element."""
        return float(value)

    def fraction(self, numerator: int, denominator: int) -> float:
        """An exact fraction as a field element."""
        return numerator / denominator

    def reduce_(self, value: Tensor) -> Tensor:
        """Canonical representative; in place where the field needs any work."""
        return value

    def matmul(
        self, a: Tensor, b: Tensor, onto: Tensor | None = None, out: Tensor | None = None
    ) -> Tensor:
        """``a @ b`` of 2-d or batched 3-d tensors, into ``out``, or ``onto + a @ b`` of batches in place."""
        if onto is not None:
            return onto.baddbmm_(a, b)
        # ``@`` of a batch takes 10 us more, which thousands of small products feel
        return torch.bmm(a, b, out=out) if a.ndim == 3 else torch.mm(a, b, out=out)


@dataclass(frozen=True)
class ModField:
    """Integers mod an odd prime below 2^20, centred residues held in float64."""

    prime: int
    dtype: torch.dtype = torch.float64

    def __post_init__(self) -> None:
        if not (2 < self.prime < 1 << 20 and is_prime(self.prime)):
            raise InputError(f"the field needs an odd prime below 2^20, got {self.prime}")

    @property
    def name(self) -> str:
        """``mod p``."""
        return f"mod {self.prime}"

    def constant(self, value: Tensor) -> Tensor:
        """Residues of a tensor of floats, each the exact dyadic rational that it stores.

        Raises:
            InputError: an entry is NaN or infinite.
        """
        if value.dtype in (torch.bool, torch.int64, torch.int32, torch.uint8):
            return self.reduce_(value.to(torch.float64))
        value = value.to(torch.float64)
        if not bool(torch.isfinite(value).all()):
            raise InputError("a constant of the network is NaN or infinite: it has no residue")
        mantissa, exponent = torch.frexp(value)
        integer = (mantissa * 2.0**53).to(torch.int64)
        powers = _powers_of_two(self.prime).to(value.device)
        residue = integer.remainder(self.prime) * powers[exponent.long() + 1100]
        return self.reduce_(residue.remainder(self.prime).to(torch.float64))

    def scalar(self, value: float) -> float:
        """Residue of one float."""
        return self.fraction(*float(value).as_integer_ratio())

    def fraction(self, numerator: int, denominator: int) -> float:
        """Residue of an exact fraction whose denominator p does not divide."""
        if denominator % self.prime == 0:
            raise InputError(f"the prime {self.prime} divides the denominator {denominator}")
        residue = numerator * pow(denominator, -1, self.prime) % self.prime
        return float(residue - self.prime if residue > self.prime // 2 else residue)

    def reduce_(self, value: Tensor) -> Tensor:
        """Centred residues, in place; entries are integers below 2^53 in absolute value."""
        quotient = (value * (1.0 / self.prime)).round_()
        return value.sub_(quotient, alpha=self.prime)

    def matmul(
        self, a: Tensor, b: Tensor, onto: Tensor | None = None, out: Tensor | None = None
    ) -> Tensor:
        """The same mod p; the inner sum is split so that every partial sum is exact."""
        if onto is not None:
            return self.reduce_(onto.add_(self.matmul(a, b)))
        inner = a.shape[-1]
        if inner <= LONGEST_SUM:
            return self.reduce_(torch.matmul(a, b, out=out))
        total: Tensor | None = None
        for start in range(0, inner, LONGEST_SUM):
            stop = min(inner, start + LONGEST_SUM)
            part = self.reduce_(a[..., start:stop] @ b[..., start:stop, :])
            total = part if total is None else total.add_(part)
        assert total is not None
        total = self.reduce_(total)
        return total if out is None else out.copy_(total)

    def inverse(self, value: Tensor) -> Tensor:
        """Inverses mod p (0 to 0)."""
        return self.table_lookup(_inverses(self.prime), value)

    def root(self, value: Tensor, seed: int) -> Tensor:
        """A fixed square root: ``r^2 = v``, or ``r^2 = g v`` where v is no square mod p.

        g is the least non-square: the root of such a v lies in the quadratic extension, a multiple
        of the root of g. Equal inputs give equal outputs; the sign is random.
        """
        return self.table_lookup(_roots(self.prime, seed), value)

    def function(self, name: str, value: Tensor, seed: int) -> Tensor:
        """A fixed random function of the residue: equal inputs give equal outputs."""
        return self.table_lookup(_random_table(self.prime, name, seed), value)

    def table_lookup(self, table: Tensor, value: Tensor) -> Tensor:
        """``table[v mod p]`` entry by entry."""
        return table.to(value.device)[value.remainder(self.prime).long()]


Field = FloatField | ModField


@lru_cache(maxsize=8)
def _powers_of_two(prime: int) -> Tensor:
    """2^(e - 53) mod p for the exponents e = -1100 .. 1100 of ``frexp``."""
    return torch.tensor([pow(2, e - 53, prime) for e in range(-1100, 1101)], dtype=torch.int64)


@lru_cache(maxsize=4)
def _inverses(prime: int) -> Tensor:
    base = torch.arange(prime, dtype=torch.int64)
    result, power = torch.ones_like(base), prime - 2
    while power:
        if power & 1:
            result = result * base % prime
        base = base * base % prime
        power >>= 1
    return _centred(result, prime)


@lru_cache(maxsize=4)
def _roots(prime: int, seed: int) -> Tensor:
    half = torch.arange(prime // 2 + 1, dtype=torch.int64)
    table = torch.full((prime,), -1, dtype=torch.int64)
    table[half * half % prime] = half
    others = (table < 0).nonzero().flatten()
    table[others] = table[others * others[0] % prime]
    signs = torch.randint(0, 2, (prime,), generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return _centred((table * signs).remainder(prime), prime)


@lru_cache(maxsize=24)
def _random_table(prime: int, name: str, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(random.Random(f"{name}/{seed}").getrandbits(62))
    return _centred(torch.randint(1, prime, (prime,), generator=generator), prime)


def _centred(value: Tensor, prime: int) -> Tensor:
    return torch.where(value > prime // 2, value - prime, value).to(torch.float64)


def is_prime(n: int) -> bool:
    """Trial division; n is below 2^20."""
    return n > 1 and all(n % d for d in range(2, int(n**0.5) + 1))


def random_primes(count: int, seed: int) -> tuple[int, ...]:
    """``count`` different primes drawn at random from (2^19, 2^20), theory.md 5.2.

    Raises:
        InputError: fewer than one prime is asked for.
    """
    if count < 1:
        raise InputError(f"at least one prime is needed, got --primes {count}")
    draw = random.Random(seed)
    found: list[int] = []
    while len(found) < count:
        n = draw.randrange((1 << 19) + 1, 1 << 20, 2)
        if is_prime(n) and n not in found:
            found.append(n)
    return tuple(found)
