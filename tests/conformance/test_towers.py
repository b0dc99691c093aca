"""Every tower behaves as a tower must."""

from __future__ import annotations

from tests.conformance.each import each
from trainables.testing import Check, tower_checks
from trainables.testing.tiny import AUDIO_FAMILIES, IMAGE_FAMILIES, OTHER_FAMILIES, TEXT_FAMILIES
from trainables.towers import FAMILIES


@each(check for family in FAMILIES for check in tower_checks(family))
def test_tower(check: Check) -> None:
    check()


def test_there_is_a_small_encoder_of_every_family() -> None:
    assert {*TEXT_FAMILIES, *IMAGE_FAMILIES, *AUDIO_FAMILIES, *OTHER_FAMILIES} == set(FAMILIES)
