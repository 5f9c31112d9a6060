"""A server that knows nothing of any master: what it answers says who and what it is."""
import os
import signal
import socket
import sys
import time

PATHS = sys.argv[2:]


def header():
    number = lambda name: os.environ.get(name, "0")
    return "slot={} id={} pid={} gen={}".format(
        number("RR_SLOT"), number("RR_WORKER_ID"), os.getpid(), number("RR_GENERATION")
    )


def respond(connection, path):
    body = {
        "/": "hello\n",
        "/port": "%d\n" % server.getsockname()[1],
        "/preload": os.environ.get("LD_PRELOAD", "") + "\n",
    }.get(path, path + "\n")
    if path == "/slow":
        # Answered when the client sends another byte.
        connection.recv(1)
    text = "HTTP/1.1 200 OK\r\nX-Worker: %s\r\nContent-Length: %d\r\n\r\n%s"
    connection.sendall((text % (header(), len(body), body)).encode())


def finish(number, frame):
    print("slot=%s got %s" % (os.environ.get("RR_SLOT"), signal.Signals(number).name), flush=True, file=sys.stderr)
    sys.exit(0)


for name in filter(None, os.environ.get("HANDLES", "").split(",")):
    signal.signal(getattr(signal, "SIG" + name), finish)


def listen(address):
    host, port = address.rsplit(":", 1)
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((host, int(port)))
    listening.listen()
    return listening


try:
    server = listen(sys.argv[1])
except OSError:
    # As many do whose port is taken: the next one.
    if "ELSE" not in os.environ:
        raise
    server = listen(os.environ["ELSE"])
if "SOON" in os.environ:
    time.sleep(float(os.environ["SOON"]))
while True:
    connection, peer = server.accept()
    request = b""
    while b"\r\n\r\n" not in request:
        piece = connection.recv(4096)
        if not piece:
            break
        request += piece
    if request:
        respond(connection, request.split(b" ")[1].decode())
    connection.close()
