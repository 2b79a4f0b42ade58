"""A module that is a single file cannot carry `py.typed`; this tells type checkers what it exports."""

from client.api import *  # noqa: F403
