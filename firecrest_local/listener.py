"""The socket that a server listens on."""

import errno
import socket

HOST = "127.0.0.1"


def listen(port: int) -> socket.socket:
    """Take a port.

    :param port: 0 takes any free one.
    :raises OSError: the port is taken, or this user may not have it. The message names it.
    """
    # If the socket names its protocol, asyncio sends small answers at once. Otherwise each of them waits some 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise OSError(f"port {port} is taken. Stop what uses it, or choose another one with --port") from None
        raise OSError(f"cannot listen on port {port}: {error.strerror}") from None
    return listener
