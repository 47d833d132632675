"""How is each command put together? One room per command; cli.py names the options and calls them.

Only these rooms wire adapters, apps and the simulator to the controller. They are imported when their command runs,
so that `autoscaler --help` pays for none of them.
"""
