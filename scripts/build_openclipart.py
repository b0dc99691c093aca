"""Build the two small image+text datasets from the Openclipart packages of Debian.

Both pair the title of a drawing with its picture. In ``openclipart`` the label is the folder into which
the volunteers of the Open Clip Art Library filed it. In ``openclipart_topics`` the labels are its topics,
by folders and keywords. Fetch the two packages (no installation needed) and run the script::

    apt-get update
    apt-get download openclipart-png openclipart-svg
    python scripts/build_openclipart.py \
        --png-deb openclipart-png_1%3a0.18+dfsg-19_all.deb \
        --svg-deb openclipart-svg_1%3a0.18+dfsg-19_all.deb \
        --out trainables/data/openclipart

It writes ``train.parquet``, ``validation.parquet`` and ``test.parquet`` for ``openclipart``. The files of
the same names in the folder ``topics`` list the ids and labels of ``openclipart_topics``. The title and
picture of each id are in the files of ``openclipart``, or else in ``topics/others.parquet``.

The result is deterministic: every run with the same versions of Pillow and pyarrow gives the same bytes.
Other versions may encode the same rows differently. No random generator is used. Wherever an order should
look random, rows are sorted by a salted hash of their id.

Rules, in this order:

1. A PNG is used if there is an SVG of the same name, whose RDF metadata hold title and licence.
2. Pages of more than 16 megapixels are left out.
3. Files with equal PNG bytes are one drawing; its labels are the top folders of all its files.
4. These are left out: the three icon themes (by folder or by theme title), drawings whose own
   metadata do not carry a public-domain mark (four are GPL), empty titles, and the generated stars.
5. Folders that name no topic (``unsorted``, ``logos``, ...) are not labels. A drawing that is in no
   other folder is left out.
6. At most 8 drawings are kept per title without digits, in order of path, because series consist of
   near-copies.
7. ``openclipart`` has the drawings with exactly one label, in classes of at least 40 drawings.
8. At most 600 of them are kept per class (only ``signs_and_symbols`` has more).
9. ``openclipart_topics`` has the other drawings too, except those that rule 8 leaves out. The names of a
   drawing are all folders of all its files, and its keywords. Names are folded: a final s is dropped, and
   names with one meaning (``FOLDED``) become one. Names that do not say what a drawing shows
   (``NO_TOPICS``, chosen by hand) are dropped. The 24 most common names are the topics, and drawings
   without a topic are left out.

The splits of each dataset are made by groups. Drawings with the same normalised title (lower-cased, no
digits, no punctuation) or with exactly the same rendered picture are always in the same split.
"""

from __future__ import annotations

import argparse
import hashlib
import html
import io
import json
import posixpath
import re
import struct
import sys
import tarfile
import unicodedata
import xml.etree.ElementTree as ET
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageChops

VERSION = "1:0.18+dfsg-19"
PNG_SHA256 = "f07f1545a2970c2cf3fa339bc2405da1a95cf2b1827bfa05bf73eb1c20291c02"
SVG_SHA256 = "989712d90d57dfa3230049f553bb43b76c30ee4d4b8c5f6e106e33f7db5cbdc5"

ROOT = "usr/share/openclipart/"
MAX_PIXELS = 16_000_000
MAX_PER_TITLE = 8
MAX_PER_CLASS = 600
MIN_PER_CLASS = 40
SIDE = 112
WEBP_QUALITY = 80
SEED = "openclipart-1"
SPLITS: dict[str, float] = {"train": 0.70, "validation": 0.15, "test": 0.15}

DESCRIPTIONS: dict[str, str] = {
    "openclipart": "Titles and pictures of public-domain drawings, labelled by their folder.",
    "openclipart_topics": "Titles and pictures of public-domain drawings, labelled by their topics.",
}

# The names of these folders tell where a file comes from or what it is for, not what it shows.
CATCH_ALL = frozenset({"buttons", "decorations", "logos", "special", "unsorted"})
ICON_THEME_TITLE = re.compile(
    r"etiquette icons|lemon svg theme|part of the flat icon collection", re.IGNORECASE
)
GENERATED_TITLES = frozenset({"gramastar"})

TOPICS = 24
# Names with one meaning, without their final s.
FOLDED: dict[str, str] = {
    "boating": "boat",
    "equipment": "tool",
    "festive": "holiday",
    "home": "building",
    "house": "building",
    "insect": "bug",
    "map": "geography",
    "mapsym": "map_symbol",
    "sign": "signs_and_symbols",
    "signs_and_symbol": "signs_and_symbols",
    "symbol": "signs_and_symbols",
    "transport": "transportation",
}
# These name an author, a collection, a use or a style.
NO_TOPICS = frozenset(
    {
        "architetto_francesco_rollandin",
        "button",
        "decoration",
        "entertainment",
        "hash",
        "hotel",
        "icon",
        "led",
        "logo",
        "menu",
        "special",
        "subnational",
        "united_nations_member",
        "unsorted",
        "webpage",
        "work",
    }
)
PUBLIC_DOMAIN = frozenset(
    {
        "http://web.resource.org/cc/PublicDomain",
        "http://creativecommons.org/licenses/publicdomain/",
    }
)


@dataclass(frozen=True)
class Drawing:
    """One distinct drawing.

    Attributes:
        id: Path of its first file below the package's data folder.
        title: Cleaned title.
        labels: Sorted topic folders in which it is filed.
        names: Folded names of all its folders, and its folded keywords.
    """

    id: str
    title: str
    labels: tuple[str, ...]
    names: frozenset[str]


@dataclass(frozen=True)
class Row:
    """A drawing in a dataset.

    Attributes:
        drawing: The drawing.
        labels: Its labels in that dataset.
        split: Its split in that dataset.
    """

    drawing: Drawing
    labels: tuple[str, ...]
    split: str


def rank(identifier: str, salt: str) -> str:
    """Return a sort key that puts identifiers in a random-looking but fixed order."""
    return hashlib.sha256(f"{SEED}/{salt}/{identifier}".encode()).hexdigest()


def clean_title(raw: str) -> str:
    """Undo HTML entities, drop control characters and collapse white space."""
    text = html.unescape(raw)
    text = "".join(
        " " if c.isspace() else c for c in text if c.isspace() or unicodedata.category(c) not in {"Cc", "Cf"}
    )
    return " ".join(text.split())


def fold_digits(title: str) -> str:
    """Return the title lower-cased and without digits, which is equal for all members of a series."""
    return re.sub(r"\d+", "", title).strip().lower()


def normalise_title(title: str) -> str:
    """Return the title lower-cased, without digits and punctuation, by which the split groups drawings."""
    return " ".join(re.sub(r"[\W\d_]+", " ", title.lower()).split())


def read_ar(data: bytes) -> dict[str, bytes]:
    """Return the members of an ar archive, the container format of a Debian package.

    Args:
        data: The whole archive.

    Returns:
        Mapping of member name to content.

    Raises:
        ValueError: If the data are not an ar archive.
    """
    if not data.startswith(b"!<arch>\n"):
        raise ValueError("not a Debian package (no ar header)")
    members: dict[str, bytes] = {}
    at = 8
    while at + 60 <= len(data):
        name = data[at : at + 16].decode("ascii").strip().rstrip("/")
        size = int(data[at + 48 : at + 58])
        members[name] = data[at + 60 : at + 60 + size]
        at += 60 + size + size % 2
    return members


def read_package(data: bytes, suffix: str) -> dict[str, bytes]:
    """Return the data files of a Debian package, with links resolved.

    Args:
        data: The whole package.
        suffix: Only files whose name ends with this text are returned.

    Returns:
        Mapping of path below ``usr/share/openclipart/`` to content.
    """
    members = read_ar(data)
    packed = next(content for name, content in members.items() if name.startswith("data.tar"))
    files: dict[str, bytes] = {}
    links: dict[str, str] = {}
    # One pass over the stream: seeking back in a compressed archive would unpack it again.
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r|*") as archive:
        for member in archive:
            path = posixpath.normpath(member.name)
            if not (path.startswith(ROOT) and path.endswith(suffix)):
                continue
            if member.issym():
                links[path] = posixpath.normpath(posixpath.join(posixpath.dirname(path), member.linkname))
            elif member.islnk():
                links[path] = posixpath.normpath(member.linkname)
            elif member.isfile():
                stream = archive.extractfile(member)
                if stream is not None:
                    files[path] = stream.read()
    for path in links:
        target = path
        for _ in range(len(links)):
            if target not in links:
                break
            target = links[target]
        if target in files:
            files[path] = files[target]
    return {path.removeprefix(ROOT): content for path, content in files.items()}


def png_size(data: bytes) -> tuple[int, int]:
    """Return width and height from a PNG's header, without decoding the picture."""
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def _local(element: ET.Element) -> str:
    """Return an element's name without its namespace, because the library used several namespaces."""
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def read_metadata(svg: bytes) -> tuple[str, frozenset[str], frozenset[str]]:
    """Return the title, the licence marks and the keywords in an SVG's RDF metadata.

    Args:
        svg: The file's content.

    Returns:
        The cleaned title ("" if there is none), the licences that the work names, and its cleaned keywords.
    """
    title = ""
    licences: set[str] = set()
    keywords: set[str] = set()
    for work in ET.fromstring(svg).iter():
        if _local(work) != "Work":
            continue
        for child in work:
            # Only direct children count, because creator and publisher also contain title elements.
            if _local(child) == "title" and not title:
                title = clean_title("".join(child.itertext()))
            elif _local(child) == "license":
                licences.update(v for k, v in child.attrib.items() if k.endswith("resource"))
            elif _local(child) == "subject":
                keywords.update(clean_title(item.text or "") for item in child.iter() if _local(item) == "li")
    return title, frozenset(licences), frozenset(keywords)


def is_public_domain(licences: Iterable[str]) -> bool:
    """Return whether a drawing names licences and all of them are public-domain marks."""
    marks = set(licences)
    return bool(marks) and marks <= PUBLIC_DOMAIN


def is_icon_theme(path: str, title: str) -> bool:
    """Return whether a file belongs to one of the desktop icon themes, by its folder or title."""
    return "-theme/" in path or ICON_THEME_TITLE.match(title) is not None


def fold_name(name: str) -> str:
    """Return the name of a topic that a folder or keyword stands for.

    Example:
        >>> fold_name("Insects"), fold_name("united nations_member"), fold_name("glass")
        ('bug', 'united_nations_member', 'glass')
    """
    folded = re.sub(r"[\W_]+", "_", name.lower()).strip("_")
    if folded.endswith("s") and not folded.endswith("ss"):
        folded = folded[:-1]
    return FOLDED.get(folded, folded)


def clean_drawings(pngs: Mapping[str, bytes], svgs: Mapping[str, bytes]) -> list[Drawing]:
    """Apply rules 1 to 6 of the module's docstring.

    Args:
        pngs: Mapping of ``png/FOLDER/.../NAME.png`` to content.
        svgs: Mapping of ``svg/FOLDER/.../NAME.svg`` to content.

    Returns:
        The drawings, ordered by id.
    """
    copies: dict[str, list[str]] = defaultdict(list)
    stems = sorted(p.removeprefix("png/").removesuffix(".png") for p in pngs)
    for stem in stems:
        data = pngs[f"png/{stem}.png"]
        width, height = png_size(data)
        if f"svg/{stem}.svg" in svgs and width * height <= MAX_PIXELS:
            copies[hashlib.sha256(data).hexdigest()].append(stem)

    kept: list[Drawing] = []
    per_title: Counter[str] = Counter()
    for group in copies.values():  # ordered by each drawing's first path
        metadata = [read_metadata(svgs[f"svg/{stem}.svg"]) for stem in group]
        title = metadata[0][0]
        if (
            not title
            or title.lower() in GENERATED_TITLES
            or any(is_icon_theme(s, t) for s, (t, _, _) in zip(group, metadata, strict=True))
            or not all(is_public_domain(licences) for _, licences, _ in metadata)
        ):
            continue
        labels = sorted({stem.partition("/")[0] for stem in group} - CATCH_ALL)
        if not labels:
            continue
        per_title[fold_digits(title)] += 1
        if per_title[fold_digits(title)] <= MAX_PER_TITLE:
            names = {part for stem in group for part in stem.split("/")[:-1]}
            names.update(*(keywords for _, _, keywords in metadata))
            kept.append(
                Drawing(f"png/{group[0]}.png", title, tuple(labels), frozenset(map(fold_name, names)))
            )
    return sorted(kept, key=lambda d: d.id)


def with_one_label(drawings: Iterable[Drawing]) -> tuple[list[Drawing], list[Drawing]]:
    """Apply rules 7 and 8 of the module's docstring.

    Returns:
        The drawings with exactly one label, with at most 600 drawings per class, and those above that number;
        both in the given order.
    """
    by_class: dict[str, list[Drawing]] = defaultdict(list)
    for drawing in drawings:
        if len(drawing.labels) == 1:
            by_class[drawing.labels[0]].append(drawing)
    selected: set[Drawing] = set()
    above: set[Drawing] = set()
    for members in by_class.values():
        if len(members) >= MIN_PER_CLASS:
            ranked = sorted(members, key=lambda d: rank(d.id, "cap"))
            selected.update(ranked[:MAX_PER_CLASS])
            above.update(ranked[MAX_PER_CLASS:])
    return [d for d in drawings if d in selected], [d for d in drawings if d in above]


def with_topics(drawings: Iterable[Drawing], topics: int = TOPICS) -> list[tuple[Drawing, tuple[str, ...]]]:
    """Return the drawings that have one of the most common topics, in the given order, with all of these.

    Args:
        drawings: The drawings.
        topics: Number of topics. Of equally common ones, the first in alphabetical order is taken.
    """
    counts = Counter(name for drawing in drawings for name in drawing.names - NO_TOPICS if name)
    common = set(sorted(counts, key=lambda name: (-counts[name], name))[:topics])
    return [(d, tuple(sorted(d.names & common))) for d in drawings if d.names & common]


def crop_to_content(image: Image.Image) -> Image.Image:
    """Put a drawing on a white page and crop it to the area that is not white.

    Args:
        image: Picture in any mode.

    Returns:
        RGB picture. An entirely white drawing is cropped to the area that is not transparent. An
        empty page is not cropped.
    """
    rgba = image.convert("RGBA")
    page = Image.new("RGBA", rgba.size, "white")
    page.alpha_composite(rgba)
    rgb = page.convert("RGB")
    box = ImageChops.difference(rgb, Image.new("RGB", rgb.size, "white")).getbbox()
    box = box or rgba.getchannel("A").getbbox()
    return rgb.crop(box) if box else rgb


def square(image: Image.Image, side: int = SIDE) -> Image.Image:
    """Centre an RGB picture on a white square and resize the square to ``side`` x ``side`` pixels."""
    longest = max(image.size)
    page = Image.new("RGB", (longest, longest), "white")
    page.paste(image, ((longest - image.width) // 2, (longest - image.height) // 2))
    return page.resize((side, side), Image.Resampling.LANCZOS)


def encode_webp(image: Image.Image) -> bytes:
    """Encode a picture as lossy WebP."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=WEBP_QUALITY, method=6)
    return buffer.getvalue()


def group_rows(keys: Sequence[Sequence[str]]) -> list[int]:
    """Join rows that share any key.

    Args:
        keys: The keys of each row.

    Returns:
        For each row, the index of the first row of its group.
    """
    parent = list(range(len(keys)))

    def find(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    first: dict[str, int] = {}
    for row, row_keys in enumerate(keys):
        for key in row_keys:
            one, other = find(row), find(first.setdefault(key, row))
            parent[max(one, other)] = min(one, other)
    return [find(row) for row in range(len(keys))]


def assign_splits(labels: Sequence[Sequence[str]], groups: Sequence[int], names: Sequence[str]) -> list[str]:
    """Assign whole groups to splits so that every label keeps the wanted shares.

    The assignment is greedy. Large groups come first, and each goes to the split where it reduces the
    distance to the wanted counts most. Groups of equal size come in a random-looking but fixed order.

    Args:
        labels: The labels of each row.
        groups: The group of each row.
        names: The id of each row, which determines the fixed order.

    Returns:
        The split of each row.
    """
    members: dict[int, list[int]] = defaultdict(list)
    for row, group in enumerate(groups):
        members[group].append(row)
    totals = Counter(label for own in labels for label in own)
    counts: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
    result = [""] * len(labels)
    order = sorted(members.values(), key=lambda rows: (-len(rows), rank(names[rows[0]], "split")))
    for rows in order:
        added = Counter(label for row in rows for label in labels[row])

        def cost(split: str, added: Counter[str] = added) -> float:
            change = 0.0
            for label, number in added.items():
                wanted = totals[label] * SPLITS[split]
                before = counts[split][label] - wanted
                change += ((before + number) ** 2 - before**2) / wanted
            return change

        best = min(SPLITS, key=cost)
        counts[best].update(added)
        for row in rows:
            result[row] = best
    return result


def split_rows(chosen: Iterable[tuple[Drawing, tuple[str, ...]]], pixels: Mapping[str, str]) -> list[Row]:
    """Assign drawings with their labels to splits, and put them in a random-looking but fixed order.

    Args:
        chosen: The drawings and their labels, ordered by id.
        pixels: A hash of each drawing's rendered picture, by id.
    """
    drawings, labels = zip(*chosen, strict=True)
    keys = [(f"title:{normalise_title(d.title)}", f"pixels:{pixels[d.id]}") for d in drawings]
    splits = assign_splits(labels, group_rows(keys), [drawing.id for drawing in drawings])
    rows = [Row(*each) for each in zip(drawings, labels, splits, strict=True)]
    return sorted(rows, key=lambda row: rank(row.drawing.id, "row"))


def make_schema(name: str, task: str, label: pa.DataType, classes: Iterable[str]) -> pa.Schema:
    """Return a dataset's schema with the metadata that describe the dataset."""
    metadata = {
        "paretofuse.task": task,
        "paretofuse.classes": json.dumps(sorted(classes)),
        "paretofuse.modalities": json.dumps({"text": "text", "image": "image"}),
        "paretofuse.label": "label",
        "name": name,
        "description": DESCRIPTIONS[name],
        "license": "public domain (each drawing's own metadata carries the mark)",
        "origin": json.dumps(
            [
                {"package": "openclipart-png", "version": VERSION, "sha256": PNG_SHA256},
                {"package": "openclipart-svg", "version": VERSION, "sha256": SVG_SHA256},
            ]
        ),
    }
    fields = [
        pa.field("id", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("image", pa.binary(), nullable=False),
        pa.field("label", label, nullable=False),
    ]
    return pa.schema(fields, metadata=metadata)


def write_parquet(rows: Sequence[Mapping[str, object]], schema: pa.Schema, path: Path) -> None:
    """Write a file; the pictures are not compressed, because WebP already is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(
        pa.Table.from_pylist(list(rows), schema=schema),
        path,
        compression={field.name: "none" if field.name == "image" else "zstd" for field in schema},
        use_dictionary=["label"],
        write_statistics=["label"],
    )


def build(png_package: bytes, svg_package: bytes, out: Path) -> dict[str, list[Row]]:
    """Build both datasets and write their files.

    Args:
        png_package: Content of the openclipart-png package.
        svg_package: Content of the openclipart-svg package.
        out: Folder for the files, which is created if needed.

    Returns:
        The rows of each dataset.
    """
    pngs = read_package(png_package, ".png")
    drawings = clean_drawings(pngs, read_package(svg_package, ".svg"))
    selected, above = with_one_label(drawings)
    images: dict[str, bytes] = {}
    pixels: dict[str, str] = {}
    for drawing in drawings:
        with Image.open(io.BytesIO(pngs[drawing.id])) as image:
            picture = square(crop_to_content(image))
        images[drawing.id] = encode_webp(picture)
        pixels[drawing.id] = hashlib.sha256(picture.tobytes()).hexdigest()

    def cells(drawing: Drawing) -> dict[str, object]:
        return {"id": drawing.id, "text": drawing.title, "image": images[drawing.id]}

    plain = split_rows([(drawing, drawing.labels) for drawing in selected], pixels)
    schema = make_schema("openclipart", "classification", pa.string(), {row.labels[0] for row in plain})
    for split in SPLITS:
        rows = [{**cells(row.drawing), "label": row.labels[0]} for row in plain if row.split == split]
        write_parquet(rows, schema, out / f"{split}.parquet")

    topics = split_rows(with_topics([d for d in drawings if d not in set(above)]), pixels)
    names = {label for row in topics for label in row.labels}
    schema = make_schema("openclipart_topics", "multilabel", pa.list_(pa.string()), names)
    own = pa.schema([schema.field("id"), schema.field("label")], metadata=schema.metadata)
    for split in SPLITS:
        rows = [{"id": row.drawing.id, "label": row.labels} for row in topics if row.split == split]
        write_parquet(rows, own, out / "topics" / f"{split}.parquet")
    there = set(selected)
    others = [cells(row.drawing) for row in topics if row.drawing not in there]
    store = pa.schema([schema.field(name) for name in ("id", "text", "image")])
    write_parquet(others, store, out / "topics" / "others.parquet")
    return {"openclipart": plain, "openclipart_topics": topics}


def format_counts(rows: Sequence[Row]) -> str:
    """Return a Markdown table of the number of rows per label and split."""
    counts = Counter((label, row.split) for row in rows for label in row.labels)
    splits = Counter(row.split for row in rows)
    lines = [
        "| class | " + " | ".join(SPLITS) + " | total |",
        "|---|" + "---:|" * (len(SPLITS) + 1),
    ]
    for name in sorted({label for label, _ in counts}):
        cells = [counts[name, split] for split in SPLITS]
        lines.append(f"| {name} | " + " | ".join(map(str, cells)) + f" | {sum(cells)} |")
    lines.append("| **all** | " + " | ".join(str(splits[s]) for s in SPLITS) + f" | {len(rows)} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Command-line arguments; None takes those of the process.

    Returns:
        Exit status: 0, or 2 if a package cannot be read or is not the expected one.
    """
    parser = argparse.ArgumentParser(description="Build openclipart and openclipart_topics.")
    parser.add_argument("--png-deb", type=Path, required=True, help="the openclipart-png package")
    parser.add_argument("--svg-deb", type=Path, required=True, help="the openclipart-svg package")
    parser.add_argument("--out", type=Path, required=True, help="folder for the parquet files")
    args = parser.parse_args(argv)

    packages: list[bytes] = []
    for path, expected in ((args.png_deb, PNG_SHA256), (args.svg_deb, SVG_SHA256)):
        try:
            data = path.read_bytes()
        except OSError as error:
            print(f"error: cannot read {path}: {error.strerror}", file=sys.stderr)
            return 2
        found = hashlib.sha256(data).hexdigest()
        if found != expected:
            print(
                f"error: {path}: sha256 is {found}, expected {expected} (version {VERSION})",
                file=sys.stderr,
            )
            return 2
        packages.append(data)

    for name, rows in build(packages[0], packages[1], args.out).items():
        print(f"{name}\n\n{format_counts(rows)}\n")
    for path in sorted(args.out.rglob("*.parquet")):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        print(f"{digest}  {path.relative_to(args.out)}  {path.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
