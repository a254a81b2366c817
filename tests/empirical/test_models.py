"""Loading proves itself on photographs, refuses what does not fit, and taps what separates."""

import copy
import pickle
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from empirical import checkpoints, digits, hub, models
from empirical.checkpoints import fit_in_order
from empirical.images import embedded, preprocess
from empirical.models import LoadedModel, load
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

    monkeypatch.setattr(hub, "resolves", lambda url: False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"--checkpoint FILE.*--random-weights"):
        load("resnet10t")


@pytest.mark.parametrize("there", [True, False])
def test_a_hub_that_is_not_there_is_not_asked(there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cache is, and the setting is what it was afterwards, whatever happened."""
    import timm
    from huggingface_hub import constants

    offline = []

    def create(name: str, pretrained: bool) -> nn.Module:
        offline.append(constants.HF_HUB_OFFLINE)
        raise OSError("down")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "resolves", lambda url: there)
    monkeypatch.setattr(timm, "create_model", create)
    with pytest.raises(InputError, match="OSError: down"):
        hub.from_hub("resnet10t")
    assert offline == [not there]
    assert constants.HF_HUB_OFFLINE is False


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
    drawn = load("digits-resmlp", random_weights=True, seed=5)
    for key, value in drawn.model.state_dict().items():  # a head that starts at zero is drawn too
        assert torch.equal(value, state[key]) != (key == "head.weight"), key
    assert load("digits-resmlp", random_weights=True, seed=5).weights == drawn.weights
    assert load("digits-resmlp", random_weights=True, seed=6).weights != drawn.weights


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


def test_renamed_keys_are_reported(tmp_path: Path, state: dict[str, Tensor]) -> None:
    want = models.weights_hash(state)
    wrong = {k: v + 1 if v.is_floating_point() else v for k, v in state.items()}
    compiled = {f"module._orig_mod.{k}": v for k, v in state.items()}
    cases: dict[str, tuple[object, list[str]]] = {
        "plain": (state, []),
        "wrapped": ({"epoch": 3, "state_dict": state}, ["its entry 'state_dict'"]),
        "compiled": (
            {"model": compiled},
            ["its entry 'model'", "keys renamed: module.*", "keys renamed: _orig_mod.*"],
        ),
        # averaged weights are taken before the raw ones, as timm does
        "averaged": ({"state_dict": wrong, "state_dict_ema": state}, ["'state_dict_ema'"]),
        "nested": ({"model": {"state_dict": state}}, ["'model'", "'state_dict'"]),
    }
    for name, (saved, words) in cases.items():
        torch.save(saved, tmp_path / f"{name}.pth")
        loaded = load("digits-resmlp", checkpoint=tmp_path / f"{name}.pth")
        assert loaded.weights == want, name
        assert len(loaded.notes) == len(words), loaded.notes
        for note, word in zip(loaded.notes, words, strict=True):
            assert word in note
            assert note in loaded.source  # and so in every run folder


def test_keys_of_the_original_repository_go_through_timms_filter(tmp_path: Path) -> None:
    """ResMLP's authors number their layers otherwise; timm's own filter knows."""
    import timm

    own = timm.create_model("resmlp_12_224", num_classes=3).state_dict()
    foreign = {
        k.replace("stem.", "patch_embed.")
        .replace("linear_tokens", "attn").replace("mlp_channels", "mlp")
        .replace("ls1", "gamma_1").replace("ls2", "gamma_2"): v
        for k, v in own.items()
    }  # fmt: skip
    assert set(foreign) != set(own)
    model = timm.create_model("resmlp_12_224", num_classes=3)
    torch.save(foreign, tmp_path / "x.pth")
    notes = checkpoints.load_into(model, tmp_path / "x.pth")
    assert any("renamed by timm's filter: patch_embed.proj.weight -> stem.proj" in n for n in notes)
    for key, value in model.state_dict().items():
        assert torch.equal(value.flatten(), own[key].flatten()), key


def test_everything_that_does_not_fit_is_listed(tmp_path: Path, state: dict[str, Tensor]) -> None:
    keys = list(state)
    renamed = {("wrong." + k if k in keys[:7] else k): v for k, v in state.items()}
    torch.save(renamed, tmp_path / "x.pth")
    with pytest.raises(InputError) as caught:
        load("digits-resmlp", checkpoint=tmp_path / "x.pth")
    text = str(caught.value)
    assert "7 keys are missing" in text
    assert "7 keys have no place" in text
    assert "and 2 more" in text  # five of each are shown
    assert f"'wrong.{keys[0]}'" in text


def small_torchvision() -> nn.Module:
    from torchvision.models.resnet import BasicBlock, ResNet

    torch.manual_seed(0)
    return ResNet(BasicBlock, [1, 1, 1, 1], num_classes=7)


class Answer(dict):  # type: ignore[type-arg]
    """What Hugging Face's ModelOutput is: a mapping whose entries are attributes too."""

    __getattr__ = dict.__getitem__


class Renamed(nn.Module):
    """A Hugging Face image model's interface: pixel_values in, a ModelOutput out."""

    main_input_name = "pixel_values"

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Conv2d(3, width, 4, stride=4)
        self.layer = nn.ModuleList(Residual(width) for _ in range(3))
        self.classifier = nn.Linear(width, 5)
        self.config = type(
            "Config",
            (),
            {"image_size": 16, "num_channels": 3, "id2label": dict(enumerate("abcde"))},
        )

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> Answer:
        hidden = self.embed(pixel_values)
        for layer in self.layer:
            hidden = layer(hidden)
        return Answer(loss=None, logits=self.classifier(hidden.mean((2, 3))))


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.inside = nn.Sequential(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)),
            nn.ReLU(),
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inside(x)


def no_logits() -> nn.Module:
    class Tuples(Renamed):
        def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> Answer:
            return Answer(features=pixel_values)

    return Tuples()


def fails() -> nn.Module:
    raise RuntimeError("weights are elsewhere")


def no_network() -> int:
    return 3


HERE = __name__


def test_a_torchvision_network_by_its_callable() -> None:
    from empirical.jacobian import jacobian_profile

    loaded = load(f"{HERE}:small_torchvision")
    assert [t.kind for t in loaded.taps] == ["stem", *["block"] * 4, "logits"]
    assert loaded.input_size == (3, 224, 224)
    assert loaded.classes is None
    assert "assumed" in loaded.notes[0]
    image = torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(0)).double()
    profile = jacobian_profile(loaded.model, image, patch=2, taps=loaded.taps[-1:])
    values = profile.spectra[loaded.taps[-1].name]
    twin = copy.deepcopy(loaded.model).double()

    def logits_of(pixels: Tensor) -> Tensor:
        x = image.clone()
        x[:, 31:33, 31:33] = pixels
        return twin(x[None])[0]  # type: ignore[no-any-return]

    whole = torch.autograd.functional.jacobian(logits_of, image[:, 31:33, 31:33])
    oracle = torch.linalg.svdvals(whole.reshape(7, -1))
    torch.testing.assert_close(torch.as_tensor(values)[:7], oracle, rtol=1e-9, atol=1e-12)


def test_a_hugging_face_interface_is_wrapped() -> None:
    loaded = load(f"{HERE}:Renamed")
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(loaded.model(x), Renamed().eval()(x)["logits"])
    assert loaded.input_size == (3, 16, 16)
    assert loaded.classes == tuple("abcde")
    # blocks are what separates: neither the stage list nor the halves of a branch
    assert [(t.name, t.kind, t.separator) for t in loaded.taps] == [
        ("network.embed", "stem", True),
        *[(f"network.layer.{i}", "block", True) for i in range(3)],
        ("network.classifier", "logits", True),
    ]
    control = load(f"{HERE}:Renamed", random_weights=True, seed=3)
    assert control.weights != loaded.weights
    assert control.weights == load(f"{HERE}:Renamed", random_weights=True, seed=3).weights


class Named(nn.Module):
    """Blocks as attributes, one of a class with the others but with a skip switched off."""

    def __init__(self, skips: tuple[bool, ...]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, stride=4), nn.ReLU())
        for i, skip in enumerate(skips):
            block = Residual(6)
            if not skip:
                block.forward = block.inside.forward  # type: ignore[method-assign,assignment]
            setattr(self, f"part{i}", block)
        self.count = len(skips)
        self.fc = nn.Linear(6, 4)
        self.pretrained_cfg = {"input_size": (3, 16, 16)}

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for i in range(self.count):
            x = getattr(self, f"part{i}")(x)
        return self.fc(x.mean((2, 3)))  # type: ignore[no-any-return]


def named_blocks() -> nn.Module:
    return Named((True, False, True))


def plain_chain() -> nn.Module:
    torch.manual_seed(0)
    chain = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(576, 5),
    )
    chain.pretrained_cfg = {"input_size": (3, 16, 16)}  # type: ignore[assignment]
    return chain


def test_blocks_are_what_separates_whatever_they_are_called() -> None:
    """A block without a skip is one block, as those of its class are; a chain has its layers."""
    taps = load(f"{HERE}:named_blocks").taps
    assert [(t.name, t.kind) for t in taps] == [
        ("stem", "stem"), ("part0", "block"), ("part1", "block"), ("part2", "block"),
        ("fc", "logits"),
    ]  # fmt: skip
    assert all(t.separator for t in taps)
    chain = load(f"{HERE}:plain_chain").taps
    assert [t.name for t in chain if t.kind == "block"] == ["0", "2"]
    assert [t.name for t in chain if t.kind == "logits"] == ["5"]


def test_hugging_face_itself() -> None:
    transformers = pytest.importorskip(
        "transformers", reason="transformers is an outside check, not a dependency"
    )
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        image_size=16, patch_size=4, num_labels=6, attn_implementation="eager",
    )  # fmt: skip
    torch.manual_seed(0)
    network = transformers.ViTForImageClassification(config).eval()
    loaded = models.from_module(network, name="hf-vit")
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(loaded.model(x), network(pixel_values=x).logits)
    assert [t.kind for t in loaded.taps] == ["stem", "block", "block", "logits"]
    assert all(t.separator for t in loaded.taps)
    from empirical.jacobian import jacobian_profile

    profile = jacobian_profile(
        loaded.model, x[0].double(), patch=2, taps=loaded.taps[-1:], name="hf-vit"
    )
    # 12 directions through 6 logits: at most 6, and softmax attention keeps all of them
    assert profile.value(loaded.taps[-1].name, "relative(0.001)") == 6


def test_a_file_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(f"from {HERE} import Renamed as build\n")
    assert load(f"{tmp_path / 'mine.py'}:build").weights == load(f"{HERE}:Renamed").weights


def test_the_working_directory_is_searched_and_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "beside_me.py").write_text(f"from {HERE} import Renamed as build\n")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    load("beside_me:build")
    assert sys.path == before


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no_such_package.models:net", "cannot import no_such_package.models"),
        (f"{HERE}:absent", "has no 'absent'"),
        (f"{HERE}:HERE", "is a str, not a function"),
        (f"{HERE}:fails", "RuntimeError: weights are elsewhere"),
        (f"{HERE}:no_network", "returned a int, not an nn.Module"),
        (f"{HERE}:no_logits", "Answer without logits"),
        ("absent.py:net", "no file at absent.py"),
    ],
)
def test_callables_that_are_no_network(name: str, words: str) -> None:
    with pytest.raises(InputError, match=words.replace(".", r"\.")):
        load(name)


def test_a_name_is_not_imported_unless_it_says_so(tmp_path: Path) -> None:
    """A module name alone is a model name that does not exist; nothing is run."""
    with pytest.raises(InputError, match="no model is called"):
        load(HERE)


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
