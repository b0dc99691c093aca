"""``python -m search`` is ``python search.py``."""

from search.cli import main

if __name__ == "__main__":
    main()
