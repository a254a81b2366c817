"""Fixed-point tensors of many digits: integer slices in float64, with one rigorous error bound.

A value is ``sum_k d_k * B^k`` with B = 2^20 and integers ``|d_k| <= 2^19`` held in float64, so a matrix
product of one digit with one digit of a stored weight is exact in float64 (the Ozaki scheme: Ozaki,
Ogita, Oishi and Rump 2012, Error-free transformations of matrix multiplication). Digits below a
chosen place are rounded away and what they held enters the bound, which is over the whole tensor in
the maximum norm. Nothing else is rounded: a bound of 0 says that the value is exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from theory.errors import InputError

BITS = 20
BASE = 2.0**BITS
#: largest absolute value of an integer that may be added up in float64 (2^53 with one bit to spare)
LIMIT = 2.0**52
#: products of two digits that one matrix product may sum: 2^14 * 2^19 * 2^19 = 2^52
LONGEST = 1 << 14
#: widens a bound that was itself computed in float64 by a few thousand operations
SLACK = 1 + 2.0**-30


@dataclass(frozen=True)
class Fixed:
    """A tensor in fixed point.

    Attributes:
        digits: lowest place first; integers of at most 2^19 in absolute value, in float64.
        low: place of the first digit: it counts multiples of ``B^low``.
        error: no entry of the true tensor is farther than this from the entry held.
    """

    digits: tuple[Tensor, ...]
    low: int
    error: float

    @property
    def shape(self) -> torch.Size:
        """Shape of the tensor."""
        return self.digits[0].shape

    def approximate(self) -> Tensor:
        """The values in float64; the sign is exact, 0 only where every digit is 0.

        Adding from the lowest place up, a leading digit outweighs all below it: they sum to at most
        ``0.5000005 * B^k`` where it is at least ``B^k``.
        """
        total = torch.zeros_like(self.digits[0])
        for k, digit in enumerate(self.digits):
            total = total + digit * BASE ** (self.low + k)
        return total

    def largest(self) -> float:
        """An upper bound of the absolute values held."""
        return float(self.approximate().abs().max()) * SLACK if self.digits[0].numel() else 0.0

    def each(self, move: Callable[[Tensor], Tensor]) -> Fixed:
        """Entries moved, selected or repeated, digit by digit."""
        return Fixed(tuple(move(d) for d in self.digits), self.low, self.error)

    def where(self, mask: Tensor, other: Fixed) -> Fixed:
        """``mask ? self : other``, entry by entry."""
        a, b, low = _aligned(self, other)
        digits = tuple(torch.where(mask, x, y) for x, y in zip(a, b, strict=True))
        return Fixed(digits, low, max(self.error, other.error))


@dataclass
class Sum:
    """Integers added up place by place, with a bound that says when to carry.

    ``places[k]`` counts multiples of ``B^k``; ``bounds[k]`` bounds its entries and every partial sum.
    """

    places: dict[int, Tensor] = field(default_factory=dict)
    bounds: dict[int, float] = field(default_factory=dict)

    def add(self, place: int, value: Tensor, bound: float) -> None:
        """Add integers of at most ``bound`` (no more than 2^52) in absolute value."""
        assert bound <= LIMIT, bound
        if self.bounds.get(place, 0.0) + bound > LIMIT:
            self.settle(place)
        held = self.places.get(place)
        self.places[place] = value if held is None else held + value
        self.bounds[place] = self.bounds.get(place, 0.0) + bound

    def settle(self, place: int) -> None:
        """Carry: leave a digit of at most 2^19 at ``place``."""
        value = self.places[place]
        carry = (value * (1 / BASE)).round_()
        self.places[place] = value.sub(carry, alpha=BASE)
        bound, self.bounds[place] = self.bounds[place], BASE / 2
        if bound > BASE / 2 and bool(carry.any()):
            self.add(place + 1, carry, bound / BASE + 1)

    def finish(self, bottom: int, error: float) -> Fixed:
        """Digits down to place ``bottom``; what is rounded away enters the error."""
        place, digits = min(self.places), {}
        while place <= max(self.places):
            if place in self.places:
                self.settle(place)
                digit = self.places[place]
                if place < bottom:
                    error += _largest(digit) * BASE**place
                else:
                    digits[place] = digit
            place += 1
        return trimmed(digits, next(iter(self.places.values())), error * SLACK)


def trimmed(digits: dict[int, Tensor], like: Tensor, error: float) -> Fixed:
    """A fixed-point tensor without zero digits at either end."""
    kept = [k for k in sorted(digits) if bool(digits[k].any())]
    if not kept:
        return Fixed((torch.zeros_like(like),), 0, error)
    places = range(kept[0], kept[-1] + 1)
    filled = tuple(digits[k] if k in digits else torch.zeros_like(like) for k in places)
    return Fixed(filled, kept[0], error)


def stored(value: Tensor, bottom: int) -> Fixed:
    """A tensor of floats, each the dyadic rational it stores, down to place ``bottom``.

    Raises:
        InputError: an entry is NaN or infinite.
    """
    value = value.detach().to(torch.float64)
    if not bool(torch.isfinite(value).all()):
        raise InputError("a constant of the network is NaN or infinite: it has no digits")
    rest, digits = value, {}
    top = _largest(value)
    place = max(bottom, math.frexp(top)[1] // BITS + 1) if top else bottom
    while place >= bottom and bool(rest.any()):
        digit = (rest * BASE**-place).round_()
        rest = rest - digit * BASE**place  # exact: a multiple of rest's last bit, and no larger
        digits[place] = digit
        place -= 1
    return trimmed(digits, value, _largest(rest))


def add(x: Fixed, y: Fixed, bottom: int) -> Fixed:
    """``x + y``, broadcast."""
    total = Sum()
    for term in (x, y):
        for k, digit in enumerate(term.digits):
            total.add(term.low + k, digit, BASE / 2)
    shape = torch.broadcast_shapes(x.shape, y.shape)  # type: ignore[no-untyped-call]
    out = total.finish(bottom, x.error + y.error)
    return out.each(lambda d: d.expand(shape))


def negative(x: Fixed) -> Fixed:
    """``-x``."""
    return x.each(torch.neg)


@dataclass(frozen=True)
class Linear:
    """A linear map of one tensor with stored coefficients, as the digits see it.

    Attributes:
        prepare: once for each digit of the input (im2col, for instance).
        multiply: (prepared digit, digit of the coefficients) -> terms of the product, each a sum of
            at most 2^14 products.
        weigh: the largest sum of absolute values over the coefficients of one output.
    """

    prepare: Callable[[Tensor], Tensor]
    multiply: Callable[[Tensor, Tensor], Sequence[Tensor]]
    weigh: Callable[[Tensor], float]


def apply(x: Fixed, coefficients: Tensor, bottom: int, linear: Linear) -> Fixed:
    """A linear map with stored coefficients; entries of the result are off by at most its error.

    ``error(out) <= max_o ||w_o||_1 * error(x)`` plus what is rounded away: the products of digits that
    lie two places below ``bottom``, the coefficients' digits that only such products would read, and
    the rounding of the sum.
    """
    guard = bottom - 1
    w = stored(coefficients, guard - (x.low + len(x.digits) - 1))
    error = linear.weigh(coefficients.abs().double()) * SLACK * x.error
    if w.error:
        missing = coefficients.double() - w.approximate()  # float64 holds both: digits of one float
        error += linear.weigh(missing.abs()) * SLACK * x.largest()
    sizes = [linear.weigh(v.abs()) for v in w.digits]
    total = Sum()
    for i, digit in enumerate(x.digits):
        largest = _largest(digit)
        prepared: Tensor | None = None
        for j, v in enumerate(w.digits):
            place = x.low + i + w.low + j
            if not (sizes[j] and largest):
                continue
            if place < guard:
                error += sizes[j] * largest * BASE**place * SLACK
                continue
            if prepared is None:
                prepared = linear.prepare(digit)
            bound = min(sizes[j] * largest, LIMIT)
            for term in linear.multiply(prepared, v):
                total.add(place, term, bound)
    if not total.places:
        shape = linear.multiply(linear.prepare(x.digits[0]), w.digits[0])[0]
        return Fixed((torch.zeros_like(shape),), 0, error * SLACK)
    return total.finish(bottom, error)


def scale(x: Fixed, factor: Tensor, bottom: int) -> Fixed:
    """Entry by entry times a stored tensor that broadcasts."""
    entrywise = Linear(lambda d: d, lambda d, v: [d * v], lambda a: _largest(a))
    return apply(x, factor, bottom, entrywise)


def divide(x: Fixed, divisor: Tensor, bottom: int) -> Fixed:
    """Entry by entry by positive integers below 2^31 (a tensor that broadcasts), by long division."""
    assert float(divisor.min()) >= 1
    assert float(divisor.max()) < 2.0**31
    total = Sum()
    rest = torch.zeros_like(x.digits[0])
    places = range(x.low + len(x.digits) - 1, min(bottom - 1, x.low - 1) - 1, -1)
    for place in places:
        rest = rest * BASE
        if place >= x.low:
            rest = rest + x.digits[place - x.low]
        quotient = (rest / divisor).round_()  # off by one at most: the remainder is exact anyway
        rest = rest - quotient * divisor
        total.add(place, quotient, 2.0**23)
    error = x.error / float(divisor.min())
    left = (rest.abs() / divisor).max() if rest.numel() else 0.0
    return total.finish(bottom, (error + float(left) * BASE ** places[-1]) * SLACK)


def _aligned(x: Fixed, y: Fixed) -> tuple[list[Tensor], list[Tensor], int]:
    """The digits of both over the same places."""
    low = min(x.low, y.low)
    high = max(v.low + len(v.digits) for v in (x, y))

    def fill(v: Fixed) -> list[Tensor]:
        zero = torch.zeros_like(v.digits[0])
        inside = range(v.low, v.low + len(v.digits))
        return [v.digits[k - v.low] if k in inside else zero for k in range(low, high)]

    return fill(x), fill(y), low


def _largest(value: Tensor) -> float:
    return float(value.abs().max()) if value.numel() else 0.0
