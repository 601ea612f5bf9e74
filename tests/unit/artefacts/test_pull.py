"""The consumer gets every byte as attested, or keeps what it had."""

from __future__ import annotations

import fcntl
import hashlib
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecom_tasks.artefacts import dataset, pull, release
from ecom_tasks.artefacts.dataset import Draft
from ecom_tasks.artefacts.store import open_store
from ecom_tasks.run import Ref, Run

NAME = "artefacts/pricing"
FILES = {"prices.csv": "product_id,price\n", "models/a.json": "{}\n", "report.html": "<p>"}


def _build(draft: Draft) -> None:
    for path, text in FILES.items():
        draft.write_text(path, text)


_build.__module__ = "ecom_tasks.pricing.tasks"


def publish(run: Run) -> Ref:
    return dataset.release(run, dataset.produce(run, NAME, _build))


def stored(ref: Ref, path: str) -> Path:
    return Path(urlsplit(ref).path).parent / path


def version(ref: Ref) -> str:
    return dataset.manifest(ref).version


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return tmp_path / "here"


def health(here: Path) -> dict[str, Any]:
    return dict(json.loads((here / "health.json").read_text()))


def rewrite(run: Run, change: dict[str, Any]) -> None:
    """Put another pointer into the store, as somebody with write access could."""
    store, key = open_store(run.root), release.pointer_key(NAME, "production")
    blob = store.read(key)
    store.replace(key, json.dumps(json.loads(blob.data) | change).encode(), blob.etag)


def test_pulled_is_what_was_published(run: Run, here: Path) -> None:
    ref = publish(run)
    pulled = pull.pull(run.root, NAME, here)
    current = here / "current"
    assert {p: (current / p).read_text() for p in FILES} == FILES
    assert pull.verify(current).version == version(ref) == pulled.version
    assert pulled.changed
    assert pulled.bytes == sum(map(len, FILES.values()))
    assert not pull.pull(run.root, NAME, here).changed


@pytest.mark.parametrize("path", FILES)
@pytest.mark.parametrize("damage", ["flip", "cut", "grow", "remove"])
def test_damage_in_any_file_keeps_the_last_good(
    run: Run, another_day: Run, here: Path, path: str, damage: str
) -> None:
    publish(run)
    good = pull.pull(run.root, NAME, here)
    file = stored(publish(another_day), path)
    content = file.read_bytes()
    if damage == "remove":
        file.unlink()
    else:
        tail = {"flip": bytes([content[-1] ^ 1]), "cut": b"", "grow": content[-1:] + b"?"}[damage]
        file.write_bytes(content[:-1] + tail)
    with pytest.raises(pull.RefusedError):
        pull.pull(run.root, NAME, here)
    assert pull.verify(here / "current").version == good.version
    said = health(here)
    assert (said["ok"], said["version"], said["failures"]) == (False, good.version, 1)
    assert path.rpartition("/")[2] in said["error"]


def test_damage_in_the_pulled_files_is_found(run: Run, here: Path) -> None:
    publish(run)
    pulled = pull.pull(run.root, NAME, here)
    (pulled.folder / "models/a.json").write_text("{ }")
    with pytest.raises(pull.RefusedError, match=r"models/a\.json is not what"):
        pull.verify(here / "current")


def test_a_replaced_manifest_is_noticed(run: Run, here: Path) -> None:
    file = stored(publish(run), "_manifest.json")
    file.write_bytes(file.read_bytes().replace(b'"run_id": "test"', b'"run_id": "evil"'))
    with pytest.raises(pull.RefusedError, match="not the manifest that the channel attests"):
        pull.pull(run.root, NAME, here)
    assert not (here / "current").exists()


def test_a_cut_off_pull_goes_on_and_leaves_no_strangers(
    run: Run, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = version(publish(run))
    partial = here / f".partial-{made}"
    partial.mkdir(parents=True)
    (partial / "prices.csv").write_text(FILES["prices.csv"][:7])
    (partial / "report.html").write_text("<P>")
    (partial / "stranger").write_text("?")
    offsets = []

    def fetch(
        self: Any, key: str, path: Path, offset: int, inner: Any = pull._Folder.fetch
    ) -> None:
        offsets.append((path.name, offset))
        inner(self, key, path, offset)

    monkeypatch.setattr(pull._Folder, "fetch", fetch)
    pull.pull(run.root, NAME, here)
    pull.verify(here / "current")
    found = {p.name for p in (here / made).rglob("*") if p.is_file()}
    assert found == {"prices.csv", "a.json", "report.html", "_manifest.json"}
    # The torn file of full length was fetched anew, the short one only from where it ended.
    assert sorted(offsets) == [("a.json", 0), ("prices.csv", 7), ("report.html", 0)]


def test_a_file_that_comes_in_pieces_is_put_together(
    run: Run, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(run)

    def fetch(self: Any, key: str, path: Path, offset: int) -> None:
        rest = (self._folder / key).read_bytes()[offset:]
        with path.open("ab") as file:
            file.write(rest[:2])
        if len(rest) > 2:
            raise pull.UnavailableError("cut off", "again")

    monkeypatch.setattr(pull._Folder, "fetch", fetch)
    monkeypatch.setattr(pull.time, "sleep", lambda _: None)
    pull.pull(run.root, NAME, here)
    pull.verify(here / "current")


def test_a_store_that_gives_nothing_ends_the_pull(
    run: Run, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(run)

    def fetch(*_: Any) -> None:
        raise pull.UnavailableError("away", "again")

    monkeypatch.setattr(pull._Folder, "fetch", fetch)
    monkeypatch.setattr(pull.time, "sleep", lambda _: None)
    with pytest.raises(pull.UnavailableError, match="away"):
        pull.pull(run.root, NAME, here)
    assert health(here)["failures"] == 1
    with pytest.raises(pull.UnavailableError):
        pull.pull(run.root, NAME, here)
    assert health(here)["failures"] == 2


def test_pinned_version_does_not_follow_the_channel(run: Run, another_day: Run, here: Path) -> None:
    old, new = version(publish(run)), version(publish(another_day))
    assert pull.pull(run.root, NAME, here).version == new
    assert pull.pull(run.root, NAME, here, version=old).version == old
    assert health(here)["pinned"]
    assert pull.pull(run.root, NAME, here).version == new
    assert (here / "current").readlink() == Path(new)
    assert not health(here)["pinned"]


def test_nothing_in_service_is_said(run: Run, here: Path) -> None:
    with pytest.raises(pull.SettingError, match="no channel production"):
        pull.pull(run.root, NAME, here)
    with pytest.raises(pull.SettingError, match=r"There is no .*never-made"):
        pull.pull(run.root, NAME, here, version="never-made")
    with pytest.raises(pull.SettingError, match="is no version"):
        pull.pull(run.root, NAME, here, version="../up")
    with pytest.raises(pull.SettingError, match="names no store"):
        pull.pull("http://host/x", NAME, here)


def test_an_unchanged_pointer_costs_one_look(
    run: Run, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(run)
    pull.pull(run.root, NAME, here)
    looks = []

    def read(self: Any, key: str, etag: str = "", inner: Any = pull._Folder.read) -> Any:
        looks.append(key)
        return inner(self, key, etag)

    monkeypatch.setattr(pull._Folder, "read", read)
    pull.pull(run.root, NAME, here)
    assert looks == [release.pointer_key(NAME, "production")]
    # Where `current` was taken away, the etag does not keep it away.
    (here / "current").unlink()
    pull.pull(run.root, NAME, here)
    pull.verify(here / "current")


def test_a_pointer_from_the_past_is_refused(run: Run, another_day: Run, here: Path) -> None:
    publish(run)
    store, key = open_store(run.root), release.pointer_key(NAME, "production")
    past = store.read(key)
    new = version(publish(another_day))
    pull.pull(run.root, NAME, here)
    store.replace(key, past.data, store.read(key).etag)
    with pytest.raises(pull.RefusedError, match=r"move 1 .*but move 2 .* was seen before"):
        pull.pull(run.root, NAME, here)
    assert (here / "current").readlink() == Path(new)
    reset = pull.Options(accept_reset=True)
    assert pull.pull(run.root, NAME, here, options=reset).version == version(publish(run))


def test_another_version_under_the_same_move_is_refused(
    run: Run, another_day: Run, here: Path
) -> None:
    old = release.read_pointer(open_store(run.root), NAME, "production") if publish(run) else None
    assert old is not None
    publish(another_day)
    pull.pull(run.root, NAME, here)
    rewrite(run, {"version": old.version, "manifest_sha256": old.manifest_sha256})
    with pytest.raises(pull.RefusedError, match="old pointer back"):
        pull.pull(run.root, NAME, here)


def test_a_rollback_is_followed(run: Run, another_day: Run, here: Path) -> None:
    old, new = version(publish(run)), version(publish(another_day))
    assert pull.pull(run.root, NAME, here).version == new
    release.rollback(run.root, NAME)
    back = pull.pull(run.root, NAME, here)
    assert back.version == old
    assert (health(here)["sequence"], health(here)["version"]) == (3, old)


@pytest.mark.parametrize(
    "change",
    [{"version": "../../x"}, {"sequence": "2"}, {"name": "artefacts/inventory"},
     {"manifest_sha256": None}],
)  # fmt: skip
def test_a_mangled_pointer_keeps_the_last_good(
    run: Run, here: Path, change: dict[str, Any]
) -> None:
    publish(run)
    good = pull.pull(run.root, NAME, here)
    rewrite(run, change)
    with pytest.raises(pull.RefusedError):
        pull.pull(run.root, NAME, here)
    assert pull.verify(here / "current").version == good.version


@given(data=st.binary(max_size=40) | st.from_regex(rb'\{"schema_version": 1, .{0,20}\}'))
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(pull.RefusedError, match="some-place"):
        pull.parse_manifest(data, "some-place")


@pytest.mark.parametrize("path", ["/etc/x", "../x", "a/../../x", "", "a//b", "_manifest.json"])
def test_no_file_leaves_the_folder(path: str) -> None:
    golden = json.loads((Path(__file__).parents[2] / "golden/manifest.json").read_text())
    golden["files"][0]["path"] = path
    with pytest.raises(pull.RefusedError, match="lists"):
        pull.parse_manifest(json.dumps(golden).encode(), "some-place")


def test_a_newer_format_asks_for_a_newer_program() -> None:
    golden = json.loads((Path(__file__).parents[2] / "golden/manifest.json").read_text())
    with pytest.raises(pull.SettingError, match=r"newer pull\.py"):
        pull.parse_manifest(json.dumps(golden | {"schema_version": 9}).encode(), "some-place")


def test_one_folder_follows_one_channel(run: Run, here: Path) -> None:
    publish(run)
    pull.pull(run.root, NAME, here)
    with pytest.raises(pull.SettingError, match="follows artefacts/pricing production"):
        pull.pull(run.root, NAME, here, options=pull.Options(channel="canary"))


def test_two_pulls_into_one_folder_take_turns(run: Run, here: Path) -> None:
    publish(run)
    here.mkdir()
    with (here / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(pull.UnavailableError, match="Another pull"):
            pull.pull(run.root, NAME, here)
    assert pull.pull(run.root, NAME, here).changed


def test_old_versions_go_but_never_the_one_in_use(run: Run, here: Path) -> None:
    days = [Run("r", run.as_of.replace(day=day), run.root) for day in (1, 2, 3, 4)]
    (here / "mine").mkdir(parents=True)
    made = []
    for day in days:
        made.append(version(publish(day)))
        pull.pull(run.root, NAME, here, options=pull.Options(keep=2))
    there = {p.name for p in here.iterdir() if p.is_dir() and not p.is_symlink()}
    assert there == {"mine", *made[2:]}
    pull.pull(run.root, NAME, here, version=made[0], options=pull.Options(keep=1))
    there = {p.name for p in here.iterdir() if p.is_dir() and not p.is_symlink()}
    assert there == {"mine", made[0]}


def test_a_full_disk_keeps_the_last_good(
    run: Run, another_day: Run, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(run)
    good = pull.pull(run.root, NAME, here)
    publish(another_day)
    full = pull.shutil.disk_usage(here)._replace(free=1)
    monkeypatch.setattr(pull.shutil, "disk_usage", lambda _: full)
    with pytest.raises(pull.UnavailableError, match="1 bytes free, 23 are needed"):
        pull.pull(run.root, NAME, here)
    assert pull.verify(here / "current").version == good.version


def test_watching_follows_and_outlives_faults(run: Run, another_day: Run, here: Path) -> None:
    old = version(publish(run))
    seen: list[Any] = []
    stop = threading.Event()

    def told(happened: pull.Pulled | pull.PullError) -> None:
        seen.append(happened)
        match len(seen):
            case 1:
                publish(another_day)
                rewrite(run, {"name": "other"})
            case 2:
                rewrite(run, {"name": NAME})
            case 4:
                stop.set()

    pull.watch(0.001, stop, told, run.root, NAME, here)
    assert seen[0].version == old
    assert isinstance(seen[1], pull.RefusedError)
    assert [seen[2].version != old, seen[2].changed, seen[3].changed] == [True, True, False]


def test_the_program_stands_alone(run: Run, tmp_path: Path) -> None:
    """A copy of the file alone, in an interpreter that has nothing but the standard library."""
    made = version(publish(run))
    program = tmp_path / "pull.py"
    program.write_bytes(Path(pull.__file__).read_bytes())
    arguments = [sys.executable, "-I", "-S", str(program), run.root, NAME, str(tmp_path / "here")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{NAME} {made} pulled and verified: 3 files, 23 bytes")
    again = subprocess.run([*arguments, "--max-age", "0.0"], capture_output=True, check=False)
    assert again.returncode in {0, 3}  # less than a second may have passed
    stored(release.ref_of(run.root, NAME), "prices.csv").write_text("?")
    fresh = [*arguments[:-1], str(tmp_path / "fresh")]
    done = subprocess.run(fresh, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "prices.csv is not what its manifest attests" in done.stderr
    gone = [*arguments[:-3], (tmp_path / "nowhere").as_uri(), NAME, str(tmp_path / "fresh")]
    assert subprocess.run(gone, capture_output=True, check=False).returncode == 2


def test_stale_versions_have_an_exit_code(run: Run, here: Path) -> None:
    publish(run)
    arguments = [run.root, NAME, str(here), "--max-age"]
    assert pull.main([*arguments, "1"]) == 0
    assert pull.main([*arguments, "-1"]) == 3


def test_a_watching_program_ends_when_asked(run: Run, tmp_path: Path) -> None:
    publish(run)
    command = [sys.executable, pull.__file__, run.root, NAME, str(tmp_path / "here")]
    with subprocess.Popen([*command, "--watch", "60"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert b"pulled and verified" in process.stdout.readline()
        process.terminate()
        assert process.wait(timeout=30) == 0


def test_a_canary_serves_the_same_customers_and_its_share() -> None:
    customers = [f"customer-{number}" for number in range(4000)]
    tenth = {c for c in customers if pull.in_canary(c, 0.1)}
    half = {c for c in customers if pull.in_canary(c, 0.5)}
    # Four standard deviations of a binomial share.
    assert abs(len(tenth) / 4000 - 0.1) < 4 * (0.1 * 0.9 / 4000) ** 0.5
    assert tenth < half
    assert not any(pull.in_canary(c, 0.0) for c in customers)
    assert all(pull.in_canary(c, 1.0) for c in customers)
    first = int(hashlib.sha256(b"customer-0").hexdigest(), 16) / 2**256
    assert pull.in_canary("customer-0", first + 1e-6)
    assert not pull.in_canary("customer-0", first - 1e-6)
