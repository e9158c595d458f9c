"""A stand-in for the Hugging Face Hub on this machine: as much of its HTTP service as one model needs."""

import base64
import hashlib
import json
import threading
import urllib.parse
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SHA = "0" * 39 + "1"


class Hub:
    """What it holds, and what was asked of it; ``refuse`` is a status that every request is answered with."""

    def __init__(self, url):
        self.url, self.repos, self.asked = url, {}, []
        self.refuse = 0


@contextmanager
def serving():
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def answer(self, status, content=b"", **headers):
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def handle_one(self):
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length) if length else self.chunked()
            path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
            hub.asked.append((self.command, path))
            if hub.refuse:
                return self.answer(hub.refuse, {"error": "refused"})
            if path == "/api/repos/create":
                asked = json.loads(body)
                repo = f"{asked.get('organization', 'me')}/{asked['name']}"
                hub.repos.setdefault(repo, {})
                return self.answer(200, {"url": f"{hub.url}/{repo}", "name": repo})
            if path == "/api/validate-yaml":
                return self.answer(200, {"errors": [], "warnings": []})
            words = path.strip("/").split("/")
            if words[:2] == ["api", "models"]:
                return self.model("/".join(words[2:4]), words[4:], body)
            if words[2:3] == ["resolve"]:
                return self.resolve("/".join(words[:2]), "/".join(words[4:]))
            return self.answer(404, {"error": f"no {path}"})

        def chunked(self):
            body = b""
            if self.headers.get("Transfer-Encoding") == "chunked":
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            return body

        def model(self, repo, words, body):
            if repo not in hub.repos:
                return self.answer(404, {"error": "none"}, X_Error_Code="RepoNotFound")
            files = hub.repos[repo]
            match words:
                case ["preupload", _]:
                    asked = json.loads(body)["files"]
                    ready = [
                        {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in asked
                    ]
                    return self.answer(200, {"files": ready})
                case ["commit", _]:
                    for line in body.splitlines():
                        row = json.loads(line)
                        if row["key"] == "file":
                            files[row["value"]["path"]] = base64.b64decode(row["value"]["content"])
                    made = {"success": True, "commitOid": SHA, "commitUrl": f"{hub.url}/{repo}/commit/{SHA}"}
                    return self.answer(200, made)
                case ["tree", *_]:
                    return self.answer(200, [self.entry(name, data) for name, data in files.items()])
                case [] | ["revision", _]:
                    names = [{"rfilename": name} for name in files]
                    return self.answer(200, {"id": repo, "sha": SHA, "siblings": names, "tags": []})
            return self.answer(404, {"error": f"no {words}"})

        def entry(self, name, data):
            return {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}

        def resolve(self, repo, name):
            data = hub.repos.get(repo, {}).get(name)
            if data is None:
                return self.answer(404, {"error": "none"}, X_Error_Code="EntryNotFound")
            etag = f'"{hashlib.sha1(data).hexdigest()}"'
            return self.answer(200, data, ETag=etag, X_Repo_Commit=SHA)

        do_GET = do_POST = do_HEAD = handle_one

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub = Hub(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
