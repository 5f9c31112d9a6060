"""Python's own http.server, a thread per connection: answers with its pid.

    python3 server.py 127.0.0.1 8000
"""

import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = f"{os.getpid()}\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


if __name__ == "__main__":
    host, port = sys.argv[1:] or ["127.0.0.1", "8000"]
    server = ThreadingHTTPServer((host, int(port)), Handler)
    print("listening on %s:%d" % server.socket.getsockname(), flush=True)
    server.serve_forever()
