"""Models and images that are not plain: a clear error, or correct work (shared issue 5)."""

import numpy as np
import pytest
import torch
from torch import nn

from empirical.jacobian import jacobian_profile
from tests.empirical.test_jacobian import image, tap_jacobian
from theory.errors import InputError, UnsupportedError


def exact_record(profile, tap):
    return next(r for r in profile.records if r.notion == "exact" and r.tap == tap)


class Several(nn.Module):
    """Returns what many detection and language models do: a tuple, or a dict."""

    def __init__(self, kind):
        super().__init__()
        torch.manual_seed(0)
        self.kind = kind
        self.body, self.head = nn.Conv2d(1, 2, 3), nn.Linear(72, 3)

    def forward(self, x):
        h = torch.relu(self.body(x))
        y = self.head(h.flatten(1))
        if self.kind == "tuple":
            return y, h
        return {"logits": y, "features": h}


@pytest.mark.parametrize("kind", ["tuple", "dict"])
def test_a_model_that_returns_several_tensors_is_measured_at_its_modules(kind):
    net, x = Several(kind).eval(), image()
    profile = jacobian_profile(net, x, patch=None, taps=["body", "head"])
    dense = tap_jacobian(net, x, "head")
    expected = np.linalg.svd(dense.numpy(), compute_uv=False)
    # rounding of a few float64 operations
    assert np.allclose(profile.spectra["head"], expected, atol=1e-13)
    exact = jacobian_profile(net, x, patch=None, taps=["body", "head"], field="exact")
    assert exact_record(exact, "head").value == 3
    assert exact_record(exact, "head").extra["pattern_certified"]
    with pytest.raises(InputError, match="returns 2 tensors"):
        jacobian_profile(net, x, patch=None, taps=[""])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_are_refused_with_the_way_out(dtype):
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 3), nn.ReLU()).eval().to(dtype)
    with pytest.raises(InputError, match=r"'1\.weight' are torch\..*float16; call model\.float"):
        jacobian_profile(net, image(), patch=None, taps=["2"], field="exact")
    # which is exact: the same dyadic rationals
    record = exact_record(
        jacobian_profile(net.float(), image(), patch=None, taps=["2"], field="exact"), "2"
    )
    assert record.known == "proved" or record.value < record.high


@pytest.mark.parametrize("field", ["float32", "float64", "exact", "family"])
def test_a_batch_norm_in_training_mode_is_refused_in_every_field(field):
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU()).eval()
    net[1].train()
    with pytest.raises(InputError, match=r"'1' is in training mode.*model\.eval"):
        jacobian_profile(net, image(), patch=4, taps=["2"], field=field)


class BatchStatistics(nn.Module):
    """A batch norm that is in eval mode and still uses the statistics of its input."""

    def forward(self, x):
        return nn.functional.batch_norm(x, None, None, training=True)


def test_batch_statistics_by_function_are_refused():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), BatchStatistics()).eval()
    with pytest.raises(InputError, match="batch norm in training mode at '1'"):
        jacobian_profile(net, image(), patch=4, taps=["1"], field="exact")


class Attention(nn.Module):
    """Fused attention called as a function: no attribute tells of it beforehand."""

    def forward(self, x):
        return nn.functional.scaled_dot_product_attention(x, x, x)


def test_fused_attention_as_a_function_is_right_over_the_floats_and_refused_mod_p():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), Attention()).eval()
    x = image()
    with pytest.raises(UnsupportedError, match=r"in module '1'"):
        jacobian_profile(net, x, patch=4, taps=["1"], field="exact")
    profile = jacobian_profile(net, x, patch=None, taps=["1"])
    dense = tap_jacobian(net, x, "1")
    expected = np.linalg.svd(dense.numpy(), compute_uv=False)
    assert np.allclose(profile.spectra["1"], expected, atol=1e-13)


class InPlace(nn.Module):
    def __init__(self, live):
        super().__init__()
        torch.manual_seed(0)
        self.live, self.conv = live, nn.Conv2d(1, 2, 3)

    def forward(self, x):
        y = self.conv(x)
        rows = y.flatten(2)
        if not self.live:
            rows = rows.clone()
        y.relu_().mul_(2)
        return y.flatten(2) + rows


@pytest.mark.parametrize("field", ["float64", "exact"])
def test_in_place_operations_are_right_or_refused(field):
    x = image()
    net = InPlace(live=False).eval()
    profile = jacobian_profile(net, x, patch=None, taps=[""], field=field)
    rank = int(torch.linalg.matrix_rank(torch.func.jacfwd(net.double())(x[None]).reshape(72, 64)))
    notion = "exact" if field == "exact" else "relative(0.001)"
    assert profile.value("", notion) == rank
    with pytest.raises(UnsupportedError, match="live view"):
        jacobian_profile(InPlace(live=True).eval(), x, patch=None, taps=[""], field=field)


@pytest.mark.parametrize(("shape", "at"), [((1, 9, 14), (2, 7)), ((1, 14, 9), (7, 2))])
def test_non_square_images_in_the_exact_field(shape, at):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 3, 3, 2, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(3, 2, 2))
    x = image(0, shape)
    profile = jacobian_profile(net.eval(), x, patch=4, at=at, taps=["2", "3"], field="exact")
    for tap in ("2", "3"):
        full = tap_jacobian(net, x, tap).reshape(-1, *shape)
        y, z = at
        dense = full[:, :, y : y + 4, z : z + 4].reshape(len(full), -1)
        assert exact_record(profile, tap).value == int(torch.linalg.matrix_rank(dense, rtol=1e-12))
        assert exact_record(profile, tap).extra["pattern_certified"]
    with pytest.raises(InputError, match="does not fit in an image of"):
        jacobian_profile(net, x, patch=10, taps=["2"])
    with pytest.raises(InputError, match="leaves the image"):
        jacobian_profile(net, x, patch=4, at=(shape[1] - 3, 0), taps=["2"])
