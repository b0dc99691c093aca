"""Run a search from a checkout: ``python search.py --space pmf_nas``."""

from search.cli import main

if __name__ == "__main__":
    main()
