"""Phones that never get as far as adbd: one that waits for its owner to allow debugging, one that answers nothing.

    stubborn.py unauthorized PORT | offline PORT

They speak just enough of adb's wire protocol (packages/modules/adb, protocol.txt) for a real adb to list them so.
"""

import socket
import struct
import sys
import threading

A_CNXN, A_AUTH = b"CNXN", b"AUTH"
TOKEN = 1


def packet(command: bytes, first: int, second: int, data: bytes) -> bytes:
    number = struct.unpack("<I", command)[0]
    return struct.pack("<6I", number, first, second, len(data), sum(data) & 0xFFFFFFFF, number ^ 0xFFFFFFFF) + data


def read_exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        block = connection.recv(count - len(data))
        if not block:
            raise ConnectionError
        data += block
    return data


def serve(connection: socket.socket, kind: str):
    try:
        while True:
            header = struct.unpack("<6I", read_exactly(connection, 24))
            read_exactly(connection, header[3])
            command = struct.pack("<I", header[0])
            # to the greeting and to every signature: sign this token; the owner has not said yes
            if kind == "unauthorized" and command in (A_CNXN, A_AUTH) and header[1] != 3:
                connection.sendall(packet(A_AUTH, TOKEN, 0, b"t" * 20))
    except (ConnectionError, OSError):
        pass


def main():
    listener = socket.create_server(("127.0.0.1", int(sys.argv[2])))
    print("listening", flush=True)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection, sys.argv[1]), daemon=True).start()


if __name__ == "__main__":
    main()
