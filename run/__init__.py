"""run: start a command, wait for it and all its descendants, and end with the worst exit code.

The modules import `posix`, which nearly all that `os` offers comes from: the abstract classes that `os` adds cost each
start more than a millisecond.
"""

VERSION = "0.2.0"
