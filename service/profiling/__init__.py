"""What each part of the service takes, alone and in a request."""
