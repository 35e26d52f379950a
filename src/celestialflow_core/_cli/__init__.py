"""The command line ``celestialflow``: a module a command."""
