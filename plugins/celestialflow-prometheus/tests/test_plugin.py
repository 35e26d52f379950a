"""Who installs the distribution has it in every manager, and pays for the client when the first run begins."""

from __future__ import annotations

import celestialflow_prometheus
from celestialflow_core.testing import PluginContract


class TestPrometheus(PluginContract):
    """The plugin, as its entry point has it."""

    plugin = celestialflow_prometheus.plugin
    forbidden = ("prometheus_client",)
