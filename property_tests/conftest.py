"""One profile for all properties: the same examples at every run, so that a failure is a fact and not a mood."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("taskweave", derandomize=True, deadline=None)
settings.load_profile("taskweave")
