"""Copy a finished search's picture into the docs: ``make_pictures.py runs/NAME [PICTURE.png]``."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path


def main() -> None:
    """Copy the front's picture that the search made."""
    if len(sys.argv) not in (2, 3) or not (picture := Path(sys.argv[1]) / "front.png").exists():
        sys.exit(f"usage: {sys.argv[0]} RUN_FOLDER [PICTURE.png]   (a finished search's folder)")
    name = sys.argv[2] if len(sys.argv) == 3 else "front.png"
    shutil.copy(picture, Path(__file__).parent / name)


if __name__ == "__main__":
    main()
