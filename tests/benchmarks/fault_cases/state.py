"""What a restart finds: another embedder, fewer cameras, an older state, a damaged one; and what others find in it."""

from __future__ import annotations

import os
import random
import stat
from pathlib import Path

from edge_app.associate import online
from edge_app.associate.gallery import ALL_PAIRS
from edge_app.associate.state import State, version_key
from edge_app.errors import StoreError, StoreRefusedError
from edge_app.perception.track import TrackerBank, TrackSettings
from edge_app.store.parts import sealed
from edge_app.store.store import Store
from tests.benchmarks.endurance_store import thousand_copies
from tests.benchmarks.fault_case import Case
from tests.edge_app.associate.tiny_world import link, look, rules, seen_by, stream, tracklet
from tests.integration.test_restart import Site, as_release_0_1


def _another_dimension(_: Path) -> tuple[str, bool]:
    pair = [tracklet("1", "a", 5, 15, look(1)), seen_by(tracklet("2", "b", 8, 18, look(2)), "v2", 16)]
    state, _facts = online.step(State(), pair, 20.0, {}, rules(link("a", "b")))
    learned = sum(one.impostor.sum() for one in state.calibrations.values())
    return (
        f"no error; {learned:g} impostors learned from two tracklets of 32 and 16 values in view at once",
        not learned,
    )


def _same_dimension(_: Path) -> tuple[str, bool]:
    world = stream(3, vehicles=90)
    taught, now = State(), world.tracklets[0].exit_time_s
    rest = list(world.tracklets)
    while rest or now < world.tracklets[-1].exit_time_s + 100:
        now += 0.5
        arrived, rest = [t for t in rest if t.exit_time_s <= now], [t for t in rest if t.exit_time_s > now]
        taught, _facts = online.step(taught, arrived, now, {}, world.rules)
    genuine = taught.calibrations[version_key("v1", ALL_PAIRS)].genuine.sum()
    pair = [tracklet("1", "west", now - 15, now - 5, look(1)), tracklet("2", "centre", now - 12, now - 2, look(2))]
    after, _facts = online.step(taught, [pair[0], seen_by(pair[1], "v2")], now, {}, world.rules)
    new = [one for one in after.calibrations.values() if one.embedding_version == "v2"]
    in_force, compared = sum(one.genuine.sum() for one in new), sum(one.impostor.sum() for one in new)
    said = (
        f"{genuine:.0f} genuine observations of version 1: {in_force:g} in force for version 2, {compared:g} compared"
    )
    return said, genuine > 20 and not in_force and not compared


def _camera_gone(folder: Path) -> tuple[str, bool]:
    site = Site(folder)
    site.cut()
    before = len(site.said("match"))
    site.raw["cameras"] = [camera for camera in site.raw["cameras"] if camera["id"] != "market"]
    site.raw["links"] = [x for x in site.raw["links"] if "market" not in (x["from_camera"], x["to_camera"])]
    site.to_the_end()
    new = len(site.said("match")) - before
    return f"restarted without `market`, played to the end, {new} matches more, no traceback", new > 0


def _release_0_1(folder: Path) -> tuple[str, bool]:
    site = Site(folder)
    site.cut()
    with site.database() as database:
        as_release_0_1(database)
    before = len(site.said("match"))
    site.to_the_end()
    gaps, new = site.said("gap"), len(site.said("match")) - before
    return f"started, {new} matches more; begun anew and said: {gaps[0]['counts']}", len(gaps) == 1 and new > 0


def _flipped_values(folder: Path) -> tuple[str, bool]:
    site, chance = Site(folder), random.Random(4)
    site.cut()
    with site.database() as database:
        parts = database.execute("SELECT key, value FROM parts").fetchall()
        for key, value in parts:
            place = chance.randrange(len(value))
            flipped = value[:place] + bytes([value[place] ^ 1 << chance.randrange(8)]) + value[place + 1 :]
            database.execute("UPDATE parts SET value = ? WHERE key = ?", (flipped, key))
    before = len(site.said("match"))
    site.to_the_end()
    gaps, new = site.said("gap"), len(site.said("match")) - before
    aside = sum(gaps[0]["counts"].values()) if gaps else 0
    said = f"a bit flipped in each of {len(parts)} values: started, {aside} set aside in one gap, {new} matches more"
    return said, len(gaps) == 1 and new > 0


def _damaged_pages(folder: Path) -> tuple[str, bool]:
    site = Site(folder)
    site.cut()
    matches = {match["event_id"] for match in site.said("match")}
    with site.database() as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(site.store.read_bytes())
    for page in random.Random(2).sample(range(1, len(content) // 4096), 5):
        content[page * 4096 : (page + 1) * 4096] = os.urandom(4096)
    site.store.write_bytes(content)
    site.to_the_end()
    saved = len({match["event_id"] for match in site.said("match")} & matches)
    said = [gap["reason"] for gap in site.said("gap") if "damaged" in gap["reason"]]
    kept = len(list(folder.glob("s.db.damaged-*")))
    text = f"5 of {len(content) // 4096} pages damaged: started at once, {saved} of {len(matches)} unsent matches saved"
    return f"{text}, {kept} damaged file kept, {len(said)} gap", saved >= 0.8 * len(matches) and kept == len(said) == 1


def _foreign(folder: Path) -> tuple[str, bool]:
    text = b"somebody's own notes, not a database at all " * 50
    (folder / "notes.txt").write_bytes(text)
    try:
        Store(folder / "notes.txt")
    except StoreRefusedError as error:
        same = (folder / "notes.txt").read_bytes() == text
        return f"exit {error.exit_code} (not restarted), the file is {'untouched' if same else 'changed'}", same
    return "opened", False


def _copies(folder: Path) -> tuple[str, bool]:
    counts = thousand_copies(folder, 60)
    beyond = counts["beyond"]
    text = f"{counts['opened']} of {counts['copies']} copies opened, {counts['steps_lost_max']} acknowledged steps lost"
    text += (
        f"; {beyond['copies']} cut into what was held: {beyond['salvaged']} salvaged, {beyond['losses_said']} said so"
    )
    whole = counts["opened"] == counts["copies"] and not counts["steps_lost_max"] and not counts["torn"]
    return text, whole and beyond["losses_said"] >= beyond["salvaged"]


def _code_in_a_store(folder: Path) -> tuple[str, bool]:
    """The very bytes that ran in 0.1: a name with a dot, inside a module that its unpickler let through."""
    marker = folder / "marker"
    module, name, command = (
        b"\x8c" + bytes([len(text)]) + text.encode()
        for text in ("trackers.utils.downloader", "os.system", f"touch {marker}")
    )
    code = b"\x80\x04" + module + name + b"\x93" + command + b"\x85R."
    bank = TrackerBank("n", "1", {"a": TrackSettings()}, ("car",))
    refused = 0
    for value in (b'{"format": "crosslane.tracks/1", "trackers": "2.6.1", "settings": {}}\n' + code,
                  sealed("crosslane.tracks/2", code), sealed("crosslane.tracks/1", code), code):  # fmt: skip
        try:
            bank.restore(value)
        except StoreError:
            refused += 1
    room = Path(online.__file__).parents[1]
    uses = [path.name for path in room.rglob("*.py") if "import pickle" in path.read_text(encoding="utf-8")]
    ran = marker.exists()
    said = (
        f"{refused} of 4 refused, the marker was {'written' if ran else 'not written'}; pickle in {uses or 'no file'}"
    )
    return said, refused == 4 and not ran and not uses


def _private(folder: Path) -> tuple[str, bool]:
    before = os.umask(0)
    try:
        store = Store(folder / "state" / "s.db")
        store.commit({"a": b"1"})
        modes = {one.name: f"{stat.S_IMODE(one.stat().st_mode):04o}" for one in (folder / "state").iterdir()}
        modes["state/"] = f"{stat.S_IMODE((folder / 'state').stat().st_mode):04o}"
        store.close()
    finally:
        os.umask(before)
    return f"under umask 0: {modes}", set(modes.values()) == {"0600", "0700"}


CASES = [
    Case(
        "D9",
        "An embedder of another dimension, beside tracklets of the old one",
        "two tracklets in view at once were compared: `matmul` raised, exit 70, again after each restart",
        _another_dimension,
    ),
    Case(
        "D9",
        "An embedder of the same dimension",
        "two versions were compared silently, and 56 genuine observations of version 1 stayed in force for version 2",
        _same_dimension,
    ),
    Case(
        "D10",
        "A camera is taken out of the file",
        "`KeyError` in the aggregates at every start in lockstep",
        _camera_gone,
    ),
    Case(
        "D10",
        "A state of release 0.1",
        "a release that adds or drops a field could not start on an old database (`Class(**stored)`)",
        _release_0_1,
    ),
    Case("D10", "Bits flipped in stored values", "traceback, exit 1, a crash loop: 12 of 12", _flipped_values),
    Case("D10", "Damaged pages", "exit 74, restarted every 5 s for ever; the unsent facts with it", _damaged_pages),
    Case("D10", "A file of somebody else", "exit 74, restarted every 5 s for ever", _foreign),
    Case(
        "D10",
        "Copies of a store that is being written, cut at random",
        "one bad page of any copy: exit 74 for ever",
        _copies,
    ),
    Case(
        "E13",
        "Code in a stored value",
        "the restricting unpickler followed dotted names: a name inside `trackers.*` reached `os.system`",
        _code_in_a_store,
    ),
    Case("E14", "Who may read the store", "0644 in a folder of 0755: any local user read the embeddings", _private),
]
