"""The server: HTTP routes over an engine that runs networks stage by stage."""

VERSION = "0.1.0"
"""Of the distribution, see pyproject.toml."""
