"""The cache of frozen layers' outputs: what it returns, what it computes, what it keeps."""

from __future__ import annotations

import os
import shutil
from itertools import chain, product
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from tests.trainables.data.test_source import columns, png, write_dataset
from trainables.cache import building, cache_dir
from trainables.cache import manifest as manifests
from trainables.cache.entries import partials
from trainables.data import (
    SPLITS,
    EncodedSplit,
    FeatureCache,
    Few,
    NoRoomError,
    PreparedData,
    open_dataset,
    prepare,
)
from trainables.data.features import PrefixFeatures
from trainables.disk import is_disk_full
from trainables.step.setting import TrainingSetting
from trainables.towers import EncoderSource, InputSizes, Sequence, Tower, load_tower, resolve_encoder

N = 70  # more than are computed at a time
CELLS = N + 1  # with the blank
GIB = 2**30
CPU = torch.device("cpu")
MODALITIES = ("text", "image")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("PARETOFUSE_CACHE", str(folder))
    return folder


@pytest.fixture(scope="module")
def encoders(tiny_encoders: dict[str, Path]) -> dict[str, EncoderSource]:
    """A text and an image encoder."""
    return {
        "text": resolve_encoder("text", str(tiny_encoders["bert"])),
        "image": resolve_encoder("image", str(tiny_encoders["vit"])),
    }


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, encoders: dict[str, EncoderSource]) -> PreparedData:
    """Rows that differ in both modalities, the texts in length too."""
    root = tmp_path_factory.mktemp("features")
    lengths = (product(("red", "green", "blue", "square"), repeat=n) for n in (3, 2, 1))
    texts = [" ".join(words) for words in chain(*lengths)][-N:]
    images = [png((3 * i, 255 - 2 * i, 90), (16, 16)) for i in range(N)]
    content = columns(N, text=texts, image=images)
    folder = write_dataset(root / "data", **dict.fromkeys(SPLITS, content))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PARETOFUSE_CACHE", str(root / "cache"))
        return prepare(open_dataset(str(folder)), encoders, InputSizes(text_length=8, image_size=32))


def _features(
    data: PreparedData,
    tower: Tower,
    layer: int,
    split: str = "train",
    *,
    limit: int = GIB,
    setting: TrainingSetting | None = None,
    encoder: str = "weights",
    others: tuple[int, ...] = (),
) -> PrefixFeatures:
    of = EncodedSplit(data, split, tower, encoder, setting or TrainingSetting(), CPU)
    return FeatureCache(limit).features(of, layer, others)


def _sequence(found: PrefixFeatures, data: PreparedData, modality: str, rows: torch.Tensor) -> Sequence:
    """Return the tokens of rows of the training split."""
    return found.of_cells(data.split("train").index[modality][rows])


def _files(cache: Path) -> set[str]:
    return {path.name for path in (cache / "features").glob("*.npy")}


def _calls(tower: Tower, layer: int) -> list[int]:
    """Return a list that grows by the batch size each time the layer runs."""
    calls: list[int] = []
    tower.layers[layer].register_forward_hook(lambda _, inputs, output: calls.append(len(inputs[0])))
    return calls


@pytest.mark.parametrize("layer", [0, 2])
@pytest.mark.parametrize("modality", MODALITIES)
def test_equals_the_tower_run_online(
    data: PreparedData, encoders: dict[str, EncoderSource], modality: str, layer: int
) -> None:
    tower = load_tower(encoders[modality])
    found = _features(data, tower, layer)
    rows = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = tower.encode(data.split("train").inputs(modality, rows), layer)
    sequence = _sequence(found, data, modality, rows)
    assert sequence.layer == found.layer == layer
    assert (sequence.tokens - expected.tokens).abs().max() < 1e-5
    if expected.mask is None:
        assert sequence.mask is None
    else:
        assert sequence.mask is not None
        assert torch.equal(sequence.mask, expected.mask)
        assert not expected.mask.all()


@pytest.mark.parametrize("modality", MODALITIES)
def test_tower_goes_on_from_cached_tokens(
    data: PreparedData, encoders: dict[str, EncoderSource], modality: str
) -> None:
    tower = load_tower(encoders[modality])
    found = _features(data, tower, 1)
    rows = torch.tensor([69, 0, 7])
    with torch.no_grad():
        expected = tower.encode(data.split("train").inputs(modality, rows), tower.depth)
        actual = tower.encode(_sequence(found, data, modality, rows), tower.depth)
    assert (actual.tokens - expected.tokens).abs().max() < 1e-5


@pytest.mark.parametrize("modality", MODALITIES)
def test_deeper_layer_starts_from_a_cached_one(
    data: PreparedData, encoders: dict[str, EncoderSource], modality: str
) -> None:
    tower = load_tower(encoders[modality])
    _features(data, tower, 1)
    lower, upper = _calls(tower, 0), _calls(tower, 2)
    deeper = _features(data, tower, 3)
    assert sum(upper) == CELLS
    assert lower == []
    rows = torch.arange(N)
    with torch.no_grad():
        expected = tower.encode(data.split("train").inputs(modality, rows), 3)
    assert (_sequence(deeper, data, modality, rows).tokens - expected.tokens).abs().max() < 1e-5


def test_second_call_computes_nothing(data: PreparedData, encoders: dict[str, EncoderSource]) -> None:
    tower = load_tower(encoders["image"])
    calls = _calls(tower, 0)
    first = _features(data, tower, 1)
    assert sum(calls) == CELLS
    second = _features(data, tower, 1)
    assert sum(calls) == CELLS
    assert (first.tokens == second.tokens).all()


def test_layers_that_others_may_ask_for_are_stored_on_the_way(
    data: PreparedData, encoders: dict[str, EncoderSource]
) -> None:
    tower = load_tower(encoders["image"])
    calls = _calls(tower, 0)
    _features(data, tower, 3, others=(1, 2, 3, 4))
    stored = len(_files(cache_dir()))
    assert stored == 3, "layer 4 is not on the way to layer 3"
    ready = _features(data, tower, 1)
    assert sum(calls) == CELLS
    rows = torch.arange(N)
    with torch.no_grad():
        expected = tower.encode(data.split("train").inputs("image", rows), 1)
    assert (_sequence(ready, data, "image", rows).tokens - expected.tokens).abs().max() < 1e-5


@pytest.mark.parametrize("modality", MODALITIES)
def test_in_bfloat16_a_layer_is_the_same_whichever_were_on_file(
    data: PreparedData, cache: Path, encoders: dict[str, EncoderSource], modality: str
) -> None:
    tower = load_tower(encoders[modality])
    half = TrainingSetting(precision="bf16")
    _features(data, tower, 1, setting=half)
    above = _features(data, tower, 3, setting=half)
    on_the_way = _features(data, tower, 3, setting=half, encoder="equal weights", others=(1, 2))
    alone = _features(data, tower, 3, setting=half, encoder="equal weights again")
    rows = torch.arange(N)
    found = [_sequence(features, data, modality, rows).tokens for features in (above, on_the_way, alone)]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])

    full = _features(data, tower, 3)
    assert above.tokens.nbytes * 2 == full.tokens.nbytes
    expected = _sequence(full, data, modality, rows).tokens
    assert 0 < (found[0] - expected).abs().max() < 0.05 * expected.abs().max()


@pytest.mark.parametrize("modality", MODALITIES)
def test_equal_inputs_are_computed_and_stored_once(
    tmp_path: Path, data: PreparedData, encoders: dict[str, EncoderSource], modality: str
) -> None:
    """Rows of repeated inputs give the same, bit by bit, as the rows of data in which each is there once."""
    draw = torch.Generator().manual_seed(0)
    drawn = torch.cat(
        [torch.arange(N), torch.randint(N, (3 * N,), generator=draw)]
    )  # computed in equal batches
    content = pq.read_table(data.folder.parents[2] / "data" / "train.parquet").take(drawn.numpy())
    folder = write_dataset(tmp_path / "repeated", **dict.fromkeys(SPLITS, content))
    repeated = prepare(open_dataset(str(folder)), encoders, InputSizes(text_length=8, image_size=32))

    tower = load_tower(encoders[modality])
    calls = _calls(tower, 0)
    for layer in (1, 2):  # from the inputs, and from the layer below
        found = _features(repeated, tower, layer)
        assert sum(calls) == CELLS
        assert len(found.tokens) == len(repeated.split("train").cells[modality]) == CELLS
    once = _features(data, tower, 2)
    rows = torch.randperm(4 * N, generator=draw)
    actual = _sequence(found, repeated, modality, rows)
    expected = _sequence(once, data, modality, drawn[rows])
    assert torch.equal(actual.tokens, expected.tokens)
    assert (actual.mask is None) == (expected.mask is None)
    assert actual.mask is None or torch.equal(actual.mask, expected.mask)


def test_others_are_not_stored_where_room_is_short(
    data: PreparedData, encoders: dict[str, EncoderSource]
) -> None:
    tower = load_tower(encoders["image"])
    first = _features(data, tower, 0)
    limit = 3 * first.tokens.nbytes
    _features(data, tower, 3, limit=limit, others=(1, 2, 3))
    assert len(_files(cache_dir())) == 2


def test_split_larger_than_the_limit_is_not_cached(
    data: PreparedData, cache: Path, encoders: dict[str, EncoderSource]
) -> None:
    tower = load_tower(encoders["image"])
    calls = _calls(tower, 0)
    size = CELLS * 17 * tower.width * 4  # 16 patches and [CLS], float32
    with pytest.raises(NoRoomError, match=r"image features of the train split .* see --feature-cache-size"):
        _features(data, tower, 1, limit=size - 1)
    assert _files(cache) == set()
    assert calls == []
    _features(data, tower, 1, limit=size + 1024)


def test_least_recently_used_makes_room(
    data: PreparedData, cache: Path, encoders: dict[str, EncoderSource]
) -> None:
    tower = load_tower(encoders["image"])
    size = CELLS * 17 * tower.width * 4
    limit = 2 * size + 1024
    for age, split in ((300, "train"), (200, "validation")):
        _features(data, tower, 1, split, limit=limit)
        (file,) = (cache / "features").glob(f"*-{split}-*.npy.manifest")
        then = file.stat().st_mtime - age
        os.utime(file, (then, then))
    train = _features(data, tower, 1, "train", limit=limit)  # older, but used again
    _features(data, tower, 1, "test", limit=limit)
    assert {name.split("-")[1] for name in _files(cache)} == {"train", "test"}

    # What is in use stays readable when its file is removed.
    _features(data, tower, 2, "test", limit=size + 1024)
    assert {name.split("-")[1] for name in _files(cache)} == {"test"}
    assert _sequence(train, data, "image", torch.arange(N)).tokens.shape == (N, 17, tower.width)


def test_everything_that_changes_the_tokens_has_its_own_file(
    data: PreparedData, cache: Path, encoders: dict[str, EncoderSource]
) -> None:
    eager = load_tower(encoders["text"])
    sdpa = load_tower(encoders["text"], attention="sdpa")
    found = [
        _features(data, eager, 1),
        _features(data, eager, 2),
        _features(data, eager, 1, "test"),
        _features(data, eager, 1, setting=TrainingSetting(precision="bf16")),
        _features(data, sdpa, 1, setting=TrainingSetting(attention="sdpa")),
        _features(data, eager, 1, encoder="other weights"),
        _features(data, load_tower(encoders["image"]), 1),
    ]
    assert len(_files(cache)) == len(found)
    _features(data, eager, 1, setting=TrainingSetting(batch_size=4, encoder_dropout=False))
    assert len(_files(cache)) == len(found)


def _other_process() -> None:
    manifests._compared.clear()


def test_damaged_features_are_computed_again(
    data: PreparedData, cache: Path, encoders: dict[str, EncoderSource], capfd: pytest.CaptureFixture[str]
) -> None:
    tower = load_tower(encoders["image"])
    expected = torch.tensor(_features(data, tower, 2, others=(1,)).tokens)
    for layer in (1, 2):
        (file,) = (cache / "features").glob(f"*-{layer:02d}.npy")
        size = file.stat().st_size
        with file.open("r+b") as opened:  # what follows the header, as a disk may leave it
            opened.seek(128)
            opened.write(bytes(size - 128))
        _other_process()
        found = _features(data, tower, layer)
        if layer == 2:
            assert torch.equal(torch.tensor(found.tokens), expected)
        assert f"{file.name} was damaged" in capfd.readouterr().err
    assert float(abs(_features(data, tower, 1).tokens).max()) > 0


def test_a_damaged_lower_layer_is_not_built_upon(
    data: PreparedData, cache: Path, encoders: dict[str, EncoderSource]
) -> None:
    tower = load_tower(encoders["image"])
    _features(data, tower, 1)
    (file,) = (cache / "features").glob("*-01.npy")
    content = bytearray(file.read_bytes())
    content[1000:] = bytes(len(content) - 1000)
    file.write_bytes(content)
    _other_process()
    found = _features(data, tower, 2)
    with torch.no_grad():
        tokens = tower.encode(data.split("train").inputs("image", torch.arange(N)), 2).tokens
    assert (_sequence(found, data, "image", torch.arange(N)).tokens - tokens).abs().max() < 1e-5


def test_a_search_finds_damaged_features_before_its_trials(
    data: PreparedData, cache: Path, encoders: dict[str, EncoderSource], capfd: pytest.CaptureFixture[str]
) -> None:
    tower = load_tower(encoders["image"])
    for layer in (1, 2):
        _features(data, tower, layer)
    (file,) = (cache / "features").glob("*-train-02.npy")
    file.write_bytes(file.read_bytes()[:-4096])
    _other_process()
    files = FeatureCache(GIB)
    files.check(data, {"image": "weights"}, {"image": (0, 1, 2)}, TrainingSetting())
    assert {name[-6:] for name in _files(cache)} == {"01.npy"}
    (line,) = capfd.readouterr().err.splitlines()
    assert f"{file} was damaged ({file.name} has " in line


def test_a_full_disk_is_one_line_and_kills_nobody(
    data: PreparedData,
    encoders: dict[str, EncoderSource],
    small_cache: Path,
) -> None:
    tower = load_tower(encoders["image"])
    first = torch.tensor(_features(data, tower, 1).tokens)
    (small_cache / "others").write_bytes(bytes(2**21 - 2**17 - 2 * first.nbytes))
    for split in ("validation", "test"):  # the least recently used one makes room
        _features(data, tower, 1, split)
    assert {name.split("-")[1] for name in _files(cache_dir())} == {"validation", "test"}
    mapped = [_features(data, tower, 1, split) for split in ("validation", "test")]
    with pytest.raises(NoRoomError):
        _features(data, tower, 1)
    assert len(_files(cache_dir())) == 2, "to remove them would not have helped"
    del mapped
    for path in (small_cache / "cache" / "features").glob("*.npy"):
        path.unlink()
    (small_cache / "rest").write_bytes(bytes(shutil.disk_usage(small_cache).free))
    with pytest.raises(NoRoomError, match=r"no space left on the disk or quota of .* needed\)") as caught:
        _features(data, tower, 1)
    assert is_disk_full(caught.value)
    assert "\n" not in str(caught.value)
    assert partials(small_cache / "cache" / "features") == []
    (small_cache / "others").unlink()
    assert torch.equal(torch.tensor(_features(data, tower, 1).tokens), first)


def test_space_is_reserved_before_anything_is_computed(
    data: PreparedData,
    encoders: dict[str, EncoderSource],
    small_cache: Path,
) -> None:
    """Another program fills the disk while features are computed."""
    tower = load_tower(encoders["image"])

    def fill(*_: object) -> None:
        if not (small_cache / "others").exists():
            (small_cache / "others").write_bytes(bytes(shutil.disk_usage(small_cache).free - 65536))

    tower.layers[0].register_forward_hook(fill)
    tokens = _features(data, tower, 1).tokens
    assert (small_cache / "others").exists()
    with torch.no_grad():
        expected = tower.encode(data.split("train").cells["image"].inputs(torch.arange(CELLS)), 1).tokens
    assert (torch.tensor(tokens) - expected).abs().max() < 1e-5


def test_what_is_being_written_counts_and_what_the_dead_left_does_not(
    data: PreparedData, cache: Path, encoders: dict[str, EncoderSource]
) -> None:
    tower = load_tower(encoders["image"])
    size = _features(data, tower, 1).tokens.nbytes
    folder = cache / "features"
    limit = 2 * size + 1024
    with building(folder, "of another process") as scratch:
        (scratch / "x.npy").write_bytes(bytes(size))
        with pytest.raises(NoRoomError, match="with what other trials are writing"):
            _features(data, tower, 1, "test", limit=size + 1024)
        _features(data, tower, 1, "test", limit=limit)
        assert {name.split("-")[1] for name in _files(cache)} == {"test"}, "the older one made room"
    left = folder / ".killed.partial"
    left.mkdir()
    (left / "x.npy").write_bytes(bytes(size))
    _features(data, tower, 1, "train", limit=limit)
    assert not left.exists()
    assert {name.split("-")[1] for name in _files(cache)} == {"train", "test"}


def test_of_few_rows_only_their_cells_are_computed(
    data: PreparedData, encoders: dict[str, EncoderSource], cache: Path
) -> None:
    few = PreparedData(data.folder, Few(12, seed=0))
    rows = Few(12, seed=0).rows(data.split("train").labels)
    split = few.split("train")
    assert torch.equal(split.labels, data.split("train").labels[rows])
    assert len(few.split("validation")) == N
    for modality, encoder in encoders.items():
        tower = load_tower(encoder)

        def features(of: PreparedData, split: str, tower: Tower = tower) -> PrefixFeatures:
            return _features(of, tower, 2, split)

        some, whole = features(few, "train"), features(data, "train")
        assert len(some.tokens) == len(split.cells[modality]) == 13, "with the blank"
        expected = _sequence(whole, data, modality, rows)
        assert torch.equal(_sequence(some, few, modality, torch.arange(12)).tokens, expected.tokens)
        for name, values in split.inputs(modality, torch.arange(12)).items():
            assert torch.equal(values, data.split("train").inputs(modality, rows)[name])
        features(few, "validation")
        written = set(cache.rglob("*.npy"))
        features(data, "validation")
        assert set(cache.rglob("*.npy")) == written, "both have the same validation split"
