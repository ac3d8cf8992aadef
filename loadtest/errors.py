"""What can go wrong with a measurement as a whole."""


class LoadTestError(Exception):
    """Nothing can be measured; the message is one line that says what to mend."""
