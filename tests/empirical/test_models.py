"""Loading proves itself on photographs, refuses what does not fit, and taps what separates."""

import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from empirical import digits, models
from empirical.images import embedded, preprocess
from empirical.models import LoadedModel, fit_in_order, load
from empirical.taps import default_taps, named_taps
from theory.errors import InputError

#: what timm's own preprocessing and the real weights must see (theory of the wheel: issue 2)
SEEN = {
    "coffee": "espresso",
    "rocket": "missile",
    "china": "palace",
    "flower": "daisy",
    "chelsea": "tiger cat",
}


@pytest.fixture(scope="module")
def lite() -> LoadedModel:
    return load("efficientnet-lite0")


@pytest.mark.parametrize("name", SEEN)
def test_embedded_weights_recognise_the_embedded_photographs(lite: LoadedModel, name: str) -> None:
    x = preprocess(embedded(name)[name], lite)
    assert x.dtype == torch.float64
    assert x.shape == (3, 224, 224)
    with torch.no_grad():
        probability, index = lite.model(x.float()[None]).softmax(1)[0].max(0)
    assert lite.classes is not None
    assert lite.classes[int(index)] == SEEN[name]
    if name == "coffee":
        assert float(probability) == pytest.approx(0.95, abs=0.01)  # resizing differs by a hair


def test_efficientnet_is_ready_to_be_measured(lite: LoadedModel) -> None:
    assert not lite.model.training
    assert {p.dtype for p in lite.model.parameters()} == {torch.float32}
    assert [t.kind for t in lite.taps] == ["stem", *["block"] * 16, "pooled", "logits"]
    assert lite.weights == load("tf_efficientnet_lite0").weights
    assert lite.weights != load("efficientnet-lite0", random_weights=True).weights


def test_unknown_name_has_close_matches() -> None:
    with pytest.raises(InputError, match="resnet50"):
        load("resnet5O")
    with pytest.raises(InputError, match="digits-vit"):
        load("digit-vit")


def test_hub_weights_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(models, "_resolves", lambda url: False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"--checkpoint FILE.*--random-weights"):
        load("resnet10t")


@pytest.fixture
def state() -> dict[str, Tensor]:
    return {k: v.clone() for k, v in digits.build("digits-resmlp", 5).state_dict().items()}


def test_checkpoint_round_trip(tmp_path: Path, state: dict[str, Tensor]) -> None:
    from safetensors.torch import save_file

    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "a.pth")
    save_file(state, tmp_path / "a.safetensors")
    want = models.weights_hash(state)
    for file in ("a.pth", "a.safetensors"):
        assert load("digits-resmlp", checkpoint=tmp_path / file).weights == want
    assert load("digits-resmlp", random_weights=True, seed=5).weights == want
    assert load("digits-resmlp", random_weights=True, seed=6).weights != want


def test_checkpoint_that_does_not_fit(tmp_path: Path, state: dict[str, Tensor]) -> None:
    key = list(state)[3]
    shape = tuple(state[key].shape)

    def refused(changed: dict[str, Tensor], *words: str) -> None:
        torch.save(changed, tmp_path / "x.pth")
        with pytest.raises(InputError) as caught:
            load("digits-resmlp", checkpoint=tmp_path / "x.pth")
        assert all(word in str(caught.value) for word in words), str(caught.value)

    refused(state | {key: torch.zeros(2, 3)}, repr(key), "(2, 3)", str(shape))
    refused({k: v for k, v in state.items() if k != key}, repr(key), str(shape), "missing")
    refused(state | {"extra": torch.zeros(7)}, "'extra'", "(7,)")
    refused(state | {key: torch.full(shape, float("nan"))}, key, "NaN or infinite")


def test_checkpoint_that_is_no_state_dict(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "owned",))  # type: ignore[return-value]

    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"w": Evil()}, protocol=2))
    (tmp_path / "junk.pth").write_bytes(b"junk")
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    torch.save({"a": 1}, tmp_path / "int.pth")
    for name in ("evil.pth", "junk.pth", "junk.safetensors", "int.pth", "absent.pth"):
        with pytest.raises(InputError, match=name.replace(".", r"\.")):
            load("digits-resmlp", checkpoint=tmp_path / name)
    assert not (tmp_path / "owned").exists()


def test_order_loading_names_the_first_pair_that_differs() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))
    other = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 5)).state_dict()
    renamed = {f"x{k}": v for k, v in other.items()}
    with pytest.raises(InputError, match=r"x1\.weight.*\(5, 3\).*1\.weight.*\(4, 3\)"):
        fit_in_order(model, renamed, "test")


def test_random_weights_leave_no_branch_at_zero() -> None:
    resnet = load("resnet18", random_weights=True).model
    norms = [m for n, m in resnet.named_modules() if n.endswith("bn2")]
    assert norms
    assert all(bool(m.weight.any()) for m in norms)  # type: ignore[union-attr,operator]
    resmlp = load("resmlp_12_224", random_weights=True).model
    assert bool(resmlp.get_classifier().weight.any())  # type: ignore[operator]


@pytest.mark.parametrize(
    "name", [*digits.NAMES, "resnet18", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"]
)
def test_default_taps_separate_input_from_output(name: str) -> None:
    """Oracle: an output that knows the input through the tap only follows a transplanted tap."""
    loaded = load(name, random_weights=True)
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(2, 1, *loaded.input_size, generator=generator)
    want = loaded.model(y)
    kinds = [tap.kind for tap in loaded.taps]
    assert kinds[0] == "stem"
    assert kinds[-2:] == ["pooled", "logits"]
    for tap in loaded.taps:
        kept: list[Tensor] = []
        module = loaded.model.get_submodule(tap.name)
        handle = module.register_forward_hook(lambda m, i, o, kept=kept: kept.append(o.clone()))
        loaded.model(y)
        handle.remove()
        handle = module.register_forward_hook(lambda m, i, o, kept=kept: kept[0])
        got = loaded.model(x)
        handle.remove()
        assert torch.equal(got, want), tap.name


def test_a_tap_inside_a_branch_is_labelled() -> None:
    model = digits.build("digits-resnet")
    model.pretrained_cfg = {"input_size": (1, 8, 8)}  # type: ignore[assignment]
    block, inner = named_taps(model, ["layer1.0", "layer1.0.conv1"])
    assert block.separator
    assert not inner.separator
    with pytest.raises(InputError, match=r"layer9\.0"):
        named_taps(model, ["layer9.0"])


def test_a_model_without_blocks_is_refused() -> None:
    with pytest.raises(InputError, match="no residual or transformer blocks"):
        default_taps(nn.Sequential(nn.Linear(3, 2)), (3,))
