"""How much of a space fits, on costs one can follow by hand and on small real encoders."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest

from search.sizing.charts import check_picture, plot_grid
from search.sizing.extent import (
    Grid,
    Largest,
    draw,
    find_largest,
    find_largest_setting,
    measure_extent,
    measure_grid,
    measure_reaches,
)
from spaces import Space, SpaceContext, get_space, union
from tests.tasks import classification
from trainables.errors import UserError
from trainables.memory.predictor import MemoryPredictor
from trainables.methods import get_method
from trainables.parameters import Choices
from trainables.step.setting import TrainingSetting
from trainables.towers import resolve_encoder

CONTEXT = SpaceContext({"text": 6, "image": 12}, {"text": 8, "image": 8})


def _sample(trial, context):
    layers = trial.suggest_int("layers", 1, context.depth)
    config = {
        "method": "toy",
        "layers": layers,
        "length": trial.suggest_int("length", 1, 32, log=True),
        "side": trial.suggest_categorical("side", Choices(("left", "right"), ordered=False)),
        "learning_rate": trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True),
    }
    if layers > 1:
        config["extra"] = trial.suggest_int("extra", 0, 8, step=2)
    return config


TOY = Space(
    "toy",
    "a space whose memory is a product",
    _sample,
    lambda _: [{"layers": 2, "length": 4, "side": "right", "learning_rate": 1e-3, "extra": 2}],
    method="toy",
)


def _cost(config) -> int:
    sides = {"left": 1, "right": 2}
    return config["layers"] * config["length"] * sides[config["side"]] + config.get("extra", 0)


@pytest.mark.parametrize("limit", [7, 8, 100, 1000])
@pytest.mark.parametrize("step", [1, 3])
def test_the_largest_value_fits_and_the_next_one_does_not(limit, step) -> None:
    tried = {}

    def cost(value: int) -> int:
        tried[value] = 2 * value + 1
        return tried[value]

    found = find_largest("size", cost, limit, low=3, step=step)
    assert found.memory == tried[found.value] <= limit
    assert found.next_value == found.value + step
    assert found.next_memory == tried[found.next_value] > limit
    assert len(tried) <= 2 * math.log2(limit) + 2


def test_a_range_ends_where_it_is_known_to_or_where_values_are_refused() -> None:
    found = find_largest("size", lambda value: value, 100, low=1, high=10)
    assert (found.value, found.next_value, found.reason) == (10, None, "size ends there")

    def cost(value: int) -> int:
        if value > 12:
            raise UserError(f"size={value}: must be 1 to 12")
        return value

    found = find_largest("size", cost, 100, low=1)
    assert (found.value, found.next_value, found.next_memory) == (12, 13, None)
    assert found.reason == "size=13: must be 1 to 12"
    assert find_largest("size", lambda _: 1, 1, low=1).reason == "larger ones were not tried"


def test_what_is_reported_was_predicted_to_fit_even_where_memory_jumps_about() -> None:
    jumpy = [10, 90, 20, 30, 95, 40, 50, 99, 60, 91, 70, 97, 96, 98, 99, 99, 99]
    for limit in range(10, 99):
        found = find_largest("size", lambda value: jumpy[value], limit, low=0, high=len(jumpy) - 1)
        assert jumpy[found.value] == found.memory <= limit
        assert found.next_memory is None or found.next_memory > limit


def test_nothing_fits_in_one_line() -> None:
    with pytest.raises(UserError, match="nothing fits; size=4 takes 3 MiB"):
        find_largest("size", lambda value: 3 * 2**20, 2**20, low=4)


def test_draws_are_even_on_each_parameters_own_scale() -> None:
    drawn = list(draw(TOY, CONTEXT, 256))
    assert drawn == list(draw(TOY, CONTEXT, 256))
    for layers in range(1, 7):
        assert sum(config["layers"] == layers for config in drawn) == pytest.approx(256 / 6, abs=3)
    assert sum(config["side"] == "left" for config in drawn) == pytest.approx(128, abs=3)
    # Half of a logarithmic range lies below the geometric mean of its ends
    assert sum(config["learning_rate"] < 1e-3 for config in drawn) == pytest.approx(128, abs=3)
    assert {config["length"] for config in drawn} == set(range(1, 33))
    assert {config["extra"] for config in drawn if "extra" in config} == {0, 2, 4, 6, 8}


def test_extent_and_share() -> None:
    extent = measure_extent(TOY, CONTEXT, _cost, limit=50)
    assert extent.smallest.memory == 1
    assert extent.first.memory == 2 * 4 * 2 + 2
    assert extent.largest.memory == 6 * 32 * 2 + 8
    assert extent.drawn == 256
    independent = measure_extent(TOY, CONTEXT, _cost, limit=50, draws=4096)
    assert abs(extent.share - independent.share) < 3 * extent.standard_error
    assert 0.01 < extent.standard_error < 0.04
    assert measure_extent(TOY, CONTEXT, _cost, limit=10**6).share == 1
    assert measure_extent(TOY, CONTEXT, _cost, limit=10**6).standard_error > 0
    assert measure_extent(TOY, CONTEXT, _cost).drawn == 0


def test_each_parameters_largest_value_that_fits() -> None:
    reaches = {reach.parameter: reach for reach in measure_reaches(TOY, CONTEXT, _cost, limit=25)}
    length = reaches["length"]
    assert (length.smallest.low, length.smallest.high, length.smallest.fits) == (1, 32, (25,))
    assert (length.first.low, length.first.high, length.first.fits) == (6, 130, (5,))
    assert reaches["layers"].first.fits == (2,)
    assert reaches["side"].first.fits == ("left", "right")
    assert reaches["extra"].smallest is None  # with one layer it is not asked for
    assert reaches["extra"].first.fits == (8,)
    assert [name for name, reach in reaches.items() if reach.idle] == ["learning_rate"]
    nothing = {reach.parameter: reach for reach in measure_reaches(TOY, CONTEXT, _cost, limit=5)}
    assert nothing["length"].first.fits == ()
    assert nothing["side"].first.fits == ()


def test_a_grid_stands_at_the_first_point() -> None:
    costs = {size: lambda config, size=size: size * _cost(config) for size in (1, 2)}
    grid = measure_grid(TOY, CONTEXT, costs, "layers")
    assert (list(grid.values), grid.batch_sizes) == ([1, 2, 3, 4, 5, 6], [1, 2])
    assert grid.memory[1] == [18, 36]
    assert len(measure_grid(TOY, CONTEXT, costs, "length").values) == 12


def test_a_unions_grid_has_a_row_a_method() -> None:
    other = Space(
        "other",
        "nothing to choose",
        lambda trial, _: {"method": "other", "layers": 1, "length": 1, "side": "left"},
        lambda _: [{}],
        method="other",
    )
    both = union("both", "two spaces", lambda: [TOY, other])
    grid = measure_grid(both, CONTEXT, {1: _cost}, "method")
    assert (list(grid.values), grid.memory) == (["toy", "other"], [[18], [1]])


@dataclass(frozen=True)
class _Product:
    """A predictor whose memory is the samples of a part times the length of text and prompts."""

    setting: TrainingSetting
    kinds: tuple[str, ...] = ("text", "image")

    def changed(self, **fields) -> _Product:
        return replace(self, setting=replace(self.setting, **fields))

    def predict(self, method, config) -> SimpleNamespace:
        prompts = config["n_query_prompts"] + config["n_fusion_context_prompts"]
        samples = self.setting.batch_size // self.setting.gradient_accumulation
        return SimpleNamespace(memory=samples * (self.setting.text_length + prompts))


def test_the_largest_settings_of_step_and_method() -> None:
    config = get_method("pmf").config_class()  # with four prompts of either kind
    predictor = _Product(TrainingSetting(batch_size=4, text_length=8))

    def largest(*names: str, limit: int, at=predictor):
        return find_largest_setting(names, at, "pmf", config, limit)

    assert largest("batch_size", limit=21 * 16 + 15) == Largest(21, 21 * 16, 22, 22 * 16)
    in_parts = predictor.changed(gradient_accumulation=4)
    assert largest("batch_size", limit=21 * 16 + 15, at=in_parts) == Largest(84, 21 * 16, 88, 22 * 16)
    assert largest("text_length", limit=100).value == 100 // 4 - 8
    assert largest("n_query_prompts", limit=100).value == 100 // 4 - 8 - 4
    assert largest("n_query_prompts", "n_fusion_context_prompts", limit=100).value == (100 // 4 - 8) // 2
    with pytest.raises(UserError, match="nothing fits; n_query_prompts=0 takes 0 MiB"):
        largest("n_query_prompts", limit=3)
    with pytest.raises(UserError, match=r"--max depth: .*known: batch_size, text_length, n_fusion_layers"):
        largest("depth", limit=100)
    with pytest.raises(UserError, match="--max text_length"):
        largest("text_length", limit=100, at=replace(predictor, kinds=("audio", "image")))


def test_a_real_space_and_a_real_method(tiny_encoders) -> None:
    encoders = {
        "text": resolve_encoder("text", str(tiny_encoders["bert"])),
        "image": resolve_encoder("image", str(tiny_encoders["vit"])),
    }
    setting = TrainingSetting(batch_size=2, text_length=8, image_size=32, target="cpu")
    predictor = MemoryPredictor(encoders, classification(5), setting)
    layers = find_largest_setting(
        ["n_fusion_layers"], predictor, "pmf", get_method("pmf").config_class(), 2**40
    )
    assert layers.value == 3
    assert "must be 1 to 3" in layers.reason
    space, context = get_space("late_concat"), SpaceContext.of(encoders)

    def cost(config) -> int:
        return predictor.predict_configuration(config).memory

    frozen = cost({"method": "late_concat", "train_encoders": False, "learning_rate": 1e-3})
    extent = measure_extent(space, context, cost, limit=frozen, draws=8)
    assert extent.smallest.memory == frozen < extent.first.memory == extent.largest.memory
    assert extent.share == 0.5
    reaches = {reach.parameter: reach for reach in measure_reaches(space, context, cost, frozen)}
    assert reaches["train_encoders"].first.fits == (False,)
    assert reaches["learning_rate"].idle


def test_draws_a_picture(tmp_path) -> None:
    memory = [[rows * columns * 2**20 for columns in (1, 2, 3)] for rows in (1, 2)]
    path = tmp_path / "grid.svg"
    check_picture(path)
    plot_grid(Grid("n_fusion_layers", [1, 2], [4, 8, 16], memory), path, "toy", CONTEXT.depths, 2**21)
    drawn = path.read_text()
    assert "limit, 2 MiB" in drawn
    for text in ("2  (4, 10)", "16", "toy"):
        assert f"<!-- {text} -->" in drawn


@pytest.mark.parametrize(("name", "words"), [("a.jpg", "must end in"), ("none/a.png", "no folder")])
def test_refuses_pictures_that_could_not_be_written(tmp_path, name, words) -> None:
    with pytest.raises(UserError, match=words):
        check_picture(tmp_path / name)
