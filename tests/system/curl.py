"""As much of curl as the demo's command lines use, for machines that have none."""

import argparse
import http.client
import sys
import time
from urllib.parse import urlsplit

parser = argparse.ArgumentParser()
parser.add_argument("-s", action="store_true")
parser.add_argument("-i", action="store_true")
parser.add_argument("-N", action="store_true")
parser.add_argument("-H", action="append", default=[])
parser.add_argument("-d")
parser.add_argument("-o")
parser.add_argument("-w", default="")
parser.add_argument("--max-time", type=float, default=30.0)
parser.add_argument("url")
options = parser.parse_args()

url = urlsplit(options.url)
headers = dict(line.split(": ", 1) for line in options.H)
if options.d is not None:
    headers["Content-Type"] = "application/x-www-form-urlencoded"
connection = http.client.HTTPConnection(url.netloc, timeout=options.max_time)
connection.request("GET" if options.d is None else "POST", url.path or "/", options.d, headers)
reply = connection.getresponse()
out = sys.stdout.buffer
if options.i:
    out.write(f"HTTP/1.1 {reply.status} {reply.reason}\r\n".encode())
    out.writelines(f"{name}: {value}\r\n".encode() for name, value in reply.getheaders())
    out.write(b"\r\n")
if reply.status == 101:  # what comes now is no body: show it as it comes, until the time is over
    ends = time.monotonic() + options.max_time
    connection.sock.settimeout(options.max_time)
    try:
        while time.monotonic() < ends and (piece := reply.fp.read1()):
            out.write(piece)
    except TimeoutError:
        pass
    out.flush()
    raise SystemExit(28)
body = reply.read()
if options.o is None:
    out.write(body)
out.write(options.w.replace("%{http_code}", str(reply.status)).encode())
