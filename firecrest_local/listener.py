"""The socket that a server listens on."""

import socket

HOST = "127.0.0.1"


def listen(port: int) -> socket.socket:
    """Take a port.

    :param port: 0 takes any free one.
    :raises OSError: the port is taken.
    """
    # If the socket names its protocol, asyncio sends small answers at once. Otherwise each of them waits some 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
    except OSError:
        listener.close()
        raise
    return listener
