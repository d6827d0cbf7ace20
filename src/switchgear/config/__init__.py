"""`switchgear.toml` and the environment, with file, line and key in every complaint."""

from switchgear.config.load import load, without_file
from switchgear.config.settings import (
    CallConfig,
    Config,
    Objective,
    ServiceConfig,
    SystemConfig,
    Tls,
)
from switchgear.config.values import Address, Url, masked

__all__ = [
    "Address",
    "CallConfig",
    "Config",
    "Objective",
    "ServiceConfig",
    "SystemConfig",
    "Tls",
    "Url",
    "load",
    "masked",
    "without_file",
]
