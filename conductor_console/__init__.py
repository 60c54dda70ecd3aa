"""An operations console for TaskFlow jobboards and the conductors that work them."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("conductor-console")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

__all__ = ["__version__"]
