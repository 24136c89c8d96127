"""Modules in bundles: exported, proven, measured."""
