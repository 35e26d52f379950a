"""Who installs the distribution has it in every manager, and pays for no library."""

from __future__ import annotations

from celestialflow_core.testing import PluginContract


class TestHttp(PluginContract):
    """The plugin, as its entry point has it."""

    plugin = "celestialflow_http:plugin"
    forbidden = ("requests", "httpx", "aiohttp", "urllib.request", "ssl")
