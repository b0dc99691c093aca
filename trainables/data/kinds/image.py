"""Images, which are decoded, scaled and cropped to squares of one size."""

from __future__ import annotations

import io
from collections.abc import Mapping
from concurrent.futures import Executor
from itertools import repeat
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image
import pyarrow as pa
import torch
from PIL import ImageOps
from torch import Tensor

from trainables.data.kinds.base import Content, Convert, Facts, Kind, file_bytes, holds_files
from trainables.errors import UserError
from trainables.towers import EncoderSource, InputSizes

if TYPE_CHECKING:
    from trainables.data.source import Dataset


class Image(Kind):
    """Encoded image files. The blank is an image of the mean color.

    Images are resized so that their shorter side has the wanted length, and then cropped at the centre.
    """

    name = "image"
    expected = "binary (encoded image files), or string (paths of such files)"
    of_files = True
    pixels = "pixels"

    def takes(self, column: pa.DataType) -> bool:
        """Return whether values may be stored in a column of this type."""
        return holds_files(column)

    def contents(self, values: pa.Array) -> list[Content]:
        """Return the bytes of the files; a struct has them in its field ``bytes``."""
        return list(map(file_bytes, values.to_pylist()))

    def facts(self, dataset: Dataset, modality: str, encoder: EncoderSource, sizes: InputSizes) -> Facts:
        """Return the side of the square in pixels, and the mean and deviation of pixels in training."""
        mean, std = _statistics(encoder)
        return {"size": sizes.image_size, "mean": mean, "std": std}

    def schema(self, facts: Facts) -> pa.Schema:
        """Return the column of pixels."""
        return pa.schema({"pixels": pa.binary(3 * facts["size"] ** 2)})

    def convert(self, encoder: EncoderSource, facts: Facts, pool: Executor) -> Convert:
        """Return the function that decodes images."""
        size = facts["size"]
        blank = np.round(255 * np.array(facts["mean"])).clip(0, 255).astype(np.uint8)

        def convert(images: list[Content], rows: list[str]) -> dict[str, pa.Array]:
            pixels = pool.map(_pixels, images, repeat(size), repeat(blank), rows)
            return {"pixels": pa.array(list(pixels), type=pa.binary(3 * size**2))}

        return convert

    def cell_bytes(self, facts: Facts) -> int:
        """Return the bytes of an image's pixels."""
        return 3 * int(facts["size"]) ** 2

    def views(self, batch: pa.RecordBatch, facts: Facts) -> dict[str, np.ndarray]:
        """Return the pixels (C, S, S, 3)."""
        n, size = batch.num_rows, facts["size"]
        pixels = np.frombuffer(batch["pixels"].buffers()[1], dtype=np.uint8)
        return {"pixels": pixels[: n * size * size * 3].reshape(n, size, size, 3)}

    def inputs(self, cells: Mapping[str, np.ndarray], facts: Facts) -> dict[str, Tensor]:
        """Return normalised ``pixel_values`` (B, 3, S, S)."""
        pixels = torch.from_numpy(cells["pixels"]).permute(0, 3, 1, 2)
        mean = torch.tensor(facts["mean"]).view(3, 1, 1)
        std = torch.tensor(facts["std"]).view(3, 1, 1)
        return {"pixel_values": ((pixels.float() / 255 - mean) / std).contiguous()}


def _pixels(data: bytes | None, size: int, blank: np.ndarray, where: str) -> bytes:
    if data is None:
        return np.tile(blank, size * size).tobytes()
    try:
        with PIL.Image.open(io.BytesIO(data)) as stored:
            image = ImageOps.exif_transpose(stored)
            if image.mode.startswith("I;16"):
                # convert would clip 16-bit values to 8 bits instead of scaling them
                picture = image.point(lambda value: value / 256).convert("L").convert("RGB")
            else:
                picture = image.convert("RGB")
    except (OSError, ValueError, SyntaxError, RuntimeError, PIL.Image.DecompressionBombError) as error:
        raise UserError(f"{where}: the image cannot be decoded ({error})") from error
    scale = size / min(picture.size)
    width, height = (max(size, round(side * scale)) for side in picture.size)
    left, top = (width - size) // 2, (height - size) // 2
    resized = picture.resize((width, height), PIL.Image.Resampling.BICUBIC)
    return resized.crop((left, top, left + size, top + size)).tobytes()


def _statistics(encoder: EncoderSource) -> tuple[list[float], list[float]]:
    """Return the mean and standard deviation that the encoder was trained with; ImageNet's by default."""
    from transformers import ImageProcessingMixin
    from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    try:
        config, _ = ImageProcessingMixin.get_image_processor_dict(encoder.location)
    except OSError:
        config = {}
    mean = config.get("image_mean") or IMAGENET_DEFAULT_MEAN
    std = config.get("image_std") or IMAGENET_DEFAULT_STD
    return list(mean), list(std)
