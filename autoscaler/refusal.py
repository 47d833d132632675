"""What is an error of the user's, not of ours?

A `Refusal` carries lines made for the person who typed the command: name, value, allowed range, where. Rooms that
read what people write (policies, traces, profiles, addresses) raise it or a child of it; the command line prints it
and exits with 2. Anything else that escapes is a bug and keeps its traceback.
"""

from __future__ import annotations


class Refusal(Exception):
    """Bad input; `str()` is what the user reads, one line per problem."""
