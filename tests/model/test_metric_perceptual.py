from __future__ import annotations

import sys
from pathlib import Path

import lpips
import numpy as np
import pytest
import torch
import torchvision

from codecprior.errors import ConfigError
from codecprior.model.metric import FramePair
from codecprior.model.metric_perceptual import BACKBONES, Lpips, Musiq, default_backbone
from codecprior.model.protocols import find_protocol

NAMES = {"alex": "alexnet", "squeeze": "squeezenet1_1"}


@pytest.fixture(scope="module")
def pair() -> FramePair:
    rng = np.random.default_rng(4)
    reference = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    output = (reference + rng.normal(0, 20, reference.shape)).clip(0, 255).astype(np.uint8)
    return FramePair(output=output, reference=reference)


def same(pair: FramePair) -> FramePair:
    return FramePair(output=pair.reference, reference=pair.reference)


@pytest.fixture(scope="module", params=NAMES)
def backbone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A real backbone as torchvision writes it, not trained."""
    path = tmp_path_factory.mktemp("backbone") / BACKBONES[request.param]
    torch.manual_seed(1)
    torch.save(getattr(torchvision.models, NAMES[request.param])(weights=None).state_dict(), path)
    return request.param, path


def test_lpips_runs_over_the_weights_that_are_given(backbone: tuple[str, Path], pair: FramePair) -> None:
    net, path = backbone
    metric = Lpips(path, net)  # type: ignore[arg-type]
    score = metric.start(find_protocol("plain"))
    assert score(same(pair)) == 0
    weights = torch.load(path, weights_only=True)
    features = metric._model.net.state_dict()
    assert features
    assert all(torch.equal(features[name], weights[f"features.{name.partition('.')[2]}"]) for name in features)
    # The distance of lpips.im2tensor, which is the package's own way from a picture to its input.
    output, reference = (lpips.im2tensor(frame) for frame in (pair.output, pair.reference))
    assert score(pair) == pytest.approx(metric._model(output, reference).item(), rel=1e-5)
    assert score(pair) > 0
    assert len(metric.facts()["weights_sha256"]) == 64
    assert net in metric.convention(find_protocol("plain"))


def test_lpips_keeps_the_heads_of_its_package(backbone: tuple[str, Path]) -> None:
    net, path = backbone
    heads = torch.load(Path(lpips.__file__).parent / f"weights/v0.1/{net}.pth", map_location="cpu", weights_only=True)
    state = Lpips(path, net)._model.state_dict()  # type: ignore[arg-type]
    assert heads
    assert all(torch.equal(state[name], head) for name, head in heads.items())


def test_weights_of_something_else_are_refused(backbone: tuple[str, Path], tmp_path: Path) -> None:
    net, path = backbone
    other = "squeeze" if net == "alex" else "alex"
    with pytest.raises(ConfigError, match=rf"is no weights of the LPIPS backbone {other}; give torchvision's"):
        Lpips(path, other)  # type: ignore[arg-type]
    text = tmp_path / "weights.pth"
    text.write_text("not weights")
    with pytest.raises(ConfigError, match=r"weights\.pth: is no weights of the LPIPS backbone alex"):
        Lpips(text)
    with pytest.raises(ConfigError, match=r"absent\.pth: no such file; give the weights"):
        Lpips(tmp_path / "absent.pth")


def test_the_default_backbone_lies_below_torch_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert default_backbone("alex") == tmp_path / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth"
    known = torchvision.models
    for net, weights in (("alex", known.AlexNet_Weights), ("vgg", known.VGG16_Weights)):
        assert weights.IMAGENET1K_V1.url.endswith(f"/{BACKBONES[net]}")
    assert known.SqueezeNet1_1_Weights.IMAGENET1K_V1.url.endswith(f"/{BACKBONES['squeeze']}")


def test_musiq_without_its_package_or_its_weights_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tmp_path / "musiq.pth"
    weights.write_bytes(b"any")
    monkeypatch.setitem(sys.modules, "pyiqa", None)  # as if it were not installed
    with pytest.raises(ConfigError, match=r"MUSIQ runs through pyiqa, which cannot be imported .*pip install pyiqa"):
        Musiq(weights)
    with pytest.raises(ConfigError, match=r"absent\.pth: no such file"):
        Musiq(tmp_path / "absent.pth")


@pytest.mark.filterwarnings("ignore")  # pyiqa's own
def test_musiq_runs_through_pyiqa_where_it_is_installed(tmp_path: Path, pair: FramePair) -> None:
    architecture = pytest.importorskip(
        "pyiqa.archs.musiq_arch", reason="pyiqa is not installed (noncommercial licence)"
    )
    torch.manual_seed(1)
    network = architecture.MUSIQ(pretrained=False).eval()  # not trained
    torch.save(network.state_dict(), tmp_path / "musiq.pth")
    metric = Musiq(tmp_path / "musiq.pth")
    with torch.inference_mode():
        expected = float(network(torch.tensor(pair.output).permute(2, 0, 1)[None] / 255))
    assert metric.start(find_protocol("plain"))(pair) == pytest.approx(expected)
    torch.save({}, tmp_path / "other.pth")
    with pytest.raises(ConfigError, match=r"other\.pth: is no weights of MUSIQ"):
        Musiq(tmp_path / "other.pth")
