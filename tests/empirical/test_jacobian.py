"""Profiles: against dense Jacobians and flint, independent of blocks, honest about bad input."""

import copy
import itertools
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from empirical.digits import build
from empirical.jacobian import jacobian_profile
from empirical.records import Record
from numeric.exact import rank as flint_rank
from rankfall.cli import main
from theory.errors import InputError, UnsupportedError


def image(seed=0, shape=(1, 8, 8)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def tap_jacobian(model, x, tap):
    """Dense Jacobian of one tap by torch.func, reverse mode, float64."""
    net = copy.deepcopy(model).double()

    def f(z):
        found = []
        handle = net.get_submodule(tap).register_forward_hook(lambda m, i, o: found.append(o))
        net(z[None])
        handle.remove()
        return found[0].reshape(-1)

    return torch.func.jacrev(f)(x.double()).reshape(-1, x.numel()).detach()


@pytest.mark.parametrize("name", ["digits-resnet", "digits-mixer", "digits-resmlp", "digits-vit"])
def test_spectra_equal_dense_svd(name):
    net, x = build(name), image()
    profile = jacobian_profile(net, x, patch=None)
    for tap, values in profile.spectra.items():
        dense = tap_jacobian(net, x, tap)
        expected = np.linalg.svd(dense.numpy(), compute_uv=False)
        # rounding of some hundred float64 operations
        assert np.allclose(values, expected, atol=1e-12 * max(expected[0], 1e-12)), tap


@pytest.mark.parametrize("patch", [4, None])
@pytest.mark.parametrize("field", ["float64", "float32"])
def test_blocks_do_not_matter(field, patch, monkeypatch):
    monkeypatch.setattr("empirical.passes.fixed_bytes", lambda device: 0)
    net, x = build("digits-resnet"), image()
    whole = jacobian_profile(net, x, field=field, patch=patch)
    import empirical.blocks as blocks

    small = blocks.WORKING + 400_000
    parts = jacobian_profile(net, x, field=field, patch=patch, memory=small)
    assert parts.peak_bytes < whole.peak_bytes / 1.5
    tolerance = 1e-10 if field == "float64" else 1e-5
    for tap, values in whole.spectra.items():
        assert np.allclose(values, parts.spectra[tap], atol=tolerance * values[0])


def relu_net(seed, widths=(6, 7, 3, 8, 5)):
    torch.manual_seed(seed)
    layers = [nn.Flatten()]
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers).eval().requires_grad_(False)


@pytest.mark.parametrize("seed", range(5))
def test_exact_rank_equals_flint_over_the_rationals(seed):
    """The recorded pattern's Jacobian is a product of rational matrices: multiply, take the rank."""
    from fractions import Fraction

    net, x = relu_net(seed), image(seed, (1, 2, 3))
    taps = [str(i) for i in range(2, 9, 2)]
    profile = jacobian_profile(net, x, patch=None, field="exact", taps=taps)
    J = [[Fraction(int(i == j)) for j in range(6)] for i in range(6)]
    h = x.reshape(-1)
    for tap in taps:
        W, b = net[int(tap) - 1].weight.double(), net[int(tap) - 1].bias.double()
        h = W @ h + b
        rows = [[Fraction(float(w)) for w in row] for row in W]
        J = [
            [sum(r[k] * J[k][j] for k in range(len(J))) if h[i] > 0 else Fraction(0)
             for j in range(6)]
            for i, r in enumerate(rows)
        ]  # fmt: skip
        h = h.relu()
        assert profile.value(tap, "exact") == flint_rank(J)


def test_exact_ranks_of_a_convolutional_network_equal_dense_svd():
    net, x = build("digits-resnet"), image()
    profile = jacobian_profile(net, x, patch=None, field="exact")
    ranks = []
    for record in (r for r in profile.records if r.notion == "exact"):
        dense = tap_jacobian(net, x, record.tap)
        assert record.value == int(torch.linalg.matrix_rank(dense, rtol=1e-12))
        assert record.low == record.value <= record.high
        ranks.append(record.value)
    assert ranks == sorted(ranks, reverse=True)  # diminishing, along separators


def test_proved_where_bounds_meet_and_probable_where_they_do_not():
    """A weight matrix of rank 2 inside: no structural bound can know it."""
    net = relu_net(0, (6, 7))
    net[1].weight.data = torch.randn(7, 2) @ torch.randn(2, 6)
    net[1].weight.data = (net[1].weight.data * 8).round() / 8
    net[1].weight.data[:, 2:] = net[1].weight.data[:, :2] @ torch.tensor(
        [[1.0, 2, 3, 1], [0, 1, 1, 2]]
    )
    net[1].bias.data += 100  # all units active
    profile = jacobian_profile(net, image(0, (1, 2, 3)), patch=None, field="exact", taps=["2"])
    record = next(r for r in profile.records if r.notion == "exact")
    assert (record.value, record.high, record.known) == (2, 6, "probable")
    wide = relu_net(1, (6, 9))
    wide[1].bias.data += 100
    profile = jacobian_profile(wide, image(0, (1, 2, 3)), patch=None, field="exact", taps=["2"])
    record = next(r for r in profile.records if r.notion == "exact")
    assert (record.value, record.high, record.known) == (6, 6, "proved")


def test_kinks_in_doubt_only_where_they_matter():
    """A zero background puts units exactly at their kink; only those the patch reaches count."""
    net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1, bias=False), nn.ReLU()).eval()
    x = image()
    good = jacobian_profile(net, x, patch=2, background="zero", field="exact", taps=["1"])
    assert next(r for r in good.records if r.notion == "exact").extra["kinks_in_doubt"] == 0
    bad = jacobian_profile(net, x * 0, patch=2, field="exact", taps=["1"])
    record = next(r for r in bad.records if r.notion == "exact")
    assert record.extra["kinks_in_doubt"] == 32  # 4 x 4 places, 2 channels
    assert record.extra["pattern"]["why"] == "32 units lie on their kink exactly"
    assert record.known == "probable"


def test_smooth_networks_have_no_exact_field():
    with pytest.raises(UnsupportedError, match=r"native_layer_norm.*'blocks\.0\.norm1'"):
        jacobian_profile(build("digits-vit"), image(), patch=None, field="exact")
    profile = jacobian_profile(build("digits-vit"), image(), patch=None, field="sandwich", primes=1)
    assert {"family(weights)", "architecture"} <= set(profile.notions())
    assert any(note.startswith("exact: UNSUPPORTED") for note in profile.notes)


def test_shows_itself():
    profile = jacobian_profile(build("digits-resnet"), image(), patch=4, name="tiny")
    assert "layer1.0" in profile._repr_html_()
    assert profile.table().row_count == len(profile.spectra)
    assert len(profile.plot().lines) == len(profile.notions())
    assert profile.lines()[0].startswith("tap\tshape")
    assert profile.title().startswith("tiny: rank along 16 directions")
    record = profile.records[0]
    assert Record.from_json(record.to_json()) == record


def test_bad_input():
    net, x = build("digits-resnet"), image()
    for options, message in [
        ({"patch": 9}, "patch does not fit in an image of 8x8"),
        ({"patch": 4, "at": (5, 0)}, "leaves the image"),
        ({"background": "grey"}, "background"),
        ({"field": "float16"}, "fields are"),
        ({"taps": ["nowhere"]}, "no module 'nowhere'"),
        ({"memory": 1000}, "does not hold one direction"),
    ]:
        with pytest.raises(InputError, match=message):
            jacobian_profile(net, x, **({"patch": 4} | options))
    with pytest.raises(InputError, match="NaN"):
        jacobian_profile(net, x * float("nan"), patch=4)
    with pytest.raises(InputError, match="float16"):
        jacobian_profile(copy.deepcopy(net).half(), x, patch=4)
    training = copy.deepcopy(net)
    training.bn1.train()
    with pytest.raises(InputError, match="'bn1' is in training mode"):
        jacobian_profile(training, x, patch=4)


class Attention(nn.Module):
    """Attention by torch's own functions, as Hugging Face's models and nn.Transformer have it."""

    def __init__(self, own):
        super().__init__()
        self.qkv, self.own = nn.Linear(8, 24), nn.MultiheadAttention(8, 2, batch_first=True)
        self.out, self.use_own = nn.Linear(8, 4), own

    def forward(self, x):
        x = x.reshape(1, 6, 8)
        if self.use_own:
            return self.out(self.own(x, x, x)[0])
        q, k, v = (t.view(1, 6, 2, 4).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        y = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.out(y.transpose(1, 2).reshape(1, 6, 8))


@pytest.mark.parametrize("own", [True, False])
def test_fused_attention_takes_the_path_that_has_a_derivative(own):
    torch.manual_seed(0)
    net, x = Attention(own).eval().requires_grad_(False), image(0, (3, 4, 4))
    profile = jacobian_profile(net, x, patch=None, taps=["out"])
    assert profile.notes == ()  # nothing fell back
    double = copy.deepcopy(net).double()
    from torch.nn.attention import SDPBackend, sdpa_kernel

    fast = torch.backends.mha.get_fastpath_enabled()
    assert fast  # the engine left it as it was
    with sdpa_kernel(SDPBackend.MATH):
        dense = torch.autograd.functional.jacobian(lambda z: double(z[None]).flatten(), x)
    expected = np.linalg.svd(dense.reshape(24, 48).numpy(), compute_uv=False)
    assert np.allclose(profile.spectra["out"], expected, atol=1e-13 * expected[0])
    family = jacobian_profile(net, x, patch=None, taps=["out"], field="family")
    assert family.value("out", "family(weights)") == 24


def test_timm_attention_may_be_fused():
    net, x = build("digits-vit"), image()
    plain = jacobian_profile(net, x, patch=4)
    for block in net.blocks:
        block.attn.fused_attn = True
    fused = jacobian_profile(net, x, patch=4)
    for tap, values in plain.spectra.items():
        assert np.allclose(values, fused.spectra[tap], atol=1e-13 * values[0])


def test_not_square_image():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2)).eval()
    x = image(0, (1, 9, 14))
    profile = jacobian_profile(net, x, patch=None, taps=["2"])
    dense = tap_jacobian(net, x, "2")
    expected = np.linalg.svd(dense.numpy(), compute_uv=False)
    assert np.allclose(profile.spectra["2"], expected, atol=1e-13)


def test_command(capsys, tmp_path):
    out = tmp_path / "run"
    call = ["measure", "jacobian", "digits-resnet", "--random-weights", "--field", "exact",
            "--patch", "4", "--images", "coffee", "--out", str(out), "--json"]  # fmt: skip
    with pytest.raises(SystemExit) as stop:
        main(call)
    assert stop.value.code == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["notion"] for line in lines} == {"exact", "structural"}
    assert len((out / "records.jsonl").read_text().splitlines()) == len(lines)
    with pytest.raises(SystemExit):
        main(call)  # resumed: nothing is measured twice
    assert capsys.readouterr().out == ""
    for bad, code in [(["--patch", "99"], 2), (["--memory", "much"], 2), (["--at", "1"], 2)]:
        with pytest.raises(SystemExit) as stop:
            main([*call[:4], "--images", "coffee", *bad])
        assert stop.value.code == code
    with pytest.raises(SystemExit) as stop:
        main(["measure", "jacobian", "digits-vit", "--random-weights", "--field", "exact",
              "--patch", "4"])  # fmt: skip
    assert stop.value.code == 3


def test_command_measures_every_image_of_a_folder_or_so_many(tmp_path, capsys):
    for k, name in enumerate(("b.png", "a.png", "c.png")):
        Image.fromarray(np.full((8, 8), 80 * k + 20, np.uint8)).save(tmp_path / name)
    call = ["measure", "jacobian", "digits-resmlp", "--random-weights", "--taps", "stem", "--json"]
    for more, names in (
        (["--images", str(tmp_path)], ["a.png", "b.png", "c.png"]),
        (["--images", str(tmp_path), "--count", "2"], None),
        ([], ["digit 0"]),
    ):
        with pytest.raises(SystemExit) as stop:
            main([*call, *more])
        assert stop.value.code == 0
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        seen = list(dict.fromkeys(line["extra"]["image_name"] for line in lines))
        assert len(seen) == 2 if names is None else seen == names


def test_the_patch_is_all_of_an_image_that_is_smaller_than_the_papers(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["measure", "jacobian", "digits-resmlp", "--random-weights", "--field", "float32",
              "--taps", "stem", "--json"])  # fmt: skip
    assert stop.value.code == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["directions"] for line in lines} == {64}
