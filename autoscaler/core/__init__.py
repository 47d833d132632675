"""What shall be done? The pure core: values in, values out; no clock, no network, no logger, no randomness.

Start with decide.py, the whole tick on one screen; the rooms it calls are listed in the package's docstring.
"""
