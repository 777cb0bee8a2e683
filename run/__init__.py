"""run: start a command or many services, wait for them and all their descendants, and end with the worst exit code."""

VERSION = "0.2.0"
