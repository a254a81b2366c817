"""What a pruning engineer needs: ranks of stored weights and inputs, and what factorising saves.

For each linear and convolution layer: the exact rank of the stored weight (mod p, which proves full
rank; certified by flint below it, probable where the matrix is too large for that), its relative
ranks, the rank of its input over the data, and the smallest rank whose truncated SVD keeps the
accuracy, measured by replacing that layer in the network.
"""

from __future__ import annotations

import copy
import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from empirical.data import Labelled, Stream
from empirical.records import Record
from empirical.subject import Subject
from theory.errors import InputError

if TYPE_CHECKING:
    from empirical.models import LoadedModel

PRIME = 1048573  # the largest below 2^20
#: entries of a matrix of deficient rank that flint still certifies in seconds
CERTIFIED = 1 << 16


@dataclass(frozen=True)
class Layer:
    """One row of the table.

    Attributes:
        name: module path; ``kind`` linear or conv; ``rows`` and ``columns`` of a group's weight
            matrix [outputs, inputs x kernel]; ``groups`` of them.
        exact: exact rank of the whole stored weight (summed over groups).
        proved: whether that is certain: full rank, or certified.
        relative_3, relative_7: relative ranks at 1e-3 and 2^-23, summed over groups.
        input_rank: rank of the layer's inputs over the data at relative 1e-3; None for groups.
        parameters: of the weight; ``kept_rank`` the smallest rank found that keeps the accuracy.
        saved: parameters saved by factorising at ``kept_rank`` (0 where it does not pay).
        accuracy: after replacing the layer at ``kept_rank``; ``accuracy_original`` before.
    """

    name: str
    kind: str
    rows: int
    columns: int
    groups: int
    exact: int
    proved: bool
    relative_3: int
    relative_7: int
    input_rank: int | None
    parameters: int
    kept_rank: int
    saved: int
    accuracy: float
    accuracy_original: float


def measure(
    model: nn.Module,
    images: Tensor | Stream,
    labels: Tensor,
    *,
    loss: float = 0.01,
    batch: int = 128,
    layers: Sequence[str] | None = None,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Layer, ...]:
    """Measure every linear and convolution layer.

    Args:
        model: in eval mode; not modified.
        images: preprocessed; ``labels`` their classes.
        labels: [samples].
        loss: accuracy that replacing one layer may cost.
        batch: images a pass.
        layers: module paths; all by default.
        device: where to classify.
        progress: called with (done, total).

    Raises:
        InputError: there is no such layer, or the loss is not in [0, 1).
    """
    if not 0 <= loss < 1:
        raise InputError(f"a loss of accuracy lies in [0, 1), got {loss}")
    net = copy.deepcopy(model).eval().to(device)
    found = {n: m for n, m in net.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)}
    chosen = list(found) if layers is None else list(layers)
    for name in chosen:
        if name not in found:
            raise InputError(f"{name!r} is no linear or convolution layer of the network")
    original = accuracy(net, images, labels, batch)
    table = []
    for done, name in enumerate(chosen, 1):
        table.append(_one(net, name, found[name], images, labels, original, loss, batch))
        if progress is not None:
            progress(done, len(chosen))
    return tuple(table)


def _one(
    net: nn.Module, name: str, module: nn.Linear | nn.Conv2d, images: Tensor | Stream, labels: Tensor,
    original: float, loss: float, batch: int,
) -> Layer:  # fmt: skip
    groups = module.groups if isinstance(module, nn.Conv2d) else 1
    stored = module.weight.detach().clone()
    matrices = stored.double().reshape(groups, stored.shape[0] // groups, -1)
    rows, columns = matrices.shape[1:]
    u, s, v = torch.linalg.svd(matrices, full_matrices=False)
    top = s[:, :1]
    ranks = [stored_rank(m.cpu()) for m in matrices]
    exact, proved = sum(r for r, _ in ranks), all(p for _, p in ranks)

    def replaced(rank: int) -> float:
        low = (u[:, :, :rank] * s[:, None, :rank]) @ v[:, :rank]
        module.weight.data = low.reshape(stored.shape).to(stored)
        try:
            return accuracy(net, images, labels, batch)
        finally:
            module.weight.data = stored

    full = min(rows, columns)
    low, high, best = 0, full, original  # rank `high` keeps the accuracy, rank `low` does not
    while high - low > 1:
        middle = (low + high) // 2
        reached = replaced(middle)
        if reached >= original - loss:
            high, best = middle, reached
        else:
            low = middle
    saved = groups * (rows * columns - high * (rows + columns))
    return Layer(
        name, "conv" if isinstance(module, nn.Conv2d) else "linear", rows, columns, groups, exact,
        proved, int((s >= 1e-3 * top).sum()), int((s >= 2.0**-23 * top).sum()),
        input_rank(net, module, images, batch) if groups == 1 else None, stored.numel(), high,
        max(0, saved), best, original,
    )  # fmt: skip


def stored_rank(weight: Tensor, limit: int | None = None) -> tuple[int, bool]:
    """(exact rank of a matrix of floats, whether it is proved).

    Args:
        weight: the matrix.
        limit: entries up to which a deficient rank is certified; ``CERTIFIED`` by default.
    """
    found = exact_rank(weight)
    if found == min(weight.shape):
        return found, True  # a rank mod p is a lower bound
    if weight.numel() > (CERTIFIED if limit is None else limit):
        return found, False
    from fractions import Fraction

    from numeric.exact import rank

    return rank([[Fraction(v) for v in row] for row in weight.double().tolist()]), True


def exact_rank(weight: Tensor) -> int:
    """Rank mod a prime of a matrix of floats: a proved lower bound, equal up to an unlucky prime."""
    from empirical.finite import rank_mod

    mantissa, exponent = np.frexp(weight.double().numpy())
    whole = (mantissa * 2.0**53).astype(np.int64)  # exact: a float64 is a 53-bit integer times 2^e
    power = exponent - 53
    steps, inverse = np.unique(power, return_inverse=True)
    factors = np.array([pow(2, int(e), PRIME) for e in steps], dtype=np.int64)
    residues = (whole % PRIME) * factors[inverse].reshape(whole.shape) % PRIME
    return int(rank_mod(torch.from_numpy(residues).double(), PRIME))


def input_rank(
    net: nn.Module,
    module: nn.Linear | nn.Conv2d,
    images: Tensor | Stream,
    batch: int,
    most: int = 4096,
) -> int:
    """Relative(1e-3) rank of the inputs that the weight multiplies, over at most so many rows."""
    parts: list[Tensor] = []
    each = max(1, most // max(1, len(images)))

    def note(_m: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0].detach()
        if isinstance(module, nn.Conv2d):
            padding = module.padding if not isinstance(module.padding, str) else 0
            x = functional.unfold(
                x, module.kernel_size, module.dilation, padding, module.stride
            ).transpose(1, 2)
        else:
            x = x.reshape(len(x), -1, x.shape[-1])
        step = max(1, x.shape[1] // each)
        parts.append(x[:, ::step].reshape(-1, x.shape[-1]).double())

    handle = module.register_forward_pre_hook(note)
    try:
        with torch.no_grad():
            for start in range(0, len(images), batch):
                net(images[start : start + batch].to(module.weight))
    finally:
        handle.remove()
    values = torch.linalg.svdvals(torch.cat(parts)[: 4 * most])
    return int(((values > 0) & (values >= 1e-3 * values[0])).sum())


def accuracy(net: nn.Module, images: Tensor | Stream, labels: Tensor, batch: int) -> float:
    """Fraction classified right."""
    where = next(net.parameters())
    with torch.no_grad():
        right = sum(
            int(
                (
                    net(images[a : a + batch].to(where)).argmax(1).cpu() == labels[a : a + batch]
                ).sum()
            )
            for a in range(0, len(images), batch)
        )
    return right / len(images)


def records(table: Sequence[Layer], loaded: LoadedModel, data: Labelled, seed: int) -> list[Record]:
    """One record a layer: the exact rank of its stored weight, the rest beside it."""
    subject = Subject(loaded.name, loaded.weights, data.hash, dtype="float32", seed=seed)
    found = []
    for index, layer in enumerate(table):
        here = replace(
            subject, tap=layer.name, tap_index=index, separator=False,
            shape=(layer.rows, layer.columns),
        )  # fmt: skip
        note = (
            f"exact {layer.exact}, input rank {layer.input_rank}, kept rank {layer.kept_rank}, "
            f"{layer.saved} parameters saved at accuracy {layer.accuracy:.1%}"
        )
        found.append(
            here.record(
                "factorise", "exact", float(layer.exact),
                known="proved" if layer.proved else "probable",
                extra={**asdict(layer), "note": note},
            )
        )  # fmt: skip
    return found


def to_csv(table: Sequence[Layer]) -> str:
    """The table as CSV, one line a layer."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, [f.name for f in fields(Layer)])
    writer.writeheader()
    writer.writerows(asdict(row) for row in table)
    return buffer.getvalue()
