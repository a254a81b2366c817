"""Directions turned to where a Jacobian's columns are orthogonal, and Cholesky's QR there."""

import gc
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from torch import nn

import empirical.blocks
import empirical.passes
import empirical.turned
from empirical.blocks import WORKING, plan_blocks
from empirical.chunks import Costs
from empirical.jacobian import jacobian_profile
from empirical.spectrum import UNIT, from_triangle
from empirical.tangents import Tangent
from empirical.taps import Tap
from empirical.threads import threads
from empirical.turned import COLUMNS, GROWTH, STRIP, Factor, cholesky


def graded(rows, lengths, *, bend=0.0, seed=0):
    """[directions, rows] in float64: orthogonal columns of these lengths, mixed by I + ``bend`` * noise."""
    draw = torch.Generator().manual_seed(seed)
    k = len(lengths)
    basis = torch.linalg.qr(torch.randn(rows, k, generator=draw, dtype=torch.float64)).Q
    mixed = torch.eye(k) + bend * torch.randn(k, k, generator=draw, dtype=torch.float64) / k**0.5
    return (mixed * lengths).T @ basis.T


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [1000, STRIP * 2 + 77])
def test_every_singular_value_is_right_to_many_digits_even_small_ones(dtype, rows):
    """Columns from 1 to 2^-40: the relative error stays that of rounding, where J^T J loses the small."""
    J = graded(rows, 2.0 ** -torch.linspace(0, 40, 48, dtype=torch.float64), bend=0.3).to(dtype)
    true = one_sided_jacobi(J.double())
    with threads(2):
        factor = cholesky(J)
    assert factor is not None
    assert factor.growth < 4
    found = np.sort(one_sided_jacobi(factor.R.double().T))[::-1]
    # a sum of 8192 products has an error of some units; growth is below 4
    assert np.abs(found / true - 1).max() < 50 * UNIT[dtype]
    # the false variant: the same Jacobian along other directions, and its J^T J
    other = torch.linalg.qr(torch.randn(48, 48, dtype=torch.float64)).Q.to(dtype) @ J
    gram = torch.linalg.eigvalsh(other @ other.T).double().clamp(min=0).sqrt().flip(0).numpy()
    assert np.abs(gram / true - 1).max() > 0.1


def test_more_columns_than_one_product_takes():
    J = graded(
        3 * COLUMNS * 4, torch.linspace(1, 0.5, 2 * COLUMNS + 7, dtype=torch.float64), bend=0.3
    )
    factor = cholesky(J)
    assert factor is not None
    assert torch.allclose(torch.linalg.svdvals(factor.R), torch.linalg.svdvals(J), rtol=1e-13)
    assert torch.allclose(factor.R.T @ factor.R, J @ J.T, rtol=0, atol=1e-14)


def test_sums_over_many_strips_are_in_float64(monkeypatch):
    """5,000 strips of four squares: their sum in float32 would be off by dozens of units."""
    monkeypatch.setattr(empirical.turned, "STRIP", 4)
    J = torch.rand(3, 20000, generator=torch.Generator().manual_seed(0)) + 0.5
    true = J.double() @ J.double().T
    assert float((empirical.turned._gram(J) / true - 1).abs().max()) < UNIT[torch.float32]
    summed = sum(part @ part.T for part in J.split(4, 1))  # the false variant
    assert float((summed / true - 1).abs().max()) > 10 * UNIT[torch.float32]


def one_sided_jacobi(rows):
    """Singular values, each to full relative accuracy (Demmel and Veselic 1992): the oracle."""
    x = rows.clone()
    for _ in range(30):
        worst = 0.0
        for i in range(len(x)):
            for j in range(i + 1, len(x)):
                a, b, c = x[i] @ x[i], x[j] @ x[j], x[i] @ x[j]
                worst = max(worst, float(abs(c) / (a * b).sqrt()))
                if abs(c) > 1e-16 * (a * b).sqrt():
                    zeta = (b - a) / (2 * c)
                    t = torch.where(zeta >= 0, 1.0, -1.0) / (abs(zeta) + (1 + zeta**2).sqrt())
                    cosine = 1 / (1 + t**2).sqrt()
                    x[i], x[j] = cosine * (x[i] - t * x[j]), cosine * (t * x[i] + x[j])
        if worst < 1e-15:
            break
    return np.sort(x.norm(dim=1).numpy())[::-1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_columns_that_are_not_nearly_orthogonal_are_refused(dtype):
    J = graded(2000, torch.ones(12, dtype=torch.float64))
    assert cholesky(J.to(dtype)) is not None
    for angle in (0.0, 1e-9, 1e-2):
        near = J.clone()
        near[3] = J[7] + angle * J[3]
        assert cholesky(near.to(dtype)) is None, angle
    for entry in (0.0, float("inf"), float("nan")):
        other = J.clone()
        other[3] = entry
        assert cholesky(other.to(dtype)) is None, entry


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_underflows_is_left_to_householder(dtype):
    """Squares of a vanishing Jacobian's entries are zero in its precision; scaled up, nothing is lost."""
    J = graded(2000, torch.linspace(1, 0.1, 12, dtype=torch.float64))
    least = torch.finfo(dtype).tiny ** 0.5
    cases = {1.0: True, least * 2**40: True, least * 2**6: False, least: False, least**1.5: False}
    for scale, works in cases.items():
        factor = cholesky((J * scale).to(dtype))
        assert (factor is not None) == works, scale
        if factor is not None:
            values = torch.linalg.svdvals(factor.R.double() / scale)
            assert torch.allclose(values, torch.linalg.svdvals(J), rtol=50 * UNIT[dtype])


def test_growth_is_that_of_the_scaled_columns_and_enters_the_error():
    J = graded(3000, torch.linspace(1, 1e-3, 20, dtype=torch.float64), bend=0.5)
    factor = cholesky(J)
    unit = (J / J.norm(dim=1, keepdim=True)).numpy()
    expected = 1 / np.linalg.eigvalsh(unit @ unit.T)[0]
    assert factor.growth == pytest.approx(expected, rel=1e-9)
    assert 2 < factor.growth < GROWTH
    shape = (J.shape[1], J.shape[0])
    plain = from_triangle(factor.R, shape, dtype=J.dtype)
    grown = from_triangle(factor.R, shape, dtype=J.dtype, growth=100.0)
    assert grown.error > plain.error
    assert grown.error == pytest.approx(
        100 * UNIT[J.dtype] * 2 * 20**0.5 * plain.values[0], rel=1e-12
    )


@pytest.fixture
def used(monkeypatch):
    """How often Cholesky's QR was taken, and how often the directions were turned."""
    counts = {"cholesky": 0, "refused": 0, "turn": 0}
    real, turn = empirical.blocks.cholesky, empirical.blocks.turn

    def counted(rows):
        factor = real(rows)
        counts["refused" if factor is None else "cholesky"] += 1
        return factor

    def turned(x, R):
        counts["turn"] += 1
        turn(x, R)

    monkeypatch.setattr(empirical.blocks, "cholesky", counted)
    monkeypatch.setattr(empirical.blocks, "turn", turned)
    return counts


def network(name):
    torch.manual_seed(0)
    options = {"zero_init_last": False} if "resnet" in name else {"img_size": 64, "depth": 3}
    model = timm.create_model(name, num_classes=10, **options)
    return model.eval().requires_grad_(False)


def photograph():
    draw = torch.Generator().manual_seed(0)
    return torch.randn(3, 64, 64, generator=draw, dtype=torch.float64)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "resnet18"])
@pytest.mark.parametrize(
    ("field", "tolerance"),
    # rounding of some hundred operations, in units of the largest singular value
    [("float64", 1e-12), ("float32", 2e-5)],
)
def test_spectra_do_not_depend_on_the_basis(name, field, tolerance, used, monkeypatch):
    model, x = network(name), photograph()
    turned = jacobian_profile(model, x, field=field, patch=4)
    assert used["cholesky"] >= 2
    assert used["turn"] >= 1
    monkeypatch.setattr(empirical.blocks, "FEWEST", float("inf"))
    monkeypatch.setattr(empirical.blocks, "turn", lambda x, R: None)
    before = used["cholesky"]
    plain = jacobian_profile(model, x, field=field, patch=4)
    assert used["cholesky"] == before
    for tap, values in plain.spectra.items():
        assert np.allclose(turned.spectra[tap], values, atol=tolerance * values[0], rtol=0), tap


def test_a_network_that_bends_too_much_pays_for_one_attempt(used):
    torch.manual_seed(0)
    wide = [nn.Conv2d(3, 16, 3)]
    for _ in range(3):  # a product of random layers: its spectrum spreads behind each
        wide += [nn.Conv2d(16, 16, 3), nn.Tanh(), nn.Conv2d(16, 1, 1), nn.Conv2d(1, 16, 1)]
    model = nn.Sequential(*wide).double().eval().requires_grad_(False)
    taps = [Tap(str(i), n, True, "other") for n, i in enumerate((0, 4, 8, 12))]
    profile = jacobian_profile(model, photograph(), patch=4, taps=taps)
    assert used == {"cholesky": 0, "refused": 1, "turn": 1}
    for tap in taps:
        values = dense_spectrum(model, tap.name)
        assert np.allclose(profile.spectra[tap.name], values, atol=1e-12 * values[0]), tap


def dense_spectrum(model, tap):
    """Of the central 4x4 patch, by torch.func.jvp in float64: the oracle."""
    image = photograph()
    patch = torch.eye(48, dtype=torch.float64).view(48, 3, 4, 4)
    directions = nn.functional.pad(patch, [30, 30, 30, 30])

    def f(x):
        found = []
        # a later operation may change the output in place
        keep = lambda _m, _i, out: found.append(out.clone())  # noqa: E731
        handle = model.get_submodule(tap).register_forward_hook(keep)
        model(x[None])
        handle.remove()
        return found[0].flatten()

    columns = torch.func.vmap(lambda v: torch.func.jvp(f, (image,), (v,))[1])(directions)
    return np.linalg.svd(columns.numpy(), compute_uv=False)


class Bent(nn.Module):
    """A stem, two blocks that bend little, one that bends much, two that bend little, logits."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.little = nn.ModuleList(nn.Conv2d(16, 16, 3, padding=1) for _ in range(4))
        self.much = nn.Conv2d(16, 16, 1)
        self.much.weight.data[:, :, 0, 0] *= 16.0 ** -torch.arange(0, 8, 0.5)
        self.logits = nn.Linear(16, 10)
        self.taps = nn.ModuleList(nn.Identity() for _ in range(4))

    def forward(self, x):
        x = self.stem(x)
        for n in range(4):
            x = self.taps[n](x + 0.1 * torch.sin(self.little[n](x)))
            if n == 1:
                x = self.much(x)
        return self.logits(x.mean((2, 3)))


def bent_taps():
    names = ["stem", "taps.0", "taps.1", "much", "taps.2", "taps.3", "logits"]
    kinds = ["stem", *["block"] * 5, "logits"]
    return [Tap(name, n, True, kinds[n]) for n, name in enumerate(names)]


def test_directions_are_turned_again_where_it_has_paid(used):
    torch.manual_seed(0)
    model = Bent().double().eval().requires_grad_(False)
    profile = jacobian_profile(model, photograph(), patch=4, taps=bent_taps())
    assert used == {"cholesky": 4, "refused": 1, "turn": 2}
    for tap in bent_taps():
        values = dense_spectrum(model, tap.name)
        assert np.allclose(profile.spectra[tap.name], values, atol=1e-12 * values[0]), tap


def test_directions_are_not_turned_for_what_is_no_separator_or_has_nothing_large_behind(used):
    torch.manual_seed(0)
    model = Bent().double().eval().requires_grad_(False)
    stem = bent_taps()[0]
    jacobian_profile(model, photograph(), patch=4, taps=[stem, Tap("logits", 1, True, "logits")])
    assert used["turn"] == 0
    aside = [Tap(tap.name, tap.index, False, tap.kind) for tap in bent_taps()]
    jacobian_profile(model, photograph(), patch=4, taps=aside)
    assert used["turn"] == 0


def test_the_growth_of_an_error_reaches_the_records(monkeypatch):
    torch.manual_seed(0)
    model = Bent().double().eval().requires_grad_(False)
    plain = jacobian_profile(model, photograph(), patch=4, taps=bent_taps())
    real = empirical.blocks.cholesky
    monkeypatch.setattr(
        empirical.blocks, "cholesky", lambda rows: (f := real(rows)) and Factor(f.R, 1e6)
    )
    grown = jacobian_profile(model, photograph(), patch=4, taps=bent_taps())
    error = [{r.tap: r.extra["error"] for r in p.records}["taps.0"] for p in (plain, grown)]
    assert error[1] > 1000 * error[0]


class Around(nn.Module):
    """A branch goes around the tap ``stem``, which is said to be a separator."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.stem, self.skip = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1)
        self.join = Join()
        self.end = nn.Conv2d(8 if how == "cat" else 4, 4, 3, padding=1)

    def forward(self, x):
        around = self.skip(x)
        x = self.stem(x)
        if self.how == "cat":
            x = torch.cat([x, around], 1)
        elif self.how == "add":
            x = x + around
        elif self.how == "caught":
            try:
                x = x + around
            except ValueError:
                x = x * 1
        elif self.how == "in place":
            x = x.mul_(2).add_(around)
        elif self.how == "module":
            x = self.join(x, other=around)
        else:
            x = around  # the tap leads nowhere
        return self.end(x)


def live_tangents():
    return sum(type(one) is Tangent for one in gc.get_objects())


class Join(nn.Module):
    def forward(self, x, other):
        return (x.sin() + x.cos()) * (other * 2 + 1)


def test_directions_are_not_turned_where_a_copy_does_not_fit(used, monkeypatch):
    torch.manual_seed(0)
    model = Bent().double().eval().requires_grad_(False)
    plain = jacobian_profile(model, photograph(), patch=4, taps=bent_taps())
    assert used["turn"]
    used["turn"] = 0
    real = empirical.passes.plan_blocks
    for share, turns in ((3, True), (0.2, False)):
        monkeypatch.setattr(
            empirical.passes,
            "plan_blocks",
            lambda *args, n=share: replace(real(*args), tangents=int(n * plain.peak_bytes)),
        )
        jacobian_profile(model, photograph(), patch=4, taps=bent_taps())
        assert (used["turn"] > 0) == turns, share
        used["turn"] = 0


def test_what_is_planned_for_tangents_is_what_the_budget_leaves():
    plan = plan_blocks(8, 1 << 30, Costs(between=1000), 100 << 20, torch.device("cpu"))
    assert plan.tangents == (1 << 30) - (100 << 20) - WORKING


@pytest.mark.parametrize("field", ["float32", "float64"])
@pytest.mark.parametrize("how", ["cat", "add", "caught", "in place", "module", "dead end"])
def test_a_branch_around_a_tap_that_was_said_to_be_a_separator_costs_a_second_pass(
    how, field, used, monkeypatch
):
    torch.manual_seed(0)
    model = Around(how).double().eval().requires_grad_(False)
    taps = [Tap("stem", 0, True, "stem"), Tap("end", 1, True, "other")]
    # few directions at a time: the chunks look at the basis too
    monkeypatch.setattr("empirical.chunks.CACHE", 1)
    alive = []
    plan = empirical.passes.Run.plan
    monkeypatch.setattr(
        empirical.passes.Run, "plan", lambda *args: (alive.append(live_tangents()), plan(*args))[1]
    )
    profile = jacobian_profile(model, photograph(), patch=4, taps=taps, field=field)
    assert used["turn"] == 1
    assert alive[1:] in ([0], []), "the first pass's tangents are still there"
    assert profile.notes == ("pushed twice: a branch goes around a separator",)
    tolerance = {"float32": 1e-5, "float64": 1e-12}[field]  # rounding of a dozen operations
    for tap in taps:
        values = dense_spectrum(model, tap.name)
        assert np.allclose(profile.spectra[tap.name], values, atol=tolerance * values[0]), tap
    if how == "dead end":  # another basis, the same spectrum: nothing could go wrong
        return
    monkeypatch.setattr(Tangent, "check_basis", lambda self: None)  # the false variant
    wrong = jacobian_profile(model, photograph(), patch=4, taps=taps, field=field)
    assert not np.allclose(wrong.spectra["end"], profile.spectra["end"], rtol=1e-3)
