"""Everything that is true of a model without a server: networks, exits, artifacts, training."""
