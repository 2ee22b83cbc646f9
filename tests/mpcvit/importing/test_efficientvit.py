"""An EfficientViT of timm gives the logits of its torch module, and can be asked."""

import json
import re

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import save_file

from mpcprof.errors import UsageError
from mpcprof.nn.efficientvit import efficientvit, get_efficientvit
from mpcvit.checkpoint import read_checkpoint
from mpcvit.checkpoint_header import read_header
from mpcvit.cli import main
from mpcvit.importing.run import ImportConfig, ImportResult, import_checkpoint
from mpcvit.models.algebra import OPS
from mpcvit.models.efficientvit import EfficientViTMSRA, to_pixels
from mpcvit.tensor_file import unpack_tensors
from tests.mpcvit.models.test_efficientvit import TINY, images, trained

pytestmark = pytest.mark.usefixtures("one_thread")
BIASES = "stages.{}.blocks.0.mixer.m.attn.attention_biases"


def saved(folder, module: EfficientViTMSRA, **changes) -> "object":
    tensors = {**module.state_dict(), **changes}
    path = folder / "efficientvit_tiny.safetensors"
    save_file({k: t.contiguous() for k, t in tensors.items() if t is not None}, path)
    return path


def imported(path, **options) -> ImportResult:
    output = path.parent / "ours.safetensors"
    return import_checkpoint(ImportConfig(source=path, output=output, **options))


def test_logits_are_those_of_the_module_to_1e_5(tmp_path):
    module = trained(TINY)
    inputs = images(module.network)

    result = imported(saved(tmp_path, module))

    network = get_efficientvit(str(result.architecture_file))
    weights, _ = unpack_tensors(result.checkpoint.read_bytes())
    with torch.no_grad():
        found = efficientvit(OPS, network, to_pixels(inputs), weights)
        expected = module(inputs)
    assert network.n_heads == TINY.n_heads
    assert network == read_header(result.checkpoint).architecture
    assert expected.std() > 0.1
    assert (found - expected).abs().max() < 1e-5


def test_a_network_that_diverged_is_refused(tmp_path):
    bias = torch.full((TINY.n_classes,), torch.nan)
    path = saved(tmp_path, trained(TINY), **{"head.linear.bias": bias})

    with pytest.raises(
        UsageError, match=r"head\.linear\.bias has entries that are not"
    ):
        imported(path)

    assert not (tmp_path / "ours.safetensors").exists()


def test_a_published_size_is_known_by_its_shapes(tmp_path):
    m0 = get_efficientvit("efficientvit-m0")

    result = imported(saved(tmp_path, EfficientViTMSRA(m0)))

    assert result.architecture == m0
    assert result.normalization.mean == (0.485, 0.456, 0.406)


@pytest.mark.parametrize(
    ("options", "changes", "message"),
    [
        (
            {"image_size": 64},
            {},
            "--image 64: windows of 7, 7, 4 places a side are of images of 208 or 224",
        ),
        ({"n_heads": 4}, {}, "--heads 4: an EfficientViT says it; leave it out"),
        ({}, {"stages.2.blocks.0.dw0.m.conv.weight": None}, "0.dw0.m.conv.weight is"),
        ({}, {"head_dist.weight": torch.zeros(1)}, "1 unknown (head_dist.weight)"),
        ({}, {BIASES.format(2): torch.zeros(2, 9)}, "no --image: windows of 7, 7, 3"),
    ],
)
def test_what_does_not_fit_is_one_line(options, changes, message, tmp_path):
    path = saved(tmp_path, EfficientViTMSRA(TINY), **changes)

    with pytest.raises(UsageError, match=re.escape(message)):
        imported(path, **options)


def test_commands_for_transformers_refuse_it_in_one_line(tmp_path):
    checkpoint = imported(saved(tmp_path, EfficientViTMSRA(TINY))).checkpoint

    with pytest.raises(UsageError, match="an EfficientViT, which `mpcvit infer` takes"):
        read_checkpoint(checkpoint)


@pytest.mark.spu
@pytest.mark.usefixtures("stay")
def test_infer_gives_the_label_of_the_module(tmp_path):
    network = get_efficientvit("efficientvit-m0")
    module = trained(
        type(network)(
            name="efficientvit-small",
            widths=(16, 16, 16),
            depths=(1, 1, 1),
            n_heads=(2, 1, 1),
            image_size=32,
            n_classes=5,
        )
    )
    checkpoint = imported(saved(tmp_path, module), image_size=32).checkpoint
    picture = tmp_path / "picture.png"
    Image.effect_noise((32, 32), 90).convert("RGB").save(picture)

    arguments = ["infer", str(checkpoint), str(picture), "--network", "lan", "--json"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)

    with Image.open(picture) as opened:
        pixels = torch.from_numpy(np.array(opened)).permute(2, 0, 1)[None]
    with torch.no_grad():
        logits = module(read_header(checkpoint).normalize(pixels))
    assert found["labels"][0]["label"] == int(logits.argmax())
    assert found["calls"][0]["hops"] == found["forecast"]["hops"]
