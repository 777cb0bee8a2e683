"""run: start a command, wait for it and all its descendants, and end with the worst exit code."""

VERSION = "0.1.0"
