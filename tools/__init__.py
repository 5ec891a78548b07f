"""Helpers for tests, examples and benchmarks; never part of a distribution."""
