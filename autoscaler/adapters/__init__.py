"""Who talks to the outside? One module (or package) per outside thing, each filling one door of `ports.py`.

An adapter knows one third party and turns what that can do wrong into values: `Unknown`, `Fault`, `Outcome`. Adapters
never import each other, and nothing but the command line imports them.
"""
