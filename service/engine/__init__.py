"""The engine: queues of tickets per span, a pure scheduler, and one thread that owns the device."""
