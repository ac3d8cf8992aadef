"""The service in virtual time: the real worker on a device whose launch times were measured before."""
