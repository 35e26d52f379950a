"""A plugin for a core that is not out yet: what it imports is not there."""

from celestialflow_core import something_of_the_future

executor_factories = something_of_the_future
