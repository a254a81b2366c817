"""Fixed-point tensors of many digits: integer slices in float64, with one rigorous error bound.

A value is ``sum_k d_k * B^k`` with B = 2^20 and integers ``|d_k| <= 2^19`` held in float64, so a matrix
product of one digit with one digit of a stored weight is exact in float64 (the Ozaki scheme: Ozaki,
Ogita, Oishi and Rump 2012, Error-free transformations of matrix multiplication). Digits below a
chosen place are rounded away and what they held enters the bound, which is over the whole tensor in
the maximum norm. Nothing else is rounded: a bound of 0 says that the value is exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable
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
        total = torch.zeros_like(self.digits[0], memory_format=torch.contiguous_format)
        for k, digit in enumerate(self.digits):
            total.add_(digit, alpha=BASE ** (self.low + k))
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

    ``places[k]`` counts multiples of ``B^k``; ``bounds[k]`` bounds its entries and every partial sum;
    ``owned`` are the places whose tensor is this sum's own and may be changed in place.
    """

    places: dict[int, Tensor] = field(default_factory=dict)
    bounds: dict[int, float] = field(default_factory=dict)
    owned: set[int] = field(default_factory=set)

    def add(self, place: int, value: Tensor, bound: float, *, own: bool = False) -> None:
        """Add integers of at most ``bound`` (no more than 2^52) in absolute value."""

        def put(held: Tensor | None) -> Tensor:
            if held is None:
                return value
            if place in self.owned and held.shape == value.shape:
                return held.add_(value)
            return held + value

        fresh = place not in self.places
        self.accumulate(place, put, bound)
        if fresh and not own:
            self.owned.discard(place)

    def accumulate(self, place: int, put: Callable[[Tensor | None], Tensor], bound: float) -> None:
        """Replace what is held by ``put(held)``, which adds integers of at most ``bound``."""
        assert bound <= LIMIT, bound
        if self.bounds.get(place, 0.0) + bound > LIMIT:
            self.settle(place)
        self.places[place] = put(self.places.get(place))
        self.bounds[place] = self.bounds.get(place, 0.0) + bound
        self.owned.add(place)

    def settle(self, place: int) -> None:
        """Carry: leave a digit of at most 2^19 at ``place``."""
        value, bound = self.places[place], self.bounds[place]
        if bound <= BASE / 2:
            return
        carry = (value * (1 / BASE)).round_()
        if place in self.owned:
            value.sub_(carry, alpha=BASE)
        else:
            self.places[place] = value.sub(carry, alpha=BASE)
            self.owned.add(place)
        self.bounds[place] = BASE / 2
        self.add(place + 1, carry, bound / BASE + 1, own=True)

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
    places = sorted(digits)
    while places and not _largest(digits[places[-1]]):
        places.pop()
    while places and not _largest(digits[places[0]]):
        places.pop(0)
    if not places:
        return Fixed((torch.zeros_like(like),), 0, error)
    between = range(places[0], places[-1] + 1)
    filled = tuple(digits[k] if k in digits else torch.zeros_like(like) for k in between)
    return Fixed(filled, places[0], error)


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
    while place >= bottom and _largest(rest):
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
        multiply: (what is held or None, prepared digit, digit of the coefficients, part) -> the
            product added to what is held, in place where that is possible.
        parts: into how many parts the products are split, of at most 2^14 products each.
        weigh: the largest sum of absolute values over the coefficients of one output.
    """

    prepare: Callable[[Tensor], Tensor]
    multiply: Callable[[Tensor | None, Tensor, Tensor, int], Tensor]
    weigh: Callable[[Tensor], float]
    parts: int = 1


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
        prepared: Tensor | None = None
        for j, v in enumerate(w.digits):
            place = x.low + i + w.low + j
            if place < guard:
                error += sizes[j] * _largest(digit) * BASE**place * SLACK
                continue
            if prepared is None:
                prepared = linear.prepare(digit)
            bound = min(sizes[j] * BASE / 2, LIMIT)
            for part in range(linear.parts):
                total.accumulate(place, _multiplied(linear, prepared, v, part), bound)
    if not total.places:
        shape = linear.multiply(None, linear.prepare(x.digits[0]), w.digits[0], 0)
        return Fixed((torch.zeros_like(shape),), 0, error * SLACK)
    return total.finish(bottom, error)


def _multiplied(
    linear: Linear, prepared: Tensor, w: Tensor, part: int
) -> Callable[[Tensor | None], Tensor]:
    return lambda held: linear.multiply(held, prepared, w, part)


def scale(x: Fixed, factor: Tensor, bottom: int) -> Fixed:
    """Entry by entry times a stored tensor that broadcasts."""

    def multiply(held: Tensor | None, digit: Tensor, v: Tensor, _: int) -> Tensor:
        return digit * v if held is None else held.addcmul_(digit, v)

    entrywise = Linear(lambda d: d, multiply, _largest)
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
        total.add(place, quotient, 2.0**23, own=True)
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
    if not value.numel():
        return 0.0
    low, high = torch.aminmax(value)
    return max(float(high), -float(low))
