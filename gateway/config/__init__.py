"""Configuration: one frozen tree, from defaults, a TOML file, the environment and the command line, in that order.

Unknown keys are errors and all mistakes are reported together. `docs/configuration.md` is generated from here. Knows
nothing of what the settings are used for.
"""

from gateway.config.loading import ConfigInvalid, Mistake, load
from gateway.config.reference import reference
from gateway.config.rendering import render
from gateway.config.settings import Access, Garbage, Lane, Limits, Logs, Scrub, Server, Settings, Storage
from gateway.config.storages import DirectoryStorage, NamedStorage, S3Storage

__all__ = [
    "Access",
    "ConfigInvalid",
    "DirectoryStorage",
    "Garbage",
    "Lane",
    "Limits",
    "Logs",
    "Mistake",
    "NamedStorage",
    "S3Storage",
    "Scrub",
    "Server",
    "Settings",
    "Storage",
    "load",
    "reference",
    "render",
]
