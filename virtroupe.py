"""The public name of the client library: everything a program imports is here."""

from client.api import *  # noqa: F403
