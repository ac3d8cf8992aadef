"""Training, calibration and evaluation of staged networks; needs the ``training`` extra."""
