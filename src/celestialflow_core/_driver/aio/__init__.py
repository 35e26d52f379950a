"""The asynchronous side of the driver, loaded when it is used: asyncio alone takes longer than all the rest."""
