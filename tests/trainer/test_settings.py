"""Groups of settings that are given in part."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from trainer.settings import Settings


class Inner(Settings):
    near: int = 1
    far: int = 2


class Middle(Settings):
    inner: Inner = Inner(near=10)


class Outer(Settings):
    middle: Middle = Middle(inner=Inner(near=10, far=20))


def test_a_group_given_in_part_keeps_the_defaults_of_its_place() -> None:
    assert Outer.model_validate({"middle": {"inner": {"far": 5}}}).middle.inner == Inner(near=10, far=5)
    assert Middle.model_validate({"inner": {"far": 5}}).inner == Inner(near=10, far=5)
    assert Inner.model_validate({"far": 5}) == Inner(near=1, far=5)


def test_an_unknown_key_in_a_group_given_in_part_is_an_error() -> None:
    with pytest.raises(ValidationError, match="extra_forbidden"):
        Outer.model_validate({"middle": {"inner": {"close": 5}}})
