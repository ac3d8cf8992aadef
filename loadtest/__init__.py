"""Load generators, and the report that `exitramp bench` writes; nothing here imports the service."""
