"""The server: HTTP routes over an engine that runs networks stage by stage."""
