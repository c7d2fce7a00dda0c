"""killswitch: a risk kill switch for AlphaPoint-style order management systems."""

__version__ = "0.1.0"
