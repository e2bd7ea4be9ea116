"""Killed between any two steps of spooling and uploading, a node loses no crop and doubles none."""

import pytest
from upload_kills import World, nothing_wrong

from edge_app.contract.objects import ObjectStoreSettings


@pytest.mark.slow
def test_kills_on_s3_that_is_killed_too(tmp_path, s3_settings, seaweed):
    world = World(tmp_path, s3_settings(), seed=3)
    world.kill(2)
    seaweed.kill()
    world.kill(1)
    seaweed.start()
    world.finish()
    account = world.account()
    assert nothing_wrong(account), account
    assert account["crops_accepted"] > 0


def test_kills_on_a_folder(tmp_path):
    (tmp_path / "store").mkdir()
    world = World(tmp_path, ObjectStoreSettings(url=str(tmp_path / "store")), seed=4)
    world.kill(3)
    world.finish()
    account = world.account()
    assert nothing_wrong(account), account
    assert account["crops_accepted"] > 0
