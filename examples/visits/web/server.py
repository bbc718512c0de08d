"""A web service that counts its visits in Redis, with nothing but Python's standard library."""

import os
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REDIS = (os.environ["REDIS_HOST"], int(os.environ.get("REDIS_PORT", "6379")))


def count_visit() -> int:
    """Asks Redis to add one to `visits`; returns the new number."""
    with socket.create_connection(REDIS, timeout=5) as connection:
        connection.sendall(b"*2\r\n$4\r\nINCR\r\n$6\r\nvisits\r\n")
        reply = connection.makefile("rb").readline()
    if not reply.startswith(b":"):
        raise OSError(f"redis said {reply!r}")
    return int(reply[1:])


class Visits(BaseHTTPRequestHandler):
    """Answers every GET with the number of visits so far."""

    def do_GET(self):
        try:
            status, body = 200, f"You are visit number {count_visit()}.\n"
        except OSError as error:
            status, body = 503, f"Redis at {REDIS[0]}:{REDIS[1]} cannot be reached: {error}\n"
        payload = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)


if __name__ == "__main__":
    port = int(os.environ.get("PORT", "8080"))
    print(f"visits: listening on port {port}, counting in {REDIS[0]}:{REDIS[1]}")
    try:
        ThreadingHTTPServer(("", port), Visits).serve_forever()
    except KeyboardInterrupt:
        print("visits: stopped")
