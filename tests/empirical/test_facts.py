"""Layer facts of real modules: the audit's bounds against Jacobians by forward differentiation.

Float ranks may over- or undercount near the cut-off. The comparison uses a float64 SVD with cut-off
1e-10 relative to the largest value: well above rounding (1e-14), so a value above it is real and a
float rank is a lower bound of the exact rank; an upper bound below it is wrong for certain.
"""

from functools import partial

import pytest
import torch
from timm.layers import GluMlp, LayerNorm2d, StdConv2d, set_fused_attn
from timm.models.efficientnet import _gen_efficientnet_lite
from timm.models.mlp_mixer import Affine, MlpMixer, ResBlock
from timm.models.mobilenetv3 import _gen_mobilenet_v3
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from empirical.facts import facts
from theory.audit import audit
from theory.errors import InputError

CUT = 1e-10


def small(name: str) -> nn.Module:
    torch.manual_seed(3)
    set_fused_attn(False)
    if name == "resnet":
        model = ResNet(BasicBlock, (1, 1, 1, 1), 10, 1, channels=(4, 4, 6, 6), zero_init_last=False)
    elif name == "resnet zero":  # timm's own start: the last gammas are zero
        model = ResNet(BasicBlock, (1, 1, 1, 1), 10, 1, channels=(4, 4, 6, 6))
    elif name == "bottleneck":
        model = ResNet(Bottleneck, (2, 1, 1, 1), 10, 1, channels=(2, 2, 2, 2), zero_init_last=False)
    elif name == "efficientnet":
        model = _gen_efficientnet_lite(
            "tf_efficientnet_lite0", 0.25, in_chans=1, num_classes=10, pad_type="same"
        )
    elif name == "mixer":  # as many tokens as channels: a transposed mask would go unnoticed
        model = MlpMixer(10, 16, 1, patch_size=4, num_blocks=2, embed_dim=16)
    elif name == "gmixer":
        glu = partial(GluMlp, act_layer=nn.SiLU, gate_last=False)
        model = MlpMixer(10, 16, 1, patch_size=4, num_blocks=2, embed_dim=8, mlp_layer=glu)
        nn.init.normal_(model.head.weight)
    elif name == "mobilenetv3":
        model = _gen_mobilenet_v3("mobilenetv3_small_050", 0.5, in_chans=1, num_classes=10)
    elif name == "resmlp":
        model = MlpMixer(
            10, 16, 1, patch_size=4, num_blocks=2, embed_dim=8, block_layer=ResBlock,
            norm_layer=Affine, act_layer=nn.ReLU, mlp_ratio=2,
        )  # fmt: skip
        nn.init.normal_(model.head.weight)
    elif name == "vit":
        model = VisionTransformer(16, 4, 1, 10, embed_dim=12, depth=2, num_heads=2)
    elif name == "vit avg":
        model = VisionTransformer(
            16, 4, 1, 10, embed_dim=12, depth=2, num_heads=2, global_pool="avg", init_values=0.1
        )
    else:
        model = SwinTransformer(
            16, 2, 1, 10, embed_dim=8, depths=(2, 1), num_heads=(2, 2), window_size=4
        )
    if name == "mixer":
        nn.init.normal_(model.head.weight)
    return model.double().eval()


def jacobian_ranks(model, x, live, names):
    """Float rank of each tap's Jacobian over the live pixels, by forward differentiation."""
    where = live.flatten().nonzero().flatten()

    def outputs(values):
        pixels = x.flatten().index_copy(0, where, values).reshape(1, *x.shape)
        kept = {}
        handles = [
            model.get_submodule(n).register_forward_hook(
                lambda _m, _i, out, n=n: kept.__setitem__(n, out.clone().flatten())
            )
            for n in names
        ]
        model(pixels)
        for handle in handles:
            handle.remove()
        return tuple(kept[n] for n in names)

    columns = {n: [] for n in names}
    start = x.flatten()[where]
    for i in range(len(where)):
        tangent = torch.zeros_like(start)
        tangent[i] = 1
        _, moved = torch.func.jvp(outputs, (start,), (tangent,))
        for n, t in zip(names, moved, strict=True):
            columns[n].append(t.detach())
    ranks, rows = {}, {}
    for n in names:
        J = torch.stack(columns[n], 1)
        rows[n] = int(J.any(1).sum())
        values = torch.linalg.svdvals(J)
        ranks[n] = int((values > CUT * values[0]).sum()) if values[0] > 0 else 0
    return ranks, rows


@pytest.mark.parametrize(
    "name",
    ["resnet", "resnet zero", "bottleneck", "efficientnet", "mobilenetv3", "mixer", "gmixer",
     "resmlp", "vit", "vit avg", "swin"],
)  # fmt: skip
def test_no_measured_rank_exceeds_its_structural_bound(name):
    model = small(name)
    size = (
        32 if name in ("resnet", "resnet zero", "bottleneck", "efficientnet", "mobilenetv3") else 16
    )
    x = torch.randn(1, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    live = torch.zeros(1, size, size, dtype=torch.bool)
    middle = size // 2
    live[:, middle - 3 : middle + 3, middle - 2 : middle + 4] = True
    bounds = audit(facts(model, x.shape, image=x, live=live), x.numel(), int(live.sum()))
    assert len(bounds) >= 3, bounds
    ranks, _ = jacobian_ranks(model, x, live, [b.tap for b in bounds])
    for bound in bounds:
        assert ranks[bound.tap] <= bound.upper, (bound, ranks)
        if bound.lower is not None and name in ("resnet", "bottleneck", "resmlp"):
            assert bound.lower <= ranks[bound.tap], (bound, ranks)
    if name != "mobilenetv3":  # whose squeeze-and-excitation is opaque, and says so
        assert bounds[-1].notes == (), "a known family has no opaque layer"
    assert any(ranks[b.tap] == b.upper for b in bounds), "some bound is tight"


@pytest.mark.parametrize("name", ["resnet", "mixer", "resmlp", "vit", "swin"])
def test_no_row_outside_the_live_mask_moves(name):
    """One corner token varies: no more rows move than are live, at every layer."""
    model = small(name)
    size = 32 if name == "resnet" else 16
    x = torch.randn(1, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    live = torch.zeros(1, size, size, dtype=torch.bool)
    live[:, :4, :4] = True
    found = {f.name: f for f in facts(model, x.shape, image=x, live=live)}
    modules = dict(model.named_modules())
    names = [n for n, f in found.items() if n in modules and f.live is not None]
    assert names
    _, rows = jacobian_ranks(model, x, live, names)
    assert {n: rows[n] for n in names if rows[n] > found[n].live} == {}


def test_live_channels_bound_the_pooled_rank():
    """A channel that is inactive over the whole map is a zero row after global pooling."""
    model = small("resnet")
    with torch.no_grad():
        model.layer4[0].bn2.bias[:2] = -1e6
    x = torch.randn(1, 32, 32, dtype=torch.float64)
    pooled = {b.tap: b for b in audit(facts(model, x.shape, image=x), x.numel())}["global_pool"]
    assert pooled.upper <= 4
    without = {b.tap: b for b in audit(facts(model, x.shape), x.numel())}["global_pool"]
    assert without.upper == 6


@pytest.mark.parametrize("name", ["vit", "mixer", "swin"])
def test_the_token_after_a_layer_norm_misses_a_direction(name):
    """Its scaled outputs sum to a constant: width - 1, or the non-zero gammas if some are zero."""
    model = small(name)
    width = model.norm.weight.numel()
    tap = {"vit": "fc_norm", "mixer": "head_drop", "swin": "head.global_pool"}[name]
    for dead, expected in ((0, width - 1), (1, width - 1), (2, width - 2)):
        with torch.no_grad():
            model.norm.weight[:dead] = 0
            model.norm.weight[dead:] = torch.rand(width - dead, dtype=torch.float64) + 0.5
        bounds = {b.tap: b for b in audit(facts(model, (1, 16, 16)), 256)}
        assert bounds[tap].upper == expected
    live = torch.zeros(1, 16, 16, dtype=torch.bool)
    live[:, 4:12, 4:12] = True
    x = torch.randn(1, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    ranks, _ = jacobian_ranks(model, x, live, [tap])
    assert ranks[tap] == width - 2


def test_zero_gammas_are_seen():
    model = small("resnet zero")
    found = facts(model, (1, 32, 32))
    block = next(f for f in found if f.name == "layer1.0.sum")
    assert block.branch[-1].rank_upper == 0


def test_a_stride_two_pointwise_convolution_reads_a_quarter():
    model = nn.Sequential(nn.Conv2d(1, 4, 1, stride=2)).double().eval()
    (bound,) = audit(facts(model, (1, 4, 4), taps=["0"]), 16)
    assert bound.upper == 4  # theory.md: 1 -> 4 channels on 4 x 4 has rank 4


@pytest.mark.parametrize(
    ("pool", "size", "expected"),
    [
        (nn.AvgPool2d(3, 1, 1), 14, 169),  # theory.md: (N-1)^2 when N = 2 mod 3
        (nn.AvgPool2d(3, 1, 1), 13, 169),
        (nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False), 7, 16),
        (nn.AvgPool2d((2, 3), (1, 2)), 6, 10),
    ],
)
def test_average_pools_have_their_operators_rank(pool, size, expected):
    model = nn.Sequential(pool).double().eval()
    (bound,) = audit(facts(model, (1, size, size), taps=["0"]), size * size)
    basis = torch.eye(size * size, dtype=torch.float64).reshape(-1, 1, size, size)
    assert bound.upper == bound.lower == expected
    assert int(torch.linalg.matrix_rank(pool(basis).flatten(1))) == expected


def test_strangers_are_opaque_and_say_so():
    class Strange(nn.Module):
        def forward(self, x):
            return torch.cat([x, x], -1)

    model = nn.Sequential(nn.Linear(4, 3), Strange(), nn.Linear(6, 5)).double().eval()
    bounds = audit(facts(model, (4,), taps=["1", "2"]), 4)
    assert [b.upper for b in bounds] == [3, 3]
    assert "Strange has no rank rule" in bounds[0].notes[0]

    class Wrapper(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 2), nn.Linear(4, 3)

        def forward(self, x):
            return self.a(x), self.b(x)

    bounds = audit(facts(Wrapper().double().eval(), (4,), taps=["a", "b"]), 4)
    assert [b.upper for b in bounds] == [2, 3]  # b does not pass through a


@pytest.mark.parametrize(
    "module",
    [
        StdConv2d(2, 3, 1),  # zero weights are standardised to non-zero ones
        LayerNorm2d(2),  # normalises channels, not the last dimension
        nn.BatchNorm2d(2, track_running_stats=False),  # statistics of the input: not diagonal
        nn.BatchNorm2d(2, affine=False),
    ],
    ids=lambda m: type(m).__name__,
)
def test_subclasses_with_another_forward_are_opaque(module):
    model = nn.Sequential(module).double().eval()
    (bound,) = audit(facts(model, (2, 4, 4), taps=["0"]), 32)
    opaque = getattr(module, "running_mean", None) is None
    assert bool(bound.notes) == opaque
    live = torch.zeros(2, 4, 4, dtype=torch.bool)
    live[0, 1, 1] = True
    x = torch.randn(2, 4, 4, dtype=torch.float64)
    (fact,) = [f for f in facts(model, x.shape, live=live, taps=["0"]) if f.name == "0"]
    _, rows = jacobian_ranks(model, x, live, ["0"])
    assert rows["0"] <= (fact.outputs if fact.live is None else fact.live)


def test_a_stranger_with_a_known_name_is_opaque():
    class BasicBlock(nn.Module):
        def forward(self, x):
            return x.flip(-1)

    model = nn.Sequential(BasicBlock()).double().eval()
    (bound,) = audit(facts(model, (4,), taps=["0"]), 4)
    assert "no rank rule" in bound.notes[0]


def test_an_unknown_model_without_taps_is_bounded_at_its_output():
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.wide = nn.Linear(4, 9)

        def forward(self, x):
            return self.wide(x).sum(-1, keepdim=True)

    (bound,) = audit(facts(Plain().double().eval(), (4,)), 4)
    assert (bound.tap, bound.upper) == ("output", 1)
    assert "Plain has no rank rule" in bound.notes[0]


def test_bad_input_names_the_shapes():
    model = small("resnet")
    with pytest.raises(InputError, match=r"\(1, 8, 8\).*\(1, 32, 32\)"):
        facts(model, (1, 32, 32), image=torch.zeros(1, 8, 8))
    with pytest.raises(InputError, match="no module 'nope'"):
        facts(model, (1, 32, 32), taps=["nope"])
    with pytest.raises(InputError, match="training mode"):
        facts(model.train(), (1, 32, 32))


def test_structural_and_exact_ranks_meet_on_a_digits_network():
    """Exact mod-p ranks never exceed the bound, and meet it: 26 live channels of 48, rank 26."""
    from empirical.digits import digits_data
    from empirical.jacobian import jacobian_profile
    from empirical.models import load

    loaded = load("digits-resnet", random_weights=True)
    x = digits_data().test_x[0].double()
    profile = jacobian_profile(loaded.model, x, field="exact", patch=None, taps=loaded.taps)
    exact = {r.tap: int(r.low) for r in profile.records if r.notion == "exact"}
    bounds = {b.tap: int(b.upper) for b in audit(facts(loaded.model, x.shape, image=x), x.numel())}
    assert exact.keys() == bounds.keys()
    assert all(exact[tap] <= bounds[tap] for tap in exact), (exact, bounds)
    assert exact["global_pool"] == bounds["global_pool"] < 48
