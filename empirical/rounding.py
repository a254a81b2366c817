"""Is the recorded pattern the true one? A forward pass in fixed point with a rigorous error bound.

The float64 pass records the side of every kink and the winner of every window. Here the same module
runs on fixed-point tensors (``empirical.fixed_point``): each operation is exact or widens one bound
``e`` on the whole tensor, so a unit farther from its kink than ``e`` is certainly on the side where it
is held. Precision doubles until every choice that matters is decided (theory.md 5.1).
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from empirical.fixed_point import BITS, Fixed, add, stored
from empirical.pattern import Choice
from empirical.tangents import Rule, registrar
from empirical.threads import no_autograd
from theory.errors import UnsupportedError

#: digits after the point (20 bits each): of a first, cheap pass, and at most
FEWEST, MOST = 2, 48
#: bits that tell a unit from its kink beyond what the error bound takes: margins of 2^-30 are decided
SPARE = 30
RULES: dict[Any, Rule] = {}


#: registers ``f(session, func, *args, **kwargs)`` as the bounded form of the aten operations
rule = registrar(RULES)


@dataclass(frozen=True)
class PatternCheck:
    """Whether the recorded pattern is that of the exact network, and how it is known.

    Attributes:
        certified: every choice that matters lies farther from its kink than the error bound, on
            the recorded side.
        why: in words; names the operation without a bound, or what differs.
        bits: bits after the point of the last pass.
        error: the largest error bound at a choice.
        margin: smallest distance of a decided unit from its kink, less the error bound there.
        units: choices that matter (unit and kink).
        undecided: how many lie within the error bound of their kink.
        differs: how many are certainly not what the float64 pass recorded.
        seconds: time taken, all precisions.
    """

    certified: bool
    why: str
    bits: int = 0
    error: float = 0.0
    margin: float = float("inf")
    units: int = 0
    undecided: int = 0
    differs: int = 0
    seconds: float = 0.0


class _UndecidedError(Exception):
    """More precision is needed: at which choice, for how many units."""

    def __init__(self, place: int, units: int) -> None:
        super().__init__(f"choice {place}: {units} units")
        self.doubt = (place, units)


@dataclass
class Session:
    """One pass: its precision, the choices still to come, and what was found."""

    bottom: int
    choices: Iterator[Choice]
    last: bool
    accepted: dict[int, int] = field(default_factory=dict)
    path: list[str] = field(default_factory=list)
    place: int = 0
    error: float = 0.0
    margin: float = float("inf")
    units: int = 0
    undecided: int = 0
    differs: int = 0
    where: list[str] = field(default_factory=list)

    def refuse(self, func: Any, why: str) -> UnsupportedError:
        """The reason for which the pattern stays uncertified."""
        where = self.path[-1] if self.path else "the model's own forward"
        return UnsupportedError(f"{func} in module {where!r} has no rounding bound: {why}")

    def constant(self, value: Any, like: Tensor) -> Fixed:
        """A stored tensor or number in fixed point; anything below the last place is bounded."""
        return stored(torch.as_tensor(value, dtype=torch.float64, device=like.device), self.bottom)

    def choice(self, shape: Sequence[int]) -> Choice:
        """The next recorded choice."""
        found = next(self.choices, None)
        assert found is not None
        assert tuple(found.support.shape) == tuple(shape), (found.operation, shape)
        self.place += 1
        return found

    def decide(self, gap: Tensor, error: float) -> tuple[Tensor, Tensor]:
        """Which entries are certainly above 0, and which may be on either side of it.

        ``gap`` is held in float64 with a relative error below 2^-44, far inside the factor here.
        """
        near = ~(gap.abs() * (1 - 2.0**-40) > error)  # so that a bound of NaN decides nothing
        self.error = max(self.error, error)
        if gap.numel() and not bool(near.all()):
            self.margin = min(self.margin, float(gap[~near].abs().min()) - error)
        return gap > 0, near

    def settle(self, units: int, near: int, differs: int) -> None:
        """Count one choice; stop the pass where more precision may decide what this one cannot."""
        self.units += units
        self.undecided += near
        self.differs += differs
        if differs:
            self.where.append(self.path[-1] if self.path else "the model's own forward")
        if near > self.accepted.get(self.place, 0) and not self.last:
            raise _UndecidedError(self.place, near)

    def scalar(self, x: Fixed) -> dict[float, Tensor]:
        """Compare a piecewise-linear scalar operation's slopes with the recorded ones.

        Returns:
            kink -> the distances from it, in float64 with exact signs.
        """
        choice = self.choice(x.shape)
        assert choice.slope is not None
        assert choice.slopes is not None
        recorded, mask = choice.slopes, choice.support
        passed = torch.zeros(int(mask.sum()), dtype=torch.int64, device=mask.device)
        doubt = torch.zeros_like(passed, dtype=torch.bool)
        kinks = tuple(sorted(choice.kinks))
        gaps: dict[float, Tensor] = {}
        for kink in kinks:
            gap = add(x, self.constant(-kink, mask), self.bottom) if kink else x
            gaps[kink] = gap.approximate()
            above, near = self.decide(gaps[kink][mask], gap.error)
            passed += above
            doubt |= near
        if not kinks:
            return gaps
        between = ((a + b) / 2 for a, b in itertools.pairwise(kinks))
        points = torch.tensor(
            [kinks[0] - 1, *between, kinks[-1] + 1], dtype=torch.float64, device=mask.device
        )
        wrong = (choice.slope(points)[passed] != recorded[mask]) & ~doubt
        self.settle(int(mask.sum()) * len(kinks), int(doubt.sum()), int(wrong.sum()))
        return gaps


class Rounded(Tensor):
    """A fixed-point tensor that an unmodified module can be called on."""

    session: Session
    fixed: Fixed

    @staticmethod
    def __new__(cls, session: Session, fixed: Fixed) -> Rounded:
        """A wrapper of the shape of ``fixed``."""
        like = fixed.digits[0]
        wrapper: Rounded = Tensor._make_wrapper_subclass(
            cls, like.shape, strides=like.stride(), dtype=like.dtype, device=like.device
        )
        return wrapper

    def __init__(self, session: Session, fixed: Fixed) -> None:
        self.session, self.fixed = session, fixed

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"Rounded({tuple(self.fixed.shape)}, {len(self.fixed.digits)} digits)"

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run the bounded form of ``func``; in-place operations assign its result."""
        leaves = pytree.tree_leaves((args, kwargs))
        session = next(a for a in leaves if isinstance(a, Rounded)).session
        if (function := RULES.get(func)) is not None:
            return _wrapped(session, function(session, func, *args, **(kwargs or {})))
        name = func._overloadpacket.__name__
        plain = getattr(getattr(torch.ops.aten, name.rstrip("_"), None), func._overloadname, None)
        function = RULES.get(plain) if func._schema.is_mutable else None
        if function is None or not isinstance(args[0], Rounded):
            raise session.refuse(func, "no rule for it in fixed point")
        # the engine has refused live views of this tensor already, on the same pass
        args[0].fixed = _wrapped(session, function(session, plain, *args, **(kwargs or {}))).fixed
        return args[0]


def _wrapped(session: Session, out: Any) -> Any:
    if isinstance(out, Fixed):
        return Rounded(session, out)
    if isinstance(out, list | tuple):
        return type(out)(_wrapped(session, item) for item in out)
    return out


def check_pattern(model: nn.Module, image: Tensor, choices: Sequence[Choice]) -> PatternCheck:
    """Certify, or refute, the pattern that a float64 pass recorded.

    Args:
        model: in eval mode, in float64: the network that is differentiated.
        image: [1, channels, height, width], float64, on the model's device.
        choices: the recorded pattern in the order of the pass.
    """
    started = time.perf_counter()
    places, before = FEWEST, (-1, -1)
    accepted: dict[int, int] = {}
    while True:
        session = Session(-places, iter(choices), places in (FEWEST, MOST), accepted)
        try:
            _run(model, image, session)
        except UnsupportedError as error:
            took = time.perf_counter() - started
            return PatternCheck(False, f"not certified: {error}", seconds=took)
        except _UndecidedError as error:
            place, units = error.doubt
            if error.doubt == before:  # twice the digits changed nothing: leave them in doubt
                accepted[place] = units
            else:
                before, places = error.doubt, min(MOST, places + max(2, places // 2))
            continue
        if FEWEST == places < MOST and session.undecided and session.error:
            # the bound grows by the same factor at every precision: take what the margins need
            grown = BITS * places + math.log2(min(session.error, 2.0 ** (BITS * MOST)))
            places = min(MOST, max(FEWEST + 1, math.ceil((grown + SPARE) / BITS)))
            continue
        return _verdict(session, time.perf_counter() - started)


def _verdict(session: Session, seconds: float) -> PatternCheck:
    bits = -session.bottom * BITS
    if session.differs:
        why = (
            f"the recorded pattern differs from the true one at {session.differs} units "
            f"of {', '.join(dict.fromkeys(session.where))}, shown with {bits} bits after the point"
        )
    elif session.undecided:
        shown = f"as far as {bits} bits show" if session.error else "exactly"
        why = f"{session.undecided} units lie on their kink {shown}"
    else:
        why = f"every choice is decided with {bits} bits after the point"
    certified = not (session.differs or session.undecided)
    return PatternCheck(
        certified, why, bits, session.error, session.margin, session.units, session.undecided,
        session.differs, seconds,
    )  # fmt: skip


def _run(model: nn.Module, image: Tensor, session: Session) -> None:
    import empirical.rounding_kinks
    import empirical.rounding_rules  # noqa: F401  (both fill the table)

    handles = []
    for name, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(lambda *_, n=name: session.path.append(n)))
        handles.append(module.register_forward_hook(lambda *_: session.path.pop() and None))
    try:
        with no_autograd():
            model(Rounded(session, session.constant(image, image)))
    finally:
        for handle in handles:
            handle.remove()
