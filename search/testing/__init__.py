"""Suites that samplers and objectives must pass; an author of a plugin can run them, too."""
