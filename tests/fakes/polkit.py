"""A polkit that answers by a table: `python -m tests.fakes.polkit BUS_ADDRESS ANSWERS.json ASKED`.

The table has, for each action, one of the words in `WORDS`; what is asked is written to a file, line by line.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from jeepney import DBusAddress, MessageType, new_error, new_method_call, new_method_return
from jeepney.io.blocking import open_dbus_connection

WORDS = {
    "allowed": (True, False, {}),
    "denied": (False, False, {}),
    "challenge": (False, True, {}),
    "dismissed": (False, True, {"polkit.dismissed": "true"}),
}
BUS = DBusAddress("/org/freedesktop/DBus", bus_name="org.freedesktop.DBus", interface="org.freedesktop.DBus")


def main(address: str, answers: str, asked: str) -> None:
    connection = open_dbus_connection(address)
    connection.send_and_get_reply(new_method_call(BUS, "RequestName", "su", ("org.freedesktop.PolicyKit1", 0)))
    Path(asked).write_text("")
    while True:
        message = connection.receive()
        if message.header.message_type is not MessageType.method_call:
            continue
        (kind, details), action, *_ = message.body
        with Path(asked).open("a") as file:
            who = {name: value for name, (_, value) in details.items()}
            file.write(json.dumps({"kind": kind, "action": action, **who}) + "\n")
        word = json.loads(Path(answers).read_text())[action]
        if word == "silent":
            continue
        if word == "broken":
            connection.send(new_error(message, "org.freedesktop.PolicyKit1.Error.Failed", "s", ("it is broken",)))
        else:
            connection.send(new_method_return(message, "(bba{ss})", (WORDS[word],)))


if __name__ == "__main__":
    main(*sys.argv[1:])
