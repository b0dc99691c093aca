"""Everything about Ray Tune: the cluster, trials as actors, and how their deaths are handled."""
