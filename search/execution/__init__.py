"""Everything about Ray Tune: the cluster, trials as actors, and what happens when they die."""
