"""Tests of the shipped openclipart datasets and of the script that builds them."""

from __future__ import annotations

import importlib.util
import io
import json
import sys
import tarfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageDraw

REPOSITORY = Path(__file__).resolve().parents[2]
DATA = REPOSITORY / "trainables" / "data" / "openclipart"
SPLITS = ("train", "validation", "test")
CLASS_COUNTS = {
    "animals": 248,
    "buildings": 44,
    "computer": 256,
    "food": 261,
    "geography": 78,
    "office": 90,
    "people": 224,
    "plants": 60,
    "recreation": 227,
    "shapes": 81,
    "signs_and_symbols": 600,
    "tools": 116,
    "transportation": 117,
}
TOPIC_COUNTS = {
    "america": 70,
    "animal": 271,
    "arrow": 63,
    "building": 57,
    "clothing": 60,
    "computer": 359,
    "dessert": 66,
    "europe": 148,
    "flag": 391,
    "food": 308,
    "fruit": 74,
    "geography": 120,
    "holiday": 93,
    "mammal": 110,
    "music": 74,
    "office": 126,
    "people": 283,
    "plant": 77,
    "recreation": 337,
    "shape": 202,
    "signs_and_symbols": 829,
    "sport": 72,
    "tool": 195,
    "transportation": 141,
}
MARK = "http://web.resource.org/cc/PublicDomain"


def _load_script() -> ModuleType:
    """Import the script by its path: scripts/ is no package."""
    path = REPOSITORY / "scripts" / "build_openclipart.py"
    spec = importlib.util.spec_from_file_location("build_openclipart", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


script = _load_script()


@pytest.fixture(scope="module")
def tables() -> dict[str, pa.Table]:
    """Return the three shipped splits."""
    return {split: pq.read_table(DATA / f"{split}.parquet") for split in SPLITS}


@pytest.fixture(scope="module")
def topics() -> dict[str, pa.Table]:
    """Return the ids and topics of the three shipped splits of openclipart_topics."""
    return {split: pq.read_table(DATA / "topics" / f"{split}.parquet") for split in SPLITS}


@pytest.fixture(scope="module")
def drawings(tables: dict[str, pa.Table]) -> dict[str, dict[str, Any]]:
    """Return the title and the picture of each id, from the files of both datasets."""
    files = [*tables.values(), pq.read_table(DATA / "topics" / "others.parquet")]
    rows = [row for table in files for row in table.select(["id", "text", "image"]).to_pylist()]
    found = {row["id"]: row for row in rows}
    assert len(found) == len(rows), "each is stored once"
    return found


def _svg(title: str, licence: str = MARK, keywords: Sequence[str] = ()) -> bytes:
    """Return an SVG with the library's kind of metadata."""
    items = "".join(f"<rdf:li>{keyword}</rdf:li>" for keyword in keywords)
    return f"""<svg xmlns="http://www.w3.org/2000/svg"><metadata>
      <rdf:RDF xmlns:cc="http://web.resource.org/cc/" xmlns:dc="http://purl.org/dc/elements/1.1/"
               xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
        <cc:Work rdf:about="">
          <dc:publisher><cc:Agent><dc:title>Publisher</dc:title></cc:Agent></dc:publisher>
          <dc:title>{title}</dc:title>
          <cc:license rdf:resource="{licence}"/>
          <dc:subject><rdf:Bag>{items}</rdf:Bag></dc:subject>
        </cc:Work>
      </rdf:RDF></metadata></svg>""".encode()


def _png(number: int, size: tuple[int, int] = (6, 4)) -> bytes:
    """Return a PNG whose colour depends on the number."""
    buffer = io.BytesIO()
    colour = (number % 200, number // 200 % 200, 77)
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def _package(files: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    """Return a Debian package with these files and symbolic links below the data folder."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:xz") as archive:
        for path, target in (links or {}).items():
            link = tarfile.TarInfo(f"./usr/share/openclipart/{path}")
            link.type, link.linkname = tarfile.SYMTYPE, target
            archive.addfile(link)
        for path, content in files.items():
            member = tarfile.TarInfo(f"./usr/share/openclipart/{path}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    result = b"!<arch>\n"
    for name, content in (("debian-binary", b"2.0\n!"), ("data.tar.xz", packed.getvalue())):
        header = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n"
        result += header.encode() + content + b"\n" * (len(content) % 2)
    return result


def _library(numbers: range, folder: str, title: str) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Return PNG and SVG files of one folder; "{}" in the title becomes a word per drawing."""
    pngs, svgs = {}, {}
    for number in numbers:
        word = "".join(chr(ord("a") + int(digit)) for digit in str(number))
        pngs[f"png/{folder}/x{number:04d}.png"] = _png(number)
        svgs[f"svg/{folder}/x{number:04d}.svg"] = _svg(title.format(word))
    return pngs, svgs


class TestShippedFiles:
    """The parquet files in the repository."""

    @pytest.mark.parametrize("split", SPLITS)
    def test_schema_describes_dataset(self, tables: dict[str, pa.Table], split: str) -> None:
        """Columns and metadata follow the documented layout."""
        schema = tables[split].schema
        assert {field.name: field.type for field in schema} == {
            "id": pa.string(),
            "text": pa.string(),
            "image": pa.binary(),
            "label": pa.string(),
        }
        metadata = {k.decode(): v.decode() for k, v in schema.metadata.items()}
        assert metadata["paretofuse.task"] == "classification"
        assert json.loads(metadata["paretofuse.classes"]) == sorted(CLASS_COUNTS)
        assert json.loads(metadata["paretofuse.modalities"]) == {"text": "text", "image": "image"}
        assert metadata["paretofuse.label"] == "label"
        assert metadata["name"] == "openclipart"
        assert metadata["description"]
        assert "\n" not in metadata["description"]
        assert metadata["license"].startswith("public domain")
        assert [entry["sha256"] for entry in json.loads(metadata["origin"])] == [
            script.PNG_SHA256,
            script.SVG_SHA256,
        ]

    def test_counts(self, tables: dict[str, pa.Table]) -> None:
        """Every class has its documented size and its share in every split."""
        shares = {"train": 0.70, "validation": 0.15, "test": 0.15}
        per_split = {split: Counter(t["label"].to_pylist()) for split, t in tables.items()}
        assert sum(per_split.values(), Counter()) == CLASS_COUNTS
        for split, counts in per_split.items():
            for name, total in CLASS_COUNTS.items():
                assert abs(counts[name] - shares[split] * total) <= 2, (split, name)

    def test_no_group_in_two_splits(self, tables: dict[str, pa.Table]) -> None:
        """No normalised title and no picture is in two splits; ids are unique."""
        ids: list[str] = []
        titles: list[set[str]] = []
        images: list[set[bytes]] = []
        for table in tables.values():
            ids += table["id"].to_pylist()
            titles.append({script.normalise_title(t) for t in table["text"].to_pylist()})
            images.append(set(table["image"].to_pylist()))
        assert len(set(ids)) == len(ids)
        for sets in (titles, images):
            assert len(set().union(*sets)) == sum(len(s) for s in sets)

    def test_texts_are_clean(self, drawings: dict[str, dict[str, Any]]) -> None:
        """Titles are neither empty nor in need of cleaning."""
        for row in drawings.values():
            assert row["text"]
            assert row["text"] == script.clean_title(row["text"])

    def test_images_decode(self, drawings: dict[str, dict[str, Any]]) -> None:
        """Every picture is a 112x112 RGB WebP."""
        for row in drawings.values():
            with Image.open(io.BytesIO(row["image"])) as image:
                image.load()
                assert (image.format, image.mode, image.size) == ("WEBP", "RGB", (112, 112))

    def test_rows_are_shuffled(self, tables: dict[str, pa.Table]) -> None:
        """Reading in order does not mean reading class by class."""
        for table in tables.values():
            assert len(set(table["label"].to_pylist()[:50])) >= 8

    def test_size_and_card(self) -> None:
        """The datasets stay small and have a card."""
        assert sum(path.stat().st_size for path in DATA.rglob("*.parquet")) < 6_000_000
        assert "Public domain" in (DATA / "README.md").read_text(encoding="utf-8")


class TestShippedTopics:
    """The files in the folder topics."""

    def test_metadata(self, topics: dict[str, pa.Table]) -> None:
        """The metadata name the task and the topics, and where the drawings come from."""
        for table in topics.values():
            metadata = {k.decode(): v.decode() for k, v in table.schema.metadata.items()}
            assert metadata["paretofuse.task"] == "multilabel"
            assert json.loads(metadata["paretofuse.classes"]) == sorted(TOPIC_COUNTS)
            assert metadata["license"].startswith("public domain")
            assert len(json.loads(metadata["origin"])) == 2

    def test_counts(self, topics: dict[str, pa.Table]) -> None:
        """Every topic has its documented size and its share in every split."""
        assert [len(topics[split]) for split in SPLITS] == [1881, 424, 426]
        shares = {"train": 0.70, "validation": 0.15, "test": 0.15}
        per_split = {
            split: Counter(topic for row in table["label"].to_pylist() for topic in row)
            for split, table in topics.items()
        }
        assert sum(per_split.values(), Counter()) == TOPIC_COUNTS
        for split, counts in per_split.items():
            for name, total in TOPIC_COUNTS.items():
                assert abs(counts[name] - shares[split] * total) <= 2, (split, name)

    def test_no_group_in_two_splits(
        self, topics: dict[str, pa.Table], drawings: dict[str, dict[str, Any]]
    ) -> None:
        """No normalised title and no picture is in two splits; ids are unique, and each has a drawing."""
        ids = {split: table["id"].to_pylist() for split, table in topics.items()}
        assert len({one for each in ids.values() for one in each}) == sum(map(len, ids.values()))
        for read in (lambda row: script.normalise_title(row["text"]), lambda row: row["image"]):
            sets = [{read(drawings[one]) for one in each} for each in ids.values()]
            assert len(set().union(*sets)) == sum(len(s) for s in sets)


class TestTitles:
    """Title cleaning and keys."""

    @pytest.mark.parametrize(
        ("raw", "expected"),
        [
            ("  Pen \n &amp;  Pencil ", "Pen & Pencil"),
            ("Gelato all&#39;italiana", "Gelato all'italiana"),
            ("a\x9ab", "ab"),
            ("", ""),
        ],
    )
    def test_clean(self, raw: str, expected: str) -> None:
        """Entities, control characters and white space are dealt with."""
        assert script.clean_title(raw) == expected

    @pytest.mark.parametrize(
        ("title", "expected"),
        [("Boat12", "boat"), ("fc23 ", "fc"), ("arrow08_4", "arrow_"), ("42", "")],
    )
    def test_fold_digits(self, title: str, expected: str) -> None:
        """Digits go, punctuation stays."""
        assert script.fold_digits(title) == expected

    @pytest.mark.parametrize(
        ("title", "expected"),
        [
            ("Crawfish (B and W)", "crawfish b and w"),
            ("hot_dog-2", "hot dog"),
            ("Hot Dog", "hot dog"),
            ("Café No. 7", "café no"),
            ("2006", ""),
        ],
    )
    def test_normalise(self, title: str, expected: str) -> None:
        """Case, digits and punctuation do not matter."""
        assert script.normalise_title(title) == expected


class TestPictures:
    """Crop, square, encode."""

    def test_crops_transparent_margin(self) -> None:
        """A drawing on a transparent page is cropped to itself."""
        image = Image.new("RGBA", (40, 30), (0, 0, 0, 0))
        ImageDraw.Draw(image).rectangle((5, 6, 14, 25), fill=(200, 0, 0, 255))
        cropped = script.crop_to_content(image)
        assert (cropped.mode, cropped.size) == ("RGB", (10, 20))
        assert cropped.getpixel((0, 0)) == (200, 0, 0)

    def test_crops_white_margin_of_any_mode(self) -> None:
        """A white page counts as margin too, here in a palette picture."""
        image = Image.new("RGB", (20, 20), "white")
        ImageDraw.Draw(image).rectangle((2, 3, 4, 9), fill="blue")
        assert script.crop_to_content(image.convert("P")).size == (3, 7)

    def test_white_drawing_uses_transparency(self) -> None:
        """A white drawing has no other outline than its transparency."""
        image = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
        ImageDraw.Draw(image).rectangle((1, 1, 8, 4), fill="white")
        assert script.crop_to_content(image).size == (8, 4)

    def test_empty_page_stays_whole(self) -> None:
        """Nothing to crop to."""
        assert script.crop_to_content(Image.new("RGBA", (9, 7), (0, 0, 0, 0))).size == (9, 7)

    def test_square_centres(self) -> None:
        """A flat picture gets equal white bands above and below."""
        result = script.square(Image.new("RGB", (224, 112), "black"))
        assert result.size == (112, 112)
        assert result.getpixel((56, 10)) == result.getpixel((56, 101)) == (255, 255, 255)
        assert result.getpixel((56, 56)) == (0, 0, 0)

    def test_encode_round_trip(self) -> None:
        """The encoded bytes are a WebP of the same size."""
        with Image.open(io.BytesIO(script.encode_webp(Image.new("RGB", (8, 8), "red")))) as image:
            assert (image.format, image.size) == ("WEBP", (8, 8))

    def test_png_size_reads_header(self) -> None:
        """The size is known without decoding."""
        assert script.png_size(_png(1, (31, 17))) == (31, 17)


class TestMetadata:
    """Titles and licences in the SVG files."""

    def test_title_is_the_works_own(self) -> None:
        """The publisher's title is not the drawing's."""
        title, licences, keywords = script.read_metadata(_svg("A  boat", keywords=["sea", " two  words"]))
        assert title == "A boat"
        assert licences == {MARK}
        assert keywords == {"sea", "two words"}

    def test_missing_metadata(self) -> None:
        """No metadata means no title and no licence."""
        bare = b'<svg xmlns="http://www.w3.org/2000/svg"/>'
        assert script.read_metadata(bare) == ("", frozenset(), frozenset())

    @pytest.mark.parametrize(
        ("licences", "expected"),
        [
            ({MARK}, True),
            (set(), False),
            ({""}, False),
            ({"http://creativecommons.org/licenses/GPL/2.0/"}, False),
            ({MARK, "http://creativecommons.org/licenses/GPL/2.0/"}, False),
        ],
    )
    def test_public_domain(self, licences: set[str], expected: bool) -> None:
        """Only an unmixed public-domain mark counts."""
        assert script.is_public_domain(licences) is expected

    def test_icon_themes(self) -> None:
        """Themes are known by folder or title; the word icon alone is none."""
        assert script.is_icon_theme("computer/icons/lemon-theme/a", "x")
        assert script.is_icon_theme("computer/home1", "Lemon SVG theme")
        assert not script.is_icon_theme("computer/printer", "Etiquette printer")


class TestSelection:
    """The cleaning rules on a made library."""

    def test_rules(self) -> None:
        """Each rule drops what it should."""
        pngs, svgs = _library(range(100, 150), "animals", "Animal {}")
        extra = {
            "animals/zz_gpl": (
                _png(900),
                _svg("G", "http://creativecommons.org/licenses/GPL/2.0/"),
            ),
            "animals/zz_empty": (_png(901), _svg("")),
            "animals/zz_star": (_png(902), _svg("gramastar")),
            "animals/icons/lemon-theme/a": (_png(903), _svg("Lemon")),
            "animals/zz_huge": (
                _png(904)[:16] + (5000).to_bytes(4, "big") * 2 + _png(904)[24:],
                _svg("Huge"),
            ),
            "food/steak": (_png(100), _svg("Animal baa")),  # second topic of the first animal
            "unsorted/copy": (_png(101), _svg("Animal bab")),  # no topic: still one label
            "unsorted/lost": (_png(905), _svg("Lost")),
            "plants/rare": (_png(906), _svg("Rare")),
        }
        for path, (png, svg) in extra.items():
            pngs[f"png/{path}.png"], svgs[f"svg/{path}.svg"] = png, svg
        pngs["png/animals/zz_no_svg.png"] = _png(907)
        for number in range(20):
            pngs[f"png/animals/y{number:02d}.png"] = _png(1000 + number)
            svgs[f"svg/animals/y{number:02d}.svg"] = _svg(f"Series {number}")

        drawings, above = script.with_one_label(script.clean_drawings(pngs, svgs))

        expected = [f"png/animals/x{number:04d}.png" for number in range(101, 150)]
        expected += [f"png/animals/y{number:02d}.png" for number in range(8)]
        assert [drawing.id for drawing in drawings] == expected
        assert {drawing.labels for drawing in drawings} == {("animals",)}
        assert not above

    def test_class_cap(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A large class is thinned out in a fixed way that is not the order of paths."""
        monkeypatch.setattr(script, "MAX_PER_CLASS", 45)
        pngs, svgs = _library(range(100, 160), "food", "Food {}")
        drawings = script.clean_drawings(pngs, svgs)
        selected, above = script.with_one_label(drawings)
        ids = [drawing.id for drawing in selected]
        assert len(ids) == 45
        assert ids == sorted(ids) != sorted(pngs)[:45]
        assert {*selected, *above} == set(drawings)
        assert (selected, above) == script.with_one_label(script.clean_drawings(pngs, svgs))

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("Animals", "animal"),
            ("glass", "glass"),
            ("bugs", "bug"),
            ("insects", "bug"),
            ("signs_and_symbols", "signs_and_symbols"),
            ("Symbol", "signs_and_symbols"),
            ("Architetto Francesco Rollandin", "architetto_francesco_rollandin"),
            (" - ", ""),
        ],
    )
    def test_fold_name(self, name: str, expected: str) -> None:
        """Case, spaces, plurals and the words for one thing do not matter."""
        assert script.fold_name(name) == expected

    def test_topics(self) -> None:
        """Folders and keywords of all copies of a drawing count; what names no topic does not."""
        pngs = {
            f"png/{name}.png": _png(number) for number, name in enumerate(("a/x/one", "a/two", "b/three"))
        }
        pngs["png/c/one.png"] = pngs["png/a/x/one.png"]
        svgs = {path.replace("png", "svg"): _svg(path) for path in pngs}
        svgs["svg/c/one.svg"] = _svg("One", keywords=["Insects", "hash", ""])
        svgs["svg/b/three.svg"] = _svg("Three", keywords=["bug", "hash"])
        drawings = script.clean_drawings(pngs, svgs)
        found = {drawing.id: topics for drawing, topics in script.with_topics(drawings, topics=2)}
        assert found == {
            "png/a/two.png": ("a",),
            "png/a/x/one.png": ("a", "bug"),
            "png/b/three.png": ("bug",),
        }


class TestSplit:
    """Groups and their assignment."""

    def test_groups_join_over_any_key(self) -> None:
        """Rows are joined through chains of shared keys."""
        keys = [("a", "1"), ("b", "2"), ("c", "2"), ("a", "3"), ("d", "3"), ("e", "4")]
        assert script.group_rows(keys) == [0, 1, 1, 0, 0, 5]

    def test_shares_and_groups(self) -> None:
        """Shares hold per class and no group is torn apart."""
        labels = ["big"] * 300 + ["small"] * 60
        groups = [row // 3 * 3 for row in range(360)]
        names = [f"row{row}" for row in range(360)]
        each = [(label,) for label in labels]
        splits = script.assign_splits(each, groups, names)
        counts = Counter(zip(labels, splits, strict=True))
        assert counts["small", "train"] == 42
        for split, share in script.SPLITS.items():
            assert abs(counts["big", split] - 300 * share) <= 3
        assert len(set(zip(groups, splits, strict=True))) == len(set(groups))
        assert splits == script.assign_splits(each, groups, names)

    def test_every_label_of_a_row_keeps_its_share(self) -> None:
        """A row may have several labels, each of which is dealt out evenly."""
        labels = [("odd",) * (row % 2) + ("third",) * (row % 3 == 0) + ("all",) for row in range(600)]
        splits = script.assign_splits(labels, range(600), [f"row{row}" for row in range(600)])
        counts = Counter((label, split) for own, split in zip(labels, splits, strict=True) for label in own)
        for label, total in {"odd": 300, "third": 200, "all": 600}.items():
            for split, share in script.SPLITS.items():
                assert abs(counts[label, split] - total * share) <= 2


class TestPackages:
    """Reading Debian packages and the command line."""

    def test_reads_files_and_links(self) -> None:
        """Files are found by suffix, links give the content of their target."""
        package = _package(
            {"png/a/one.png": b"1", "png/a/note.txt": b"no"},
            {
                "png/b/two.png": "../a/one.png",
                "png/c/three.png": "../b/two.png",
                "png/c/dangling.png": "nowhere.png",
                "png/c/loop.png": "loop.png",
            },
        )
        assert script.read_package(package, ".png") == {
            "png/a/one.png": b"1",
            "png/b/two.png": b"1",
            "png/c/three.png": b"1",
        }

    def test_rejects_other_files(self) -> None:
        """Something that is no package is named as such."""
        with pytest.raises(ValueError, match="not a Debian package"):
            script.read_package(b"zip", ".png")

    def test_build_is_deterministic(self, tmp_path: Path) -> None:
        """Two runs on the same packages write the same bytes."""
        pngs, svgs = _library(range(100, 150), "animals", "Animal {}")
        more_pngs, more_svgs = _library(range(200, 250), "food", "Food {}")
        few_pngs, few_svgs = _library(range(300, 310), "science", "Science {}")
        packages = _package(pngs | more_pngs | few_pngs), _package(svgs | more_svgs | few_svgs)
        built = script.build(*packages, tmp_path / "one")
        script.build(*packages, tmp_path / "two")
        assert {name: len(rows) for name, rows in built.items()} == {
            "openclipart": 100,
            "openclipart_topics": 110,
        }
        assert "| food |" in script.format_counts(built["openclipart"])
        first, second = (sorted((tmp_path / name).rglob("*.parquet")) for name in ("one", "two"))
        assert len(first) == 7
        assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
        others = pq.read_table(tmp_path / "one" / "topics" / "others.parquet")
        assert {text.split()[0] for text in others["text"].to_pylist()} == {"Science"}
        assert len(others) == 10

    @pytest.mark.parametrize("exists", [True, False])
    def test_wrong_package(self, tmp_path: Path, capsys: pytest.CaptureFixture[str], exists: bool) -> None:
        """A wrong or missing package ends in one line and exit status 2."""
        path = tmp_path / "some.deb"
        if exists:
            path.write_bytes(b"!<arch>\n")
        out = tmp_path / "out"
        status = script.main(["--png-deb", str(path), "--svg-deb", str(path), "--out", str(out)])
        error = capsys.readouterr().err
        assert status == 2
        assert error.count("\n") == 1
        assert "some.deb" in error
        assert ("sha256" in error) is exists
        assert not out.exists()
