"""A plugin whose engine is not installed."""

from importlib import import_module

plugin = import_module("celestialflow_engine_that_is_not_installed").Plugin()
