"""The address of the page: its listening socket, who can reach it, and its URL."""

import errno
import ipaddress
import socket

from transxnet.utils.errors import UserError

PORTS = range(7860, 7960)
"""Ports to try by default; the first is Gradio's default."""

_HOSTS = "127.0.0.1 (this machine only), 0.0.0.0 (all network interfaces), or an address of this machine"


def listen(host: str, port: int | None = None) -> socket.socket:
    """Open a listening socket.

    Args:
        host: host name, or IPv4 or IPv6 address.
        port: port number; by default the first free one of ``PORTS``; 0 for any.

    Raises:
        UserError: the host is not an address of this machine, or the port is in use or reserved.
    """
    if port is not None and not 0 <= port <= 65535:
        raise UserError(f"port must be from 0 to 65535, got {port}.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise UserError(f"cannot resolve host {host!r}: {error}. Accepted: {_HOSTS}.") from error
    for candidate in PORTS if port is None else (port,):
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((address[0], candidate, *address[2:]))
            listening.listen(128)
            return listening
        except OSError as error:
            listening.close()
            if isinstance(error, PermissionError):
                raise UserError(f"port {candidate} is reserved for the system. Choose another --port.") from error
            if error.errno != errno.EADDRINUSE:
                raise UserError(f"cannot listen on {host!r}: {error.strerror}. Accepted: {_HOSTS}.") from error
    taken = f"port {port} is" if port is not None else f"ports {PORTS[0]} to {PORTS[-1]} are all"
    raise UserError(f"{taken} in use on {host}. Choose another --port, or --port 0 for any free port.")


def is_loopback(listening: socket.socket) -> bool:
    """Return whether only this machine can reach a socket."""
    return ipaddress.ip_address(listening.getsockname()[0]).is_loopback


def url_of(listening: socket.socket) -> str:
    """Return the URL of a socket for a browser on this machine."""
    return f"http://{host_of(listening)}:{listening.getsockname()[1]}/"


def host_of(listening: socket.socket) -> str:
    """Return the host part of the URL, with IPv6 addresses in brackets."""
    host = listening.getsockname()[0]
    if ipaddress.ip_address(host).is_unspecified:
        host = "127.0.0.1" if listening.family == socket.AF_INET else "::1"
    return f"[{host}]" if ":" in host else host
