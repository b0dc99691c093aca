"""Whether the machines of a cluster run trials as this one would: asked before the first trial, and later.

``require_ready`` examines the machines of a cluster that a search has joined. ``Watch`` examines those that
join later. ``guarded`` has a trial look for itself, because Ray may start it before its machine was examined.
"""
