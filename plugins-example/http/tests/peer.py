"""A key-value server over HTTP to test against: the standard library alone, entries in memory, real lives.

It is a peer, so it shares no code and no idea with the plugin. Two APIs, told apart by their path:

/client/v4/accounts/ACCOUNT/storage/kv/namespaces/NAMESPACE/values/KEY   as Cloudflare's KV has it
    PUT with ?expiration_ttl=SECONDS (at least --minimum) stores the body; GET; DELETE answers 200 whatever was there; no HEAD.
    Bearer token.
/house/SPACE/get?k=HEX   /house/SPACE/set?k=HEX   /house/SPACE/entry/BASE64URL   what somebody wrote for her own needs
    POST set with {"data": BASE64, "ttl_ms": N}, 0 for no end; GET get answers the same form, 404 without; DELETE answers 204, or 200 and
    X-Absent: yes. HEAD entry. Basic authentication and a header X-Team: cache.
/up   200, without credentials.

Prints its port. Ends when its standard input does. With --certificate and --key (files) it speaks TLS, and with --clients (a file with
an authority's certificate) only with whom that authority vouches for; --tls 1.2 speaks no newer version.
"""

import base64
import binascii
import json
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote_to_bytes, urlsplit


def argument(name, otherwise=None):
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else otherwise


MINIMUM = int(argument("--minimum", 60))
TOKEN, USER, PASSWORD = "t0ken-of-the-peer", "team", "pass:word"
MAX_BODY = 8 << 20
entries = {}
guard = threading.Lock()


def read(key):
    with guard:
        value, end = entries.get(key, (None, None))
        if end is not None and time.monotonic() >= end:
            del entries[key]
            return None
        return value


def write(key, value, life):
    with guard:
        entries[key] = (value, None if life is None else time.monotonic() + life)


def remove(key):
    with guard:
        value, end = entries.pop(key, (None, None))
        return value is not None and (end is None or time.monotonic() < end)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body in one packet: apart they would wait for each other's acknowledgement.
    wbufsize = -1
    disable_nagle_algorithm = True

    def log_message(self, *arguments):
        pass

    def answer(self, status, body=b"", headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()

    def body(self):
        """The whole body, or None if it did not all arrive."""
        length = int(self.headers.get("Content-Length", "-1"))
        if length < 0 or length > MAX_BODY:
            self.close_connection = True
            return None
        body = self.rfile.read(length)
        if len(body) < length:
            self.close_connection = True
            return None
        return body

    def route(self):
        url = urlsplit(self.path)
        parts = url.path.split("/")[1:]
        query = parse_qs(url.query, keep_blank_values=True)
        if parts == ["up"]:
            return self.answer(200)
        if parts[:3] == ["client", "v4", "accounts"] and parts[4:7] == ["storage", "kv", "namespaces"] and len(parts) == 10:
            return self.cloudflare(("kv", parts[3], parts[7], unquote_to_bytes(parts[9])), query)
        if parts[0] == "house" and len(parts) in (3, 4):
            return self.house(parts, query)
        # What was asked for is no path of this server, so a body that follows is none of its business.
        self.close_connection = True
        return self.answer(400)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_PATCH = route

    def cloudflare(self, key, query):
        body = self.body() if self.command == "PUT" else b""
        if body is None:
            return None
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.answer(403, b'{"success": false, "errors": [{"code": 10000}]}')
        if self.command == "PUT":
            life = query.get("expiration_ttl")
            if life is not None and int(life[0]) < MINIMUM:
                return self.answer(400, b'{"success": false, "errors": [{"code": 10033}]}')
            write(key, body, None if life is None else int(life[0]))
            return self.answer(200, b'{"success": true}', [("Content-Type", "application/json")])
        if self.command == "DELETE":
            remove(key)
            return self.answer(200, b'{"success": true}', [("Content-Type", "application/json")])
        if self.command == "GET":
            value = read(key)
            if value is None:
                return self.answer(404, b'{"success": false, "errors": [{"code": 10009}]}')
            # As the real one may do: what the bytes are is the server's guess.
            return self.answer(200, value, [("Content-Type", "text/html; charset=utf-8")])
        return self.answer(405)

    def house(self, parts, query):
        body = self.body() if self.command == "POST" else b""
        if body is None:
            return None
        basic = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if self.headers.get("Authorization") != basic or self.headers.get("X-Team") != "cache":
            return self.answer(401, b"", [("WWW-Authenticate", "Basic")])
        try:
            if parts[2] == "entry":
                name = base64.urlsafe_b64decode(parts[3] + "=" * (-len(parts[3]) % 4))
            else:
                name = bytes.fromhex(query["k"][0])
        except (KeyError, ValueError, IndexError, binascii.Error):
            return self.answer(400)
        key = ("house", parts[1], name)
        asked = (self.command, parts[2])
        if asked == ("POST", "set"):
            document = json.loads(body)
            life = document.get("ttl_ms", 0)
            write(key, base64.b64decode(document["data"]), life / 1000 if life else None)
            return self.answer(201)
        if asked == ("GET", "get"):
            value = read(key)
            if value is None:
                return self.answer(404)
            document = {"data": base64.b64encode(value).decode(), "note": "not a value"}
            return self.answer(200, json.dumps(document).encode(), [("Content-Type", "application/json")])
        if asked == ("HEAD", "entry"):
            return self.answer(404 if read(key) is None else 200)
        if asked == ("DELETE", "entry"):
            return self.answer(204) if remove(key) else self.answer(200, b"", [("X-Absent", "yes")])
        return self.answer(405)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request, client_address):
        """Clients that go away are part of the tests."""


server = Server(("127.0.0.1", 0), Handler)
if argument("--certificate"):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(argument("--certificate"), argument("--key"))
    if argument("--clients"):
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(argument("--clients"))
    if argument("--tls") == "1.2":
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    # Not while connections are accepted: one that says nothing would keep the others waiting.
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_address[1], flush=True)
sys.stdin.read()
