"""Waits until the workers of a cluster have joined it. It runs on the head, as a program.

``python -m search.launching.running.waiting ADDRESS ...`` names the workers.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence

from trainables.errors import UserError

#: Time in seconds that a worker has for its installation.
LIMIT = 1800.0
_INTERVAL = 2.0


def wait_for_workers(
    addresses: Sequence[str],
    joined: Callable[[], set[str]],
    limit: float = LIMIT,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Wait until all workers have joined, and print which of them are awaited.

    Args:
        addresses: The workers' addresses.
        joined: Returns the addresses of the nodes that have joined.
        limit: Time in seconds after which the wait ends.
        sleep: Lets time pass.

    Raises:
        UserError: If some have not joined by then.
    """
    awaited: list[str] = []
    waited = 0.0
    while missing := sorted(set(addresses) - joined()):
        if waited >= limit:
            raise UserError(
                f"{', '.join(missing)} did not join within {limit / 60:.0f} minutes; `ray monitor` with "
                "the cluster's file shows why"
            )
        if missing != awaited:
            print(f"waiting for {', '.join(missing)} to install and join", flush=True)
            awaited = missing
        sleep(_INTERVAL)
        waited += _INTERVAL
    print(f"all {len(addresses)} workers have joined", flush=True)


def main() -> None:
    """Run the program."""
    import ray

    ray.init(address="auto", log_to_driver=False, logging_level="warning")
    try:
        wait_for_workers(sys.argv[1:], lambda: {n["NodeManagerAddress"] for n in ray.nodes() if n["Alive"]})
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
