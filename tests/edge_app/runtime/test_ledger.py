"""What this machine remembers of bundles and trials, and what becomes of a damaged memory."""

from pathlib import Path

import pytest
import tiny_bundle
from tiny_bundle import FOREIGN_KEY, KEY

from edge_app.contract.bundle import ModelBundle, read_bundle
from edge_app.contract.signature import public_bytes
from edge_app.errors import StoreError
from edge_app.runtime.bundles import Today, refusal
from edge_app.runtime.ledger import TRIALS, Ledger

TRUSTED = [public_bytes(KEY), public_bytes(FOREIGN_KEY)]
NEVER = Today(4e9, True)


@pytest.fixture
def bundle(tmp_path: Path):
    def make(**changes) -> ModelBundle:
        path = tmp_path / "x.bundle"
        tiny_bundle.write(path, b"weights", **changes)
        return read_bundle(path, TRUSTED)

    return make


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "state" / "bundles.json")


def test_the_highest_serial_of_each_name_and_maker(bundle, ledger) -> None:
    assert ledger.highest_serial(bundle()) is None
    for serial in (3, 7, 5):
        ledger.note_run(bundle(serial=serial))
    assert ledger.highest_serial(bundle(serial=1)) == 7
    assert ledger.highest_serial(bundle(name="other")) is None
    assert ledger.highest_serial(bundle(key=FOREIGN_KEY)) is None
    assert (ledger.path.stat().st_mode & 0o777, ledger.path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert [path.name for path in ledger.path.parent.iterdir()] == ["bundles.json"]


@pytest.mark.parametrize(
    ("serial", "highest", "older", "refused"),
    [(7, None, False, False), (7, 7, False, False), (8, 7, False, False), (3, 7, False, True), (3, 7, True, False)],
)
def test_an_older_bundle_is_refused_unless_it_is_wanted(bundle, serial, highest, older, refused) -> None:
    said = refusal(bundle(serial=serial), highest, older, NEVER)
    assert (said is not None) == refused
    if said:
        assert "x.bundle is older than what ran here: crossroads 3, and 7 was the highest" in said
        assert "bundles.allow_older: true" in said


@pytest.mark.parametrize(
    ("expires", "today", "refused"),
    [
        (None, NEVER, False),
        (2e9, Today(2e9, True), True),
        (2e9, Today(1.9e9, True), False),
        (2e9, Today(2.1e9, False), False),  # said, not refused: this clock may be wrong
    ],
)
def test_an_expired_bundle_is_refused_by_a_clock_that_is_right(bundle, expires, today, refused) -> None:
    changes = {} if expires is None else {"expires_at_s": expires}
    said = refusal(bundle(**changes), None, False, today)
    assert (said is not None) == refused
    assert said is None or "expired on 2033-05-18T03:33:20.000Z" in said


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"[" * 100_000,
        b'{"serials": {"a": -1}}',
        b'{"serials": {"a": ' + b"9" * 5000 + b"}}",
        b'{"format": "crosslane.ledger/2"}',
        b" " * (2 << 20),
        b"\xff\xfe\x00",
    ],
)
def test_a_damaged_ledger_is_set_aside_and_said(bundle, ledger, content, caplog) -> None:
    ledger.path.parent.mkdir()
    ledger.path.write_bytes(content)
    assert ledger.highest_serial(bundle()) is None
    assert not ledger.path.exists()
    assert ledger.path.with_name("bundles.json.unreadable").read_bytes() == content
    assert "older bundles are accepted until newer ones ran" in caplog.text
    ledger.note_run(bundle(serial=9))
    assert ledger.highest_serial(bundle()) == 9


def test_a_ledger_that_cannot_be_opened_or_written(bundle, ledger) -> None:
    ledger.path.mkdir(parents=True)
    with pytest.raises(StoreError, match=r"bundles\.json cannot be read: Is a directory"):
        ledger.highest_serial(bundle())
    assert ledger.has_passed("sha256:0") is False
    (ledger.path.parent / "file").write_text("x")
    with pytest.raises(StoreError, match=r"cannot be (read|written)"):
        Ledger(ledger.path.parent / "file" / "bundles.json").note_run(bundle())


def test_trials_are_forgotten_in_their_order(ledger) -> None:
    ledger.path.parent.mkdir()
    for number in range(TRIALS + 3):
        ledger.note_passed(f"sha256:{number}")
        ledger.note_passed("sha256:0")
    assert ledger.has_passed("sha256:0")
    assert not ledger.has_passed("sha256:2")
    assert ledger.has_passed(f"sha256:{TRIALS + 2}")
