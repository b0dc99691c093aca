"""Samples in tar archives."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from trainables.data import open_dataset
from trainables.data.readers import ALL, Found, read_path
from trainables.errors import UserError
from trainables.reading_settings import ReadingSettings
from trainables.testing.layouts.formats import png, put, wav, write_tar


def read(path: Path, columns: str | None = None) -> Found:
    return read_path(str(path), ReadingSettings(columns=columns))


def rows_of(found: Found, split: str = ALL) -> list[dict[str, Any]]:
    """Return the rows of a split, with the sizes of members in place of where they are."""
    parts = found.parts[split]
    rows = [
        row for part in parts for batch in part.batches(part.schema.names, 9) for row in batch.to_pylist()
    ]
    return [{k: v["size"] if isinstance(v, dict) else v for k, v in row.items()} for row in rows]


def test_columns_by_the_ends_of_names(tmp_path: Path) -> None:
    fields = {"caption": "a cat", "width": 3, "tags": ["x"]}
    sample = {
        "1.JPG": b"abc",
        "1.Txt": "hello\n",
        "1.cls": " yes\n",
        "1.json": json.dumps(fields),
        "1.flac": b"ab",
    }
    (row,) = rows_of(read(write_tar(tmp_path / "a.tar", sample)))
    assert row == {"image": 3, "text": "hello\n", "label": "yes", "audio": 2, **fields}


def test_columns_by_the_middle_of_names(tmp_path: Path) -> None:
    sample = {"left.png": b"a", "right.png": b"ab", "de.txt": "ja", "cls": "yes"}
    members = {f"{n}.{end}": content for n in range(2) for end, content in sample.items()}
    for row in rows_of(read(write_tar(tmp_path / "a.tar", members))):
        assert row == {"left": 1, "right": 2, "de": "ja", "label": "yes"}


def test_names_with_more_dots_are_refused(tmp_path: Path) -> None:
    members = {f"v1.0_{n}.{end}": b"x" for n in range(3) for end in ("png", "txt")}
    with pytest.raises(
        UserError, match=r"a\.tar has the member v1\.0_0\.png: what stands before the first dot"
    ):
        read(write_tar(tmp_path / "a.tar", members))


def test_ends_share_a_column_unless_a_sample_has_both(tmp_path: Path) -> None:
    found = read(write_tar(tmp_path / "a.tar", {"1.jpg": b"a", "2.png": b"ab"}))
    assert [row["image"] for row in rows_of(found)] == [1, 2]
    found = read(write_tar(tmp_path / "a.tar", {"1.jpg": b"a", "2.png": b"ab", "2.jpg": b"abc"}))
    assert rows_of(found) == [{"jpg": 1, "png": None}, {"jpg": 3, "png": 2}]


def test_what_a_sample_lacks_is_missing(tmp_path: Path) -> None:
    members = {"1.png": b"a", "1.txt": "one", "1.cls": "x", "2.txt": "two", "2.cls": "", "3.png": b"abc"}
    assert rows_of(read(write_tar(tmp_path / "a.tar", members))) == [
        {"image": 1, "text": "one", "label": "x"},
        {"image": None, "text": "two", "label": None},
        {"image": 3, "text": None, "label": None},
    ]


def test_members_of_a_sample_may_be_apart(tmp_path: Path) -> None:
    """As they are in an archive that was packed by kinds; folders are part of a sample's name."""
    members = {"./a/1.png": b"a", "./b/1.png": b"ab", "./b/1.txt": "b", "./a/1.txt": "a"}
    found = read(write_tar(tmp_path / "a.tar", members))
    assert rows_of(found) == [{"image": 1, "text": "a"}, {"image": 2, "text": "b"}]
    assert [found.parts[ALL][0].word(row) for row in range(2)] == ["a.tar sample a/1", "a.tar sample b/1"]


@pytest.mark.parametrize(
    ("written", "classes"),
    [
        (["10", "9", "10"], ["9", "10"]),
        (["10", "9", "cat"], ["10", "9", "cat"]),
        (["007", "10", "9"], ["007", "10", "9"]),
    ],
)
def test_labels_are_numbers_if_all_are(tmp_path: Path, written: list[str], classes: list[str]) -> None:
    """Also those of another archive."""
    for split in ("train", "val", "test"):
        for shard, own in enumerate((written[:1], written[1:] * 2)):
            members = [
                (f"{n}.{end}", text)
                for n, label in enumerate(own)
                for end, text in (("cls", label), ("txt", "x"))
            ]
            write_tar(tmp_path / f"{split}-{shard}.tar", members)
    assert open_dataset(str(tmp_path)).task.to_dict()["classes"] == classes


def test_texts_stay_texts(tmp_path: Path) -> None:
    assert rows_of(read(write_tar(tmp_path / "a.tar", {"1.txt": "1", "2.txt": "2"})))[0] == {"text": "1"}


def test_members_go_before_fields(tmp_path: Path) -> None:
    members = {"1.json": '{"text": "field"}', "1.txt": "member", "2.json": '{"text": "field"}'}
    assert [row["text"] for row in rows_of(read(write_tar(tmp_path / "a.tar", members)))] == ["member", None]


def test_fields_of_several_types(tmp_path: Path) -> None:
    objects = [
        {"label": "a", "odd": 1},
        {"label": "b", "odd": "1"},
        {"label": "c", "odd": [1], "wide": 2**70},
    ]
    path = write_tar(tmp_path / "a.tar", {f"{n}.json": json.dumps(each) for n, each in enumerate(objects)})
    found = read(path)
    assert [row["label"] for row in rows_of(found)] == ["a", "b", "c"]
    assert found.notes == (
        "field 'odd' of JSON objects is left out, it has lists and numbers and texts",
        "field 'wide' of JSON objects is left out, it has numbers of types that differ",
    )
    with pytest.raises(UserError, match="field 'odd' of JSON objects has lists and numbers and texts"):
        read(path, "label=odd")


def test_other_members_are_said_and_hidden_ones_passed_over(tmp_path: Path) -> None:
    members = {"1.txt": "a", "1.npy": b"x", "1.seg.pth": b"x", "._1.txt": b"\0", "__MACOSX/1.txt": b"\0"}
    found = read(write_tar(tmp_path / "a.tar", members))
    assert rows_of(found) == [{"text": "a"}]
    assert found.notes == ("not read: members that end in .npy, .seg.pth",)


@pytest.mark.parametrize("name", ["{}-{:03}.tar", "{}_{}.tar", "{}/{:05}.tar", "{}-{:05}-of-00002.tar"])
def test_splits(tmp_path: Path, name: str) -> None:
    """Archives of a split are read in the order of their numbers."""
    for split in ("train", "val", "test"):
        for shard in range(2):
            write_tar(tmp_path / name.format(split, shard), {"1.txt": f"{split} {shard}"})
    found = read(tmp_path)
    assert {split: [row["text"] for row in rows_of(found, split)] for split in found.parts} == {
        "train": ["train 0", "train 1"],
        "validation": ["val 0", "val 1"],
        "test": ["test 0", "test 1"],
    }


def test_archives_that_say_no_split(tmp_path: Path) -> None:
    for shard in range(11):
        write_tar(tmp_path / f"{shard}.tar", {"1.txt": str(shard)})
    put(tmp_path / "0_stats.json", "{}")
    assert [row["text"] for row in rows_of(read(tmp_path))] == [*map(str, range(11))]


def test_bytes_are_those_of_the_member(tmp_path: Path) -> None:
    """They are read where they are, also behind long names."""
    for split in ("train", "val", "test"):
        members = [
            member
            for n in range(4)
            for member in (
                (f"{'x' * 150}{n}.png", png(n)),
                (f"{'x' * 150}{n}.wav", wav(n)),
                (f"{'x' * 150}{n}.cls", "ab"[n % 2]),
            )
        ]
        write_tar(tmp_path / f"{split}.tar", members)
    dataset = open_dataset(str(tmp_path))
    (batch,) = dataset.batches("test", ["image", "audio"])
    assert dataset.contents("image", batch) == [png(n) for n in range(4)]
    assert dataset.contents("audio", batch) == [wav(n) for n in range(4)]


def _archive(members: dict[str, bytes | str]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            data = content.encode() if isinstance(content, str) else content
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return file.getvalue()


def test_cut_archives_are_refused_wherever_they_end(tmp_path: Path) -> None:
    whole = _archive({"1.png": png(1), "1.txt": "one", "2.png": png(2), "2.txt": "two"})
    end = len(whole.rstrip(b"\0")) // 512 * 512 + 512  # where the blocks of zeros begin
    for size in range(0, end + 512, 128):
        with pytest.raises(UserError):
            read(put(tmp_path / "a.tar", whole[:size]))
    assert len(rows_of(read(put(tmp_path / "a.tar", whole[: end + 512])))) == 2
    with pytest.raises(UserError, match=r"a\.tar is cut or damaged after its member 2\.png"):
        read(put(tmp_path / "a.tar", whole[: end - 700]))


def test_damaged_headers_are_refused(tmp_path: Path) -> None:
    """Python's library takes what is no header for the archive's end."""
    whole = bytearray(_archive({"1.txt": "one", "2.txt": "two", "3.txt": "three"}))
    for header in (0, 1024, 2048):
        damaged = bytearray(whole)
        damaged[header + 100] ^= 1
        with pytest.raises(UserError, match="cut or damaged"):
            read(put(tmp_path / "a.tar", bytes(damaged)))


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("1.txt", "a"), ("1.txt", "b")], r"a\.tar: 1\.txt is there twice"),
        ([("1.TXT", "a"), ("1.txt", "b")], r"a\.tar: 1\.txt is there twice"),
        ([("1.txt", b"\xff")], r"a\.tar: 1\.txt is no text in UTF-8"),
        ([("1.json", "{")], r"a\.tar: 1\.json is no JSON"),
        ([("1.json", '{"\\ud800": 1}')], r"a\.tar: 1\.json is no JSON \(the key '\\ud800' has half of a"),
        ([("1.json", "[1]")], r"a\.tar: 1\.json is a JSON list; expected an object"),
        ([("1.npy", b"x")], r"a\.tar has no pictures, sounds, texts"),
        ([], r"a\.tar has no pictures"),
    ],
)
def test_refused_members(tmp_path: Path, members: list[tuple[str, bytes | str]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(write_tar(tmp_path / "a.tar", members))


def test_links_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        member = tarfile.TarInfo("1.png")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(UserError, match=r"a\.tar: 1\.png is a link or no plain file"):
        read(tmp_path / "a.tar")


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tgz", "a.tar"])
def test_compressed_archives_are_refused(tmp_path: Path, name: str) -> None:
    path = put(tmp_path / name, gzip.compress(_archive({"1.txt": "a"})))
    with pytest.raises(UserError, match=f"{name} is a gzip file; expected a tar archive without"):
        read(path)
    with pytest.raises(UserError, match="compressed"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("first", "second", "sample"),
    [
        ({"1.png": b"a", "1.txt": "a", "2.png": b"a"}, {"2.txt": "b", "3.png": b"a", "3.txt": "c"}, "2"),
        ({"1.png": b"a", "2.png": b"a"}, {"1.txt": "a", "2.txt": "b"}, "1"),
    ],
)
def test_samples_that_are_spread_over_archives(
    tmp_path: Path, first: dict[str, bytes | str], second: dict[str, bytes | str], sample: str
) -> None:
    write_tar(tmp_path / "train-0.tar", first)
    write_tar(tmp_path / "train-1.tar", second)
    with pytest.raises(UserError, match=rf"sample {sample} is partly in train-0\.tar and partly in train-1"):
        read(tmp_path)


def test_archives_may_use_the_same_names_for_samples(tmp_path: Path) -> None:
    write_tar(tmp_path / "train-0.tar", {"1.png": b"a", "1.txt": "a", "2.png": b"a"})
    write_tar(tmp_path / "train-1.tar", {"1.txt": "b", "2.png": b"a", "2.txt": "c"})
    assert len(rows_of(read(tmp_path), "train")) == 4
