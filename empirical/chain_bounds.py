"""The catalogue's rows about chains and sums, held against the ranks of a network's own chain.

Every number is a rank mod one prime of products of the recorded block Jacobians, so the rows must
hold exactly: a broken one means a defect here or in the theory. Spectral rows compare float64
singular values with the error that they carry.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from empirical.chain import Chain, spectra
from empirical.tally import Tally
from numeric.barcode import bars_of_table

#: widest tap at which kernels are formed (a kernel costs a full reduction in python-flint)
KERNEL = 640


def chain_rows(c: Chain) -> list[Tally]:
    """Rows that speak of r(i,j) alone."""
    r, d, last = c.table, c.dimensions, len(c.taps)
    names = ("input", *(t.name for t in c.taps))
    rows = {
        name: Tally(name)
        for name in (
            "composition", "diminishing", "bottleneck", "sylvester", "frobenius",
            "chain-sylvester", "completeness", "barcode",
        )
    }  # fmt: skip
    for k in range(last):
        where = f"r(0,{k + 1}) against r(0,{k})"
        rows["diminishing"].at_most(r[0, k + 1], r[0, k], where, names[k + 1])
    for i in range(last + 1):
        for j in range(i + 2, last + 1):
            for m in range(i + 1, j):
                here = f"r({i},{j}) split at {m}"
                rows["composition"].at_most(r[i, j], min(r[i, m], r[m, j]), here, names[m])
                rows["sylvester"].at_most(r[i, m] + r[m, j] - d[m], r[i, j], here, names[m])
            inner = sum(d[i + 1 : j])
            whole = sum(r[k, k + 1] for k in range(i, j)) - inner
            rows["chain-sylvester"].at_most(whole, r[i, j], f"r({i},{j})", names[j])
            for a in range(i, j + 1):
                for b in range(a, j + 1):
                    here = f"r({i},{j}) inside ({a},{b})"
                    rows["bottleneck"].at_most(r[i, j], r[a, b], here, names[b])
    for i, a, b, j in _quadruples(last):
        rows["frobenius"].at_most(
            r[i, b] + r[a, j], r[a, b] + r[i, j], f"({i},{a},{b},{j})", names[b]
        )
    bars = bars_of_table(r)
    for (i, j), count in bars.items():
        rows["completeness"].at_most(0, count, f"bar [{i},{j}]", names[j])
    for a, b in r:
        held = sum(m for (i, j), m in bars.items() if i <= a and b <= j)
        rows["barcode"].at_most(abs(held - r[a, b]), 0, f"bars over [{a},{b}]", names[b])
    return list(rows.values())


def _quadruples(last: int) -> list[tuple[int, int, int, int]]:
    return [
        (i, a, b, j)
        for i in range(last + 1)
        for a in range(i + 1, last + 1)
        for b in range(a, last + 1)
        for j in range(b + 1, last + 1)
    ]


def partial_rows(c: Chain, part: Tensor) -> list[Tally]:
    """Rows about a subspace of inputs: the pixels marked in ``part``, boolean [d_0]."""
    drop, lower = Tally("partial-drop", "partial"), Tally("partial-lower", "partial")
    count = int(part.sum())
    ranks = [count] + [
        c.rank(c.products[0, k + 1][:, part].contiguous()) for k in range(len(c.taps))
    ]
    r, n = c.table, c.dimensions[0]
    for k, (before, after) in enumerate(pairwise(ranks)):
        tap = c.taps[k].name
        drop.at_most(before - after, r[0, k] - r[0, k + 1], f"{count} pixels, block {k + 1}", tap)
        lower.at_most(r[0, k + 1] + count - n, after, f"{count} pixels, block {k + 1}", tap)
    return [drop, lower]


def sum_rows(c: Chain) -> list[Tally]:
    """Rows about sums and stacks: each square block is I + G, each pair of depths a stack."""
    names = ("residual-lower", "residual-loss", "residual-stack", "subadditive", "marsaglia-styan")
    rows = {name: Tally(name) for name in names}
    stack = Tally("stacking")
    r, d = c.table, c.dimensions
    total = lost = 0
    run = 0  # consecutive square blocks so far
    for k, matrix in enumerate(c.residues):
        tap = c.taps[k].name
        if k and c.products[0, k].shape[1] <= d[k]:
            both = torch.cat([c.products[0, k], c.products[0, k + 1]])
            joint = c.rank(both)
            where = f"J to {c.taps[k - 1].name} over J to {tap}"
            stack.at_most(max(r[0, k], r[0, k + 1]), joint, where, tap)
            stack.at_most(joint, r[0, k] + r[0, k + 1], where, tap)
        if d[k] != d[k + 1]:
            run = total = lost = 0
            continue
        eye = torch.eye(d[k], dtype=matrix.dtype)
        G = c.field.reduce_(matrix - eye)
        own, branch = r[k, k + 1], c.rank(G)
        moved = c.rank(c.field.matmul(G, c.products[0, k])) if k else branch
        rows["residual-lower"].at_most(d[k] - branch, own, f"block {k + 1}", tap)
        rows["subadditive"].at_most(own, d[k] + branch, f"block {k + 1}", tap)
        rows["subadditive"].at_most(abs(own - d[k]), branch, f"block {k + 1} against I", tap)
        wide, tall = c.rank(torch.cat([eye, G], 1)), c.rank(torch.cat([eye, G]))
        rows["marsaglia-styan"].at_most(wide + tall - d[k] - branch, own, f"block {k + 1}", tap)
        rows["residual-loss"].at_most(r[0, k] - r[0, k + 1], moved, f"block {k + 1}", tap)
        run, total, lost = run + 1, total + moved, lost + r[0, k] - r[0, k + 1]
        if run > 1:
            rows["residual-stack"].at_most(lost, total, f"{run} blocks to {tap}", tap)
    for t in rows.values():
        t.why = "no two consecutive taps have equal widths, so that no block is I + G on the taps"
    return [*rows.values(), stack]


def kernel_rows(c: Chain) -> list[Tally]:
    """What a layer loses is its kernel inside the image before it: dim ker + rank - dim of the sum."""
    law, impetus = Tally("loss-law"), Tally("structural-impetus")
    r = c.table
    for k in range(1, len(c.taps)):
        d = c.dimensions[k]
        if d > KERNEL:
            continue
        kernel = _kernel(c.residues[k], c.field.prime)
        both = torch.cat([kernel, c.products[0, k]], 1)
        inside = kernel.shape[1] + r[0, k] - c.rank(both)
        lost, tap = r[0, k] - r[0, k + 1], c.taps[k].name
        law.at_most(abs(lost - inside), 0, f"block {k + 1}: {lost} lost, {inside} in it", tap)
        impetus.at_most(abs(int(lost > 0) - int(inside > 0)), 0, f"block {k + 1}", tap)
    law.why = impetus.why = f"kernels are formed at taps of at most {KERNEL} values; none is"
    return [law, impetus]


def _kernel(matrix: Tensor, prime: int) -> Tensor:
    """Basis of the kernel mod p, columns."""
    import flint

    entries: Any = matrix.to(torch.int64).remainder(prime)
    rows, columns = entries.shape
    basis, nullity = flint.nmod_mat(rows, columns, entries.reshape(-1).tolist(), prime).nullspace()
    data = [[int(basis[i, j]) for j in range(nullity)] for i in range(columns)]
    return torch.tensor(data, dtype=torch.float64).reshape(columns, nullity)


def gram_row(c: Chain) -> Tally:
    """rank(J J^T) over the rationals at the last tap, by python-flint."""
    from numeric.exact import integer_matrix

    row = Tally("gram")
    product = torch.eye(c.dimensions[0], dtype=torch.float64)
    for m in c.matrices:
        product = m @ product
    whole = integer_matrix(product.tolist())
    tap = c.taps[-1].name
    left, right = int((whole * whole.transpose()).rank()), int(whole.rank())
    row.at_most(abs(left - right), 0, f"rank(J J^T) {left}, rank J {right}", tap)
    return row


def spectral_rows(c: Chain, eps: tuple[float, ...] = (1e-1, 1e-3, 1e-6)) -> list[Tally]:
    """eps-calculus and Horn's log-majorisation on J_{0->k+1} = J_{k+1} J_{0->k}; Weyl on rounding."""
    calculus, horn = Tally("eps-calculus", "relative"), Tally("log-majorisation", "spectra")
    weyl = Tally("weyl", "spectra")
    product = torch.eye(c.dimensions[0], dtype=torch.float64)
    for k, matrix in enumerate(c.matrices):
        product = matrix @ product
        rounded = product.float().double()  # what float32 can store of it
        norm = float(torch.linalg.matrix_norm(rounded - product, 2))
        moved = torch.linalg.svdvals(rounded) - torch.linalg.svdvals(product)
        tap = c.taps[k].name
        carried = 8 * max(product.shape) * 2.0**-53 * float(product.norm())
        weyl.at_most(float(moved.abs().max()), norm, f"float32 at {tap}", tap, carried)
    own, prefixes = spectra(c.matrices)
    for k in range(1, len(c.taps)):
        a, b, ab = own[k], prefixes[k - 1], prefixes[k]
        tap = c.taps[k].name
        # rounding of the product and of its SVD, relative to the product of the norms
        error = 8 * max(c.matrices[k].shape) * 2.0**-53 * a[0] * b[0]
        rho = ab[0] / (a[0] * b[0])
        for e in eps:
            if e * ab[0] <= 4 * error:
                continue
            sure = int((ab - error >= e * (ab[0] + error)).sum())
            most = int((b + error / a[0] >= e * rho * b[0] * (1 - 1e-9)).sum())
            calculus.at_most(sure, most, f"eps {e:g}, block {k + 1}", tap)
        keep = ab > 1e3 * error
        count = min(int(keep.sum()), len(a), len(b))
        if count:
            left = np.cumsum(np.log(ab[:count]))
            right = np.cumsum(np.log(a[:count]) + np.log(b[:count]))
            slack = np.cumsum(error / ab[:count])
            for i in (0, count // 2, count - 1):
                horn.at_most(
                    float(left[i]), float(right[i]), f"{i + 1} values, block {k + 1}", tap,
                    float(slack[i]) + 1e-12 * (i + 1),
                )  # fmt: skip
    return [calculus, horn, weyl]


def dependence_row(weight: Tensor, features: Tensor, logits: Tensor) -> Tally:
    """Affine dependencies among logits: at least C minus the affine dimension of the features."""
    row = Tally("logit-dependence", "feature-span")
    centred = [v.double() - v.double().mean(0) for v in (features, logits)]
    spans = []
    for v in centred:
        values = torch.linalg.svdvals(v)
        spans.append(int((values > max(v.shape) * 2.0**-23 * values[0]).sum()))
    field_rank = int(torch.linalg.matrix_rank(weight.double()))
    where = f"affine dimension of the logits, of {len(logits)} images"
    row.at_most(spans[1], spans[0], f"{where}, against the features'", "logits")
    row.at_most(spans[1], field_rank, f"{where}, against rank W", "logits")
    return row


def all_rows(c: Chain, part: Tensor) -> list[Tally]:
    """Every row that a chain can be held against."""
    found = [*chain_rows(c), *partial_rows(c, part), *sum_rows(c), *kernel_rows(c), gram_row(c)]
    return [*found, *spectral_rows(c)]
