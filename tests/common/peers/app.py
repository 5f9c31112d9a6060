"""What gunicorn and uWSGI are measured with: one short answer to each request. PAD is the
length of a header that makes it as long as everybody's."""

import os

BODY = b"Hello, world!\n"
HEADERS = [
    ("Content-Type", "text/plain"),
    ("Content-Length", str(len(BODY))),
    ("X-Pad", "x" * int(os.environ["PAD"])),
]


def application(_, start_response):
    start_response("200 OK", HEADERS)
    return [BODY]
