"""Mistakes in settings, as people read them."""

from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from edge_app.contract.mistakes import keys_of, mistakes


class Group(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Sampler(Group):
    crops: int = Field(default=4, ge=1)


class First(Group):
    name: Literal["first"] = "first"
    temperature: float = 0.05
    sampler: Sampler = Sampler()


class Batches(Group):
    proxies: int = 8


class Second(Group):
    name: Literal["second"] = "second"
    temperature: float = 0.07
    eps_gap: float = 0.02
    sampler: Batches = Batches()


class Camera(Group):
    id: str
    source: str = ""
    size: int | tuple[int, int] = 5


class Settings(Group):
    method: Annotated[First | Second, Field(discriminator="name")] = First()
    cameras: tuple[Camera, ...] = ()
    zones: dict[str, Camera] = Field(default_factory=dict)
    camera: Camera | None = None
    epochs: int = 3
    password: str | None = None

    @field_validator("epochs")
    @classmethod
    def _odd(cls, epochs: int) -> int:
        if epochs % 2 == 0:
            raise ValueError("is even")
        return epochs


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"epoch": 3}, "epoch: unknown key; did you mean `epochs`?"),
        ({"temperature": 3}, "temperature: unknown key; did you mean `method.temperature`?"),
        ({"camera": {"id": "a", "sourc": 1}}, "camera.sourc: unknown key; did you mean `source`?"),
        ({"cameras": [{"id": "a"}, {"id": "b", "sauce": 1}]}, "cameras.1.sauce: unknown key; did you mean `source`?"),
        ({"zones": {"z": {"id": "a", "ids": 1}}}, "zones.z.ids: unknown key; did you mean `id`?"),
        ({"camera": {"id": "a", "zzz": 1}}, "camera.zzz: unknown key; known are id, source, size"),
        ({"method": {"name": "first", "eps_gap": 1}}, "method.eps_gap: not a key of method first, but of second"),
        (
            {"method": {"name": "second", "sampler": {"crops": 1}}},
            "method.sampler.crops: not a key of method second, but of first",
        ),
        ({"method": {"name": "first", "temprature": 1}}, "method.temprature: unknown key; did you mean `temperature`?"),
        (
            {"method": {"name": "first", "sampler": {"crops": 0}}},
            "method.sampler.crops: Input should be greater",
        ),
        ({"method": {"name": "third"}}, "method: Input tag 'third' found using 'name' does not match"),
        ({"cameras": [{}]}, "cameras.0.id: missing"),
        ({"epochs": 2}, "epochs: is even (got 2)"),
        ({"password": 1234}, "password: Input should be a valid string"),
        ({"camera": {"id": "a", "source": 5}}, "camera.source: Input should be a valid string (got 5)"),
        ({"a\nb": 1}, r"a\nb: unknown key; known are method"),
        (
            {"epochs": "x\ny" * 200},
            r"epochs: Input should be a valid integer, unable",
        ),
    ],
)
def test_one_mistake(given, said):
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate(given)
    (line,) = mistakes(caught.value, Settings)
    assert line.startswith(said)
    assert line.isprintable()
    assert "1234" not in line


def test_all_at_once_without_the_labels_of_unions():
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate(
            {"epochs": "x", "cameras": [{"id": "a", "size": "big"}], "camera": {"id": "u:p@host", "x": 1}}
        )
    said = mistakes(caught.value, Settings)
    assert [line.split(":")[0] for line in said] == ["cameras.0.size", "cameras.0.size", "camera.x", "epochs"]
    assert "u:p@host" not in str(said)


def test_every_key():
    assert [key for key, _ in keys_of(Settings)][:8] == [
        "method",
        "method.name",
        "method.temperature",
        "method.sampler",
        "method.sampler.crops",
        "method.name",
        "method.temperature",
        "method.eps_gap",
    ]
