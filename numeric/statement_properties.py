"""The property of a row with grammar text: its statements on sampled matrices, ranks exact.

Everything is generated from the catalogue's text: the shapes, the hypotheses and the inequalities
come from ``theory.statements``; ranks from flint. Statements under a relative notion use float64
spectra of exact matrices whose singular values are separated from the threshold.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from numeric.barcode import barcode, bars_of_table, from_table, rank_table, realise
from numeric.cases import Outcome, Property, tag
from numeric.decoding import Bytes, decoded
from numeric.flint_eval import Compiled, compile_statement, kron
from numeric.sampling import Plan, draw, kernel, plan, size
from numeric.scalars import EXACT, Matrix
from numeric.spectral_properties import fractions, relative_rank, sigma
from numeric.strategies import chains
from theory.catalogue import Entry
from theory.errors import InputError
from theory.notions import Notion, parse_notion
from theory.statements import parse


class UndecidedError(Exception):
    """A singular value lies on the threshold: the example decides nothing."""


def rank_function(notion: Notion) -> Any:
    """The rank of an exact matrix under ``exact`` (or ``partial``...) or ``relative(eps)``."""
    if notion.name != "relative":
        return lambda matrix: matrix.rank()
    eps = float(Fraction(notion.parameters[0]))

    def relative(matrix: Matrix) -> int:
        if not matrix.nrows() or not matrix.ncols():
            return 0
        low, high = relative_rank(sigma(matrix), eps)
        if low != high:
            raise UndecidedError
        return low

    return relative


def statement_property(
    name: str, texts: Sequence[str], given: Sequence[str], notion: Notion
) -> Property:
    """The property that every one of the statements holds on sampled matrices.

    Args:
        name: id for results.
        texts: grammar text; each example picks one.
        given: common hypotheses.
        notion: the rank notion under which the statements are read.
    """
    ready: dict[int, tuple[Compiled, Plan]] = {}

    def compiled(index: int) -> tuple[Compiled, Plan]:
        if index not in ready:
            statement = parse(texts[index], given=tuple(given))
            shapes = {k: tuple(v) for k, v in statement.matrices.items()}
            ready[index] = (
                compile_statement(statement),
                plan(shapes, given, notion.name == "relative"),
            )
        return ready[index]

    rank = rank_function(notion)

    def decode(b: Bytes) -> Any:
        index = b.below(len(texts))
        return index, *draw(compiled(index)[1], b)

    def check(case: Any) -> Outcome:
        index, matrices, dims = case
        shown = {
            "statement": texts[index],
            "given": list(given),
            "notion": str(notion),
            "matrices": {k: fractions(m) for k, m in matrices.items()},
            "dims": dims,
        }
        try:
            result = compiled(index)[0].evaluate(matrices, dims, rank)
        except UndecidedError:
            return Outcome(None, None, shown)
        if result is None:  # the hypotheses do not hold
            return Outcome(None, None, shown)
        equality = "==" in texts[index]
        return Outcome(result >= 0, None if equality else float(result), shown)

    bytes_needed = max(size(compiled(k)[1]) for k in range(len(texts)))
    inequality = any("==" not in text for text in texts)
    return Property(name, decoded(bytes_needed, decode), check, inequality)


def recheck(case: dict[str, Any]) -> Outcome:
    """Evaluate a recorded case (what ``Outcome.shown`` holds) again.

    Raises:
        InputError: the case is incomplete or its matrices do not fit the statement.
    """
    try:
        notion = parse_notion(case["notion"])
        statement = parse(case["statement"], given=tuple(case["given"]))
        matrices = {
            k: EXACT.matrix(len(rows), len(rows[0]), [Fraction(e) for row in rows for e in row])
            for k, rows in case["matrices"].items()
        }
        result = compile_statement(statement).evaluate(
            matrices, {k: int(v) for k, v in case["dims"].items()}, rank_function(notion)
        )
    except UndecidedError:
        return Outcome(None, None, case)
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, ZeroDivisionError) as error:
        raise InputError(f"the recorded case does not fit its statement: {error!r}") from error
    return Outcome(None if result is None else result >= 0, None, case)


def from_entry(entry: Entry, variant: int | None) -> Property:
    """The property of a row with grammar text, or of one of its false variants."""
    if variant is None:
        return statement_property(entry.id, entry.statements, entry.given, parse_notion("exact"))
    false = entry.false_variants[variant]
    name = tag(entry.id, variant)
    return statement_property(name, (false.text,), false.given, parse_notion(false.notion))


def joined(first: Property, second: Property) -> Property:
    """Examples of either property, each checked by its own check."""
    tagged = first.strategy.map(lambda c: (first, c)) | second.strategy.map(lambda c: (second, c))
    return Property(first.id, tagged, lambda case: case[0].check(case[1]), first.inequality)


def kronecker(entry: Entry, variant: int | None) -> Property:
    """The row's linear case, and rank(A (x) B) = rank A * rank B for all ranks."""
    statements = from_entry(entry, variant)
    if variant is not None:
        return statements

    def decode(b: Bytes) -> Any:
        m, n, p, q = (1 + b.below(3) for _ in range(4))
        r, s = b.below(min(m, n) + 1), b.below(min(p, q) + 1)
        return r, s, b.matrix_of_rank(m, n, r), b.matrix_of_rank(p, q, s)

    def check(case: Any) -> Outcome:
        r, s, a, c = case
        shown = {"ranks": [r, s], "A": fractions(a), "B": fractions(c)}
        return Outcome(kron(a, c).rank() == r * s, None, shown)

    return joined(statements, Property(entry.id, decoded(48, decode), check, False))


def lost_directions(J: Matrix, F: Matrix) -> int:
    """dim(ker J ∩ im F), by solving F u = K w for bases of both (independent of rank(J F))."""
    image = [column for column in F.transpose().rref()[0].tolist() if any(e != 0 for e in column)]
    killed = kernel(J).transpose().tolist()
    columns = image + [row for row in killed if any(e != 0 for e in row)]
    if not columns:
        return 0
    flat = [e for column in columns for e in column]
    stacked = EXACT.matrix(len(columns), J.ncols(), flat).transpose()
    return int(stacked.numer_denom()[0].nullspace()[1])


def loss_law(entry: Entry, variant: int | None) -> Property:
    """The row's statement, and the loss against the intersection solved for as a null space.

    Serves structural-impetus too: the loss is positive exactly when that space is not 0.
    """
    statements = from_entry(entry, variant)
    if variant is not None:
        return statements

    def decode(b: Bytes) -> Any:
        m, n, p = (1 + b.below(4) for _ in range(3))
        r, s = b.below(min(m, n) + 1), b.below(min(n, p) + 1)
        return b.matrix_of_rank(m, n, r), b.matrix_of_rank(n, p, s)

    def check(case: Any) -> Outcome:
        J, F = case
        loss, killed = F.rank() - (J * F).rank(), lost_directions(J, F)
        shown = {"J": fractions(J), "F": fractions(F), "loss": loss, "killed": killed}
        return Outcome(loss == killed, None, shown)

    return joined(statements, Property(entry.id, decoded(64, decode), check, False))


def completeness(entry: Entry, variant: int | None) -> Property:
    """Both directions: ranks of a chain give non-negative bars; non-negative bars are realised.

    A prescribed barcode hidden behind changes of basis must come back from exact ranks; a table
    with one rank raised must be refused exactly when a bar becomes negative, and otherwise be
    realised.
    """
    statements = from_entry(entry, variant)
    if variant is not None:
        return statements

    def check(case: Any) -> Outcome:
        code, maps = case
        shown = {"bars": code.to_json()["bars"], "maps": [fractions(m) for m in maps]}
        table = rank_table(maps)
        good = barcode(maps) == code and rank_table(realise(code)) == table
        at = sorted(table)[sum(table.values()) % len(table)]
        raised = table | {at: table[at] + 1}
        possible = min(bars_of_table(raised).values()) >= 0
        try:
            good = good and rank_table(realise(from_table(raised))) == raised and possible
        except InputError:
            good = good and not possible
        return Outcome(good, None, shown | {"raised": list(at)})

    return joined(statements, Property(entry.id, chains(), check, False))
