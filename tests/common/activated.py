"""A program that is started with its listening sockets, as systemd starts services, and knows of no
other way: sd_listen_fds(3). It answers one request after the other.

  /        says hello
  /names   the names of its listeners, and the numbers of their descriptors
  /shut    shuts the listener down on which it came, for everybody who has a copy
"""

import os
import select
import signal
import socket
import sys

FIRST = 3


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if os.environ["LISTEN_PID"] != str(os.getpid()):
        sys.exit(f"activated: LISTEN_PID is {os.environ['LISTEN_PID']}, not {os.getpid()}")
    count = int(os.environ["LISTEN_FDS"])
    names = os.environ["LISTEN_FDNAMES"].split(":")
    assert len(names) == count
    waits = all(os.get_blocking(FIRST + number) for number in range(count))
    listeners = [socket.socket(fileno=FIRST + number) for number in range(count)]
    while True:
        # With one listener that waits, and nobody who could have it otherwise, accept(2) would do.
        for listener in select.select(listeners, [], [], 0.2)[0]:
            try:
                connection, _ = listener.accept()
            except OSError:
                # Somebody was faster, or has shut it down.
                continue
            with connection:
                serve(connection, listener, dict(zip(names, range(FIRST, FIRST + count))), waits)


def serve(connection, listener, names, waits):
    connection.settimeout(20)
    request = connection.makefile("rb").readline().decode()
    path = request.split(" ")[1] if request else "/"
    body = "hello"
    if path == "/names":
        body = f"{names} {'waits' if waits else 'does not wait'}"
    if path == "/shut":
        listener.shutdown(socket.SHUT_RDWR)
    who = " ".join(
        f"{name}={value}"
        for name, value in {
            "slot": os.environ["RR_SLOT"],
            "id": os.environ["RR_WORKER_ID"],
            "pid": os.getpid(),
            "gen": os.environ["RR_GENERATION"],
        }.items()
    )
    answer = f"HTTP/1.1 200 OK\r\nX-Worker: {who}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    try:
        connection.sendall(answer.encode())
    except OSError:
        pass


main()
