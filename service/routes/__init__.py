"""HTTP routes, thin: headers and bodies in, engine, JSON out."""
