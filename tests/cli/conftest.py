"""The fixtures of the command line's tests."""

from command_line import command, folder, invoke, loaded, running

__all__ = ["command", "folder", "invoke", "loaded", "running"]
