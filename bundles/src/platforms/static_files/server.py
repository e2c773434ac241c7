"""Serves the files of one folder. Arguments: the folder, the port."""

import http.server
import os
import signal
import socketserver
import sys
import threading

ROOT = os.path.realpath(sys.argv[1])
PORT = int(sys.argv[2])
INDEX = ("index.html", "index.htm")


def is_served(path):
    """Whether path, with every link followed, is below ROOT and no part of it is hidden."""
    for name in (os.path.abspath(path), os.path.realpath(path)):
        if os.path.commonpath([ROOT, name]) != ROOT:
            return False
        for part in os.path.relpath(name, ROOT).split(os.sep):
            if part.startswith(".") and part not in (".", ".well-known"):
                return False
    return True


class Handler(http.server.SimpleHTTPRequestHandler):
    # One request for each connection (HTTP/1.0), so that no body is ever taken for a request.
    timeout = 60
    server_version = "metactl-static"
    sys_version = ""

    def __init__(self, *args):
        super().__init__(*args, directory=ROOT)

    def send_head(self):
        path = self.translate_path(self.path)
        paths = [path]
        if os.path.isdir(path):
            index = (os.path.join(path, name) for name in INDEX)
            paths += [name for name in index if os.path.exists(name)]
        elif not os.path.isfile(path):
            paths = []  # Nothing, or a pipe that would never end.
        if paths and all(is_served(name) for name in paths):
            return super().send_head()
        self.send_error(404)
        return None

    def list_directory(self, path):
        self.send_error(404)
        return None


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    request_queue_size = 128

    def server_bind(self):
        # Not HTTPServer's own, which asks the DNS for a name that nobody needs.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "static", PORT


server = Server(("", PORT), Handler)
# shutdown() waits for the loop that this handler interrupts, so it needs a thread of its own.
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever()
# Waits for what is being sent.
server.server_close()
