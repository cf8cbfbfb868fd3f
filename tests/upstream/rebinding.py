"""`sluice` with a resolver that changes its mind, to be run as a module: `rebind.test` leads somewhere else each time.

Two look-ups give 127.0.0.1, the third one 127.0.0.2, and so on: whoever looks twice, to check and to connect, is led
there sooner or later.
"""

import itertools
import socket
from typing import Any, Final

from gateway.cli import main

NAME: Final = "rebind.test"
_ADDRESSES: Final = itertools.cycle(("127.0.0.1", "127.0.0.1", "127.0.0.2"))
_system = socket.getaddrinfo


def getaddrinfo(host: Any, port: Any, *rest: Any, **named: Any) -> Any:
    """The system's, but for the one name."""
    asked = host.decode() if isinstance(host, bytes) else host
    return _system(next(_ADDRESSES) if asked == NAME else host, port, *rest, **named)


if __name__ == "__main__":
    socket.getaddrinfo = getaddrinfo
    main()
