"""What every space must satisfy."""

from __future__ import annotations

import optuna
import pytest

from spaces import SPACES, SpaceContext, get_space
from trainables.errors import UserError
from trainables.memory import MemoryPredictor
from trainables.methods import get_method
from trainables.setting import TrainingSetting
from trainables.towers import resolve_encoder
from trainables.trial import split_config


@pytest.fixture(scope="module")
def predictor(tiny_encoders) -> MemoryPredictor:
    encoders = {
        "text": resolve_encoder("text", str(tiny_encoders["bert"])),
        "image": resolve_encoder("image", str(tiny_encoders["vit"])),
    }
    return MemoryPredictor(encoders, 5, TrainingSetting(batch_size=2, text_length=8, image_size=32))


@pytest.mark.parametrize("name", SPACES)
def test_samples_are_valid_and_within_the_ends(name, predictor) -> None:
    space, context = get_space(name), SpaceContext.of(predictor.encoders)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for point in space.first_points(context):
        study.enqueue_trial(point)
    low = predictor.predict(*split_config(space.smallest(context)))
    high = predictor.predict(*split_config(space.largest(context)))
    for _ in range(12):
        trial = study.ask()
        config = space.sample(trial, context)
        report = predictor.predict(*split_config(config))
        assert low.total <= report.total <= high.total
        assert report.trainable_parameters <= high.trainable_parameters
        assert config["learning_rate"] > 0


@pytest.mark.parametrize("name", SPACES)
def test_first_points_are_in_the_space(name, predictor) -> None:
    space, context = get_space(name), SpaceContext.of(predictor.encoders)
    points = space.first_points(context)
    assert points
    for point in points:
        config = space.sample(optuna.trial.FixedTrial(point), context)
        method, fields = split_config(config)
        get_method(method).config_class.from_dict(fields)
        assert set(point) == set(space.parameters(context))


def test_pmf_nas_reaches_every_depth() -> None:
    context = SpaceContext({"text": 6, "image": 12}, {"text": 384, "image": 384})
    space = get_space("pmf_nas")
    assert space.smallest(context)["n_fusion_layers"] == 1
    assert space.largest(context)["n_fusion_layers"] == 6
    assert space.largest(context)["translator_width"] == 384


def test_unknown_space_lists_the_known() -> None:
    with pytest.raises(UserError, match=r"unknown space 'nope'; known: .*pmf_nas"):
        get_space("nope")
