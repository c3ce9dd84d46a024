"""Asks a resolver for two names, and has datagrams echoed."""

import socket
import sys

SERVER = sys.argv[1]


def ask(port, question):
    """Sends one datagram, and waits a little for the answer, which may be lost."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.settimeout(0.3)
        for _ in range(4):
            udp.sendto(question, (SERVER, port))
            try:
                return udp.recv(4096)
            except socket.timeout:
                pass
    return b""


for number, name in enumerate((b"www", b"mail")):
    labels = bytes([len(name)]) + name + b"\7example\3org\0"
    ask(53, bytes([0x12, number]) + b"\1\0\0\1\0\0\0\0\0\0" + labels + b"\0\1\0\1")

with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as echo:
    echo.settimeout(0.2)
    for size in range(20, 1400, 40):
        echo.sendto(b"y" * size, (SERVER, 5000))
        try:
            echo.recv(4096)
        except socket.timeout:
            pass
