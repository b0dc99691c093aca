"""Copy a finished search's picture into the docs: ``make_pictures.py runs/NAME``."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path


def main() -> None:
    """Copy the front's picture that the search made."""
    if len(sys.argv) != 2 or not (picture := Path(sys.argv[1]) / "front.png").exists():
        sys.exit(f"usage: {sys.argv[0]} RUN_FOLDER   (a finished search's folder)")
    shutil.copy(picture, Path(__file__).parent)


if __name__ == "__main__":
    main()
