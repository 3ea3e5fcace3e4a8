"""The store of submissions, and archives that come from anybody."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import stat
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from academy.messages import AcademyError
from academy.settings import Settings
from grading.exchange import archive, store
from grading.exchange.archive import ArchiveError
from grading.exchange.store import Store, pack

MEGABYTE = 1 << 20


@pytest.fixture
def blobs(config: Callable[..., Settings]) -> Store:
    return Store(config(exchange={"max_submission_mb": 1}))


def tar(*members: tuple[tarfile.TarInfo, bytes], compress: bool = True, **options: object) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz" if compress else "w", **options) as file:  # type: ignore[call-overload]
        for member, data in members:
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.mode = kind, target, mode
    return member


def reason(data: bytes, folder: Path, limit: int = MEGABYTE) -> str:
    """Why both the check and the unpacking refuse an archive: for the same reason."""
    with pytest.raises(ArchiveError) as checked:
        archive.inspect(io.BytesIO(data), limit)
    with pytest.raises(ArchiveError) as unpacked:
        archive.unpack(io.BytesIO(data), folder, limit)
    assert checked.value.reason == unpacked.value.reason
    return checked.value.reason


def test_what_is_put_is_there_immutable_and_whole(blobs: Store) -> None:
    sha256 = blobs.put(b"work")
    path = blobs.path(sha256)
    assert path == blobs.folder / sha256[:2] / sha256
    assert blobs.read(sha256) == b"work"
    assert stat.S_IMODE(path.stat().st_mode) == 0o440
    assert blobs.put(b"work") == sha256
    assert list(blobs.incoming.iterdir()) == []


def test_a_damaged_file_is_noticed_and_healed_by_the_next_upload(blobs: Store) -> None:
    sha256 = blobs.put(b"work")
    path = blobs.path(sha256)
    path.chmod(0o640)
    path.write_bytes(b"w0rk")
    with pytest.raises(AcademyError, match="damaged"):
        blobs.read(sha256)
    assert blobs.put(b"work") == sha256
    assert blobs.read(sha256) == b"work"


def test_an_unknown_file_is_an_error_with_its_name(blobs: Store) -> None:
    with pytest.raises(AcademyError, match="abababababab"):
        blobs.path("ab" * 32)
    for name in ("../../etc/passwd", "AB" * 32, "", "ab" * 32 + "\n"):
        with pytest.raises(ValueError, match="not a SHA-256"):
            blobs.path(name)


def test_what_breaks_off_or_is_too_large_leaves_nothing(blobs: Store) -> None:
    with contextlib.suppress(RuntimeError), blobs.writer(None) as writer:
        writer.write(b"half")
        raise RuntimeError("the connection broke off")
    with blobs.writer(MEGABYTE) as writer:
        writer.write(bytes(MEGABYTE))
        with pytest.raises(AcademyError, match="at most 1 MB") as error:
            writer.write(b"1")
    assert error.value.status == 413
    assert [path for path in blobs.folder.rglob("*") if path.is_file()] == []


def test_a_full_disk_is_said_before_anything_is_written(blobs: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "RESERVE_BYTES", 1 << 60)
    with pytest.raises(AcademyError, match="disk is full") as error:
        blobs.put(b"work")
    assert error.value.status == 507


def test_leftovers_of_a_killed_service_go_after_a_day(blobs: Store) -> None:
    old, new = blobs.incoming / "old", blobs.incoming / "new"
    for path in (old, new):
        path.write_bytes(b"part")
    os.utime(old, (0, 0))
    assert blobs.sweep() == 1
    assert new.exists()
    assert not old.exists()


def test_the_same_content_from_many_threads_is_one_file(blobs: Store) -> None:
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(blobs.put(b"x" * 200_000))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 16
    assert len(set(found)) == 1
    assert blobs.read(found[0]) == b"x" * 200_000


def test_packing_is_deterministic_and_takes_plain_files_only(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    for folder, names in ((first, ("z.txt", "노트북.ipynb")), (second, ("노트북.ipynb", "z.txt"))):
        (folder / "data").mkdir(parents=True)
        for name in names:
            (folder / name).write_text(name)
        (folder / "data/one.csv").write_text("1")
    os.utime(first / "z.txt", (0, 0))
    (first / "z.txt").chmod(0o755)
    (second / "link").symlink_to("/etc/passwd")
    (second / "folder-link").symlink_to("/etc")
    os.mkfifo(second / "pipe")
    assert pack(first) == pack(second)
    assert archive.inspect(io.BytesIO(pack(first)), MEGABYTE) == ["z.txt", "노트북.ipynb", "data/one.csv"]


def test_unpacking_gives_the_files_back_with_plain_modes(blobs: Store, tmp_path: Path) -> None:
    data = tar(
        (entry("./run.sh", mode=0o6777), b"x"), (entry("./a/b.ipynb", mode=0), b"{}"), (entry("a/empty", tarfile.DIRTYPE), b"")
    )
    blobs.unpack(blobs.put(data), tmp_path)
    modes = {
        path.relative_to(tmp_path).as_posix(): oct(stat.S_IMODE(path.stat().st_mode)) for path in (tmp_path / "a").rglob("*")
    }
    assert modes == {"a/b.ipynb": "0o644", "a/empty": "0o755"}
    assert stat.S_IMODE((tmp_path / "run.sh").stat().st_mode) == 0o644


@pytest.mark.parametrize(
    ("member", "expected"),
    [
        (entry("../x.ipynb"), "bad-name"),
        (entry("a/../../x"), "bad-name"),
        (entry("/etc/x"), "bad-name"),
        (entry("a" * 300), "bad-name"),
        (entry("."), "bad-name"),
        (entry("link", tarfile.SYMTYPE, "/etc/passwd"), "bad-type"),
        (entry("link", tarfile.LNKTYPE, "../../x"), "bad-type"),
        (entry("pipe", tarfile.FIFOTYPE), "bad-type"),
        (entry("device", tarfile.CHRTYPE), "bad-type"),
        (entry("disk", tarfile.BLKTYPE), "bad-type"),
        (entry("contiguous", tarfile.CONTTYPE), "bad-type"),
    ],
)
def test_entries_that_could_do_harm_are_refused(member: tarfile.TarInfo, expected: str, tmp_path: Path) -> None:
    assert reason(tar((entry("ok.ipynb"), b"{}"), (member, b"")), tmp_path) == expected


def test_the_same_name_twice_is_refused(tmp_path: Path) -> None:
    for number, pair in enumerate([("a", "a"), ("a", "a/b"), ("a/b", "a"), ("a/b", "./a//b")]):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert reason(tar(*((entry(name), b"x") for name in pair)), folder) == "bad-name"


def test_bombs_stop_at_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_ENTRIES", 50)
    assert reason(tar((entry("zeros"), bytes(30 * MEGABYTE))), tmp_path) == "too-large"
    many = tar(*((entry(f"f{i}"), b"") for i in range(archive.MAX_ENTRIES + 1)))
    (tmp_path / "many").mkdir()
    assert reason(many, tmp_path / "many", 100 * MEGABYTE) == "too-many"
    name = entry("short")
    name.pax_headers = {"comment": "x" * 200_000}
    assert reason(tar((name, b"x"), format=tarfile.PAX_FORMAT), tmp_path) == "bad-name"


def test_damage_is_found_before_it_is_acknowledged(tmp_path: Path) -> None:
    whole = tar((entry("a.ipynb"), os.urandom(5000)))
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    chain = b"".join(_long_name() for _ in range(3000))
    for number, data in enumerate(
        [b"", b"PK\3\4", whole[:-100], whole[:-4], bytes(flipped), gzip.compress(b"no tar" * 500), gzip.compress(chain)]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert reason(data, folder, 100 * MEGABYTE) == "damaged", number


def _long_name() -> bytes:
    member = entry("././@LongLink", tarfile.GNUTYPE_LONGNAME)
    member.size = 10
    return member.tobuf(tarfile.GNU_FORMAT) + b"longname\0\0".ljust(512, b"\0")
