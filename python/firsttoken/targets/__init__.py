"""Targets: what an artifact is made for, and the Snapdragons there are."""
