from trainer.data.naming import UNKNOWN, numbers_of


def test_names_are_numbered_in_natural_order():
    names = numbers_of(["cam10", "cam2", "", "gate", "cam2", "0", "c001"])
    assert list(names) == ["0", "c001", "cam2", "cam10", "gate"]
    assert list(names.values()) == [0, 1, 2, 3, 4]
    assert names.get("", UNKNOWN) == UNKNOWN


def test_numerals_of_other_scripts_are_only_names():
    assert set(numbers_of(["cam٣", "cam²", "cam1"]).values()) == {0, 1, 2}
