"""A webhook's receiver: checks each signature by Python's own HMAC and writes down what it got, a JSON document a line.

Usage: receiver.py PORT FILE SECRET [take|quote]: `quote` takes nothing and answers with the headers that it was sent, as a
careless peer does.
"""

import hashlib
import hmac
import http.server
import json
import sys
import time

PORT, FILE, SECRET, MODE = int(sys.argv[1]), sys.argv[2], sys.argv[3].encode(), (sys.argv[4:] or ["take"])[0]


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        stamp = self.headers.get("X-Palisade-Timestamp", "")
        wanted = "v1=" + hmac.new(SECRET, stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
        signed = hmac.compare_digest(wanted, self.headers.get("X-Palisade-Signature", ""))
        fresh = stamp.isdigit() and abs(time.time() - int(stamp)) < 60
        with open(FILE, "a") as file:
            document = {
                "signed": signed and fresh,
                "key": self.headers.get("Idempotency-Key"),
                "path": self.path,
                "body": json.loads(body),
            }
            file.write(json.dumps(document) + "\n")
        if MODE == "quote":
            # Who was shown a signature shares the key.
            key = SECRET.decode() if stamp else ""
            self.answer(401, f"{self.path} {key} {self.headers}".replace("\n", " "))
        else:
            self.answer(200, "thanks")

    def answer(self, status, text):
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


http.server.HTTPServer(("127.0.0.1", PORT), Receiver).serve_forever()
