"""What is done with a cluster that ``ray up`` has started: fetch its results, and end it."""
