"""Images, which are decoded, scaled and cropped to squares of one size."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image
import pyarrow as pa
import torch
from PIL import ImageColor
from torch import Tensor

from trainables.data.kinds.base import (
    Content,
    Convert,
    Converted,
    Facts,
    Kind,
    decoded,
    file_bytes,
    file_content,
    holds_files,
)
from trainables.data.kinds.pixels import as_file, square
from trainables.errors import UserError
from trainables.reading_settings import ReadingSettings
from trainables.towers import EncoderSource, InputSizes, image_statistics

if TYPE_CHECKING:
    from trainables.data.source import Dataset


class Image(Kind):
    """Encoded image files. The blank is an image of the mean color.

    ``square`` says how they are decoded, resized and cropped.
    """

    name = "image"
    noun = "picture"
    expected = "binary (encoded image files), string (paths of such files), or a struct with bytes or path"
    of_files = True
    pixels = "pixels"

    def takes(self, column: pa.DataType) -> bool:
        """Return whether values may be stored in a column of this type."""
        return holds_files(column)

    def contents(self, values: pa.Array) -> list[Content]:
        """Return the bytes of the files; a struct has them in its field ``bytes``."""
        return list(map(file_bytes, values.to_pylist()))

    def content(self, value: Any) -> Content:
        """Return the bytes of a picture that a user gives: as one of Pillow, or see ``file_content``."""
        if isinstance(value, PIL.Image.Image):
            return as_file(value)
        return file_content(value, ", or a PIL.Image.Image")

    def facts(
        self,
        dataset: Dataset,
        modality: str,
        encoder: EncoderSource,
        sizes: InputSizes,
        reading: ReadingSettings,
    ) -> Facts:
        """Return the side of the square in pixels, the background, and the pixels' statistics in training.

        Returns:
            ``size``; ``background``, what transparent pictures are laid on, as red, green and blue; ``mean``
            and ``std``, the mean and deviation of pixels.

        Raises:
            UserError: If the background is no color.
        """
        mean, std = image_statistics(encoder)
        background = color_of(reading.background)
        return {"size": sizes.image_size, "background": background, "mean": mean, "std": std}

    def schema(self, facts: Facts) -> pa.Schema:
        """Return the column of pixels."""
        return pa.schema({"pixels": pa.binary(3 * facts["size"] ** 2)})

    def convert(self, encoder: EncoderSource, facts: Facts, pool: Executor) -> Convert:
        """Return the function that decodes images."""
        size = facts["size"]
        mean_color = np.round(255 * np.array(facts["mean"])).clip(0, 255).astype(np.uint8)
        blank = np.broadcast_to(mean_color, (size, size, 3))
        decode = partial(square, size=size, background=tuple(facts["background"]))

        def convert(images: list[Content]) -> Converted:
            bad, warned = {}, {}
            pixels = np.empty((len(images), size, size, 3), np.uint8)
            for place, found in enumerate(decoded(pool, decode, images, blank)):
                pixels[place] = found.value
                if found.bad is not None:
                    bad[place] = found.bad
                if found.warned:
                    warned[place] = found.warned
            buffers, kind = [None, pa.py_buffer(pixels)], pa.binary(3 * size**2)
            columns = {"pixels": pa.FixedSizeBinaryArray.from_buffers(kind, len(images), buffers)}
            return Converted(columns, bad, warned)

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


def color_of(name: str) -> list[int]:
    """Return red, green and blue, from 0 to 255, of a color that Pillow knows."""
    try:
        red, green, blue, *alpha = ImageColor.getrgb(name)
    except ValueError:
        alpha = [0]
    if alpha not in ([], [255]):
        raise UserError(f"--background {name}: is no color; give a name such as white, or #RRGGBB")
    return [red, green, blue]
