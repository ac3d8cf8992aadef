"""Everything that is true of a model without a server: networks, exits, artifacts, training."""

from pathlib import Path

EMBEDDED = Path(__file__).parent / "artifacts"
"""The store of the embedded models."""
