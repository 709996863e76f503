"""A bucket of Google Cloud Storage on this machine, for tests of gs:// paths.

It answers what gcsfs and tensorstore ask: objects by name, parts of them, and
lists. Objects are the files of a folder; every request is counted.
"""

import contextlib
import http.server
import json
import pathlib
import re
import threading
import urllib.parse

BUCKET = 'bucket'


class _Handler(http.server.BaseHTTPRequestHandler):
  protocol_version = 'HTTP/1.1'

  def log_message(self, *args):
    del args

  @property
  def _root(self) -> pathlib.Path:
    return self.server.root  # type: ignore[attr-defined]

  def _send(self, status: int, body: bytes, headers=()):
    self.send_response(status)
    for name, value in (('Content-Length', str(len(body))), *headers):
      self.send_header(name, value)
    self.end_headers()
    if self.command != 'HEAD':
      self.wfile.write(body)

  def _send_json(self, value, status=200):
    body = json.dumps(value).encode()
    self._send(status, body, [('Content-Type', 'application/json')])

  def do_GET(self):
    url = urllib.parse.urlsplit(self.path)
    query = dict(urllib.parse.parse_qsl(url.query))
    self.server.requests.append(self.path)  # type: ignore[attr-defined]
    match = re.match(rf'.*/b/{BUCKET}/o(?:/(.*))?$', url.path)
    if match is None:
      self._send_json({'name': BUCKET, 'location': 'US'})
    elif match.group(1) is None:
      self._send_json(self._list(query))
    else:
      self._object(urllib.parse.unquote(match.group(1)), query)

  def _list(self, query):
    prefix, cut = query.get('prefix', ''), query.get('delimiter')
    start, end = query.get('startOffset', ''), query.get('endOffset')
    names, folders = [], set()
    for path in sorted(self._root.rglob('*')):
      name = path.relative_to(self._root).as_posix()
      if not path.is_file() or not name.startswith(prefix) or name < start:
        continue
      if end and name >= end:
        continue
      rest = name[len(prefix):]  # fmt: skip
      if cut and cut in rest:
        folders.add(prefix + rest[: rest.index(cut) + 1])
      else:
        names.append(name)
    return {
      'kind': 'storage#objects',
      'items': [self._facts(name) for name in names],
      'prefixes': sorted(folders),
    }

  def _facts(self, name):
    path = self._root / name
    return {
      'kind': 'storage#object',
      'name': name,
      'bucket': BUCKET,
      'size': str(path.stat().st_size),
      'generation': str(path.stat().st_mtime_ns),
      'metageneration': '1',
      'timeCreated': '2024-01-01T00:00:00Z',
      'updated': '2024-01-01T00:00:00Z',
      'contentType': 'application/octet-stream',
    }

  def _object(self, name, query):
    path = self._root / name
    if not path.is_file():
      self._send_json({'error': {'code': 404, 'message': 'Not Found'}}, 404)
      return
    if query.get('alt') != 'media':
      self._send_json(self._facts(name))
      return
    content = path.read_bytes()
    generation = [('x-goog-generation', str(path.stat().st_mtime_ns))]
    asked = re.match(r'bytes=(\d+)-(\d*)', self.headers.get('Range', ''))
    if asked is None:
      self._send(200, content, generation)
      return
    first = int(asked.group(1))
    last = min(int(asked.group(2) or len(content)), len(content) - 1)
    place = f'bytes {first}-{last}/{len(content)}'
    part = content[first : last + 1]
    self._send(206, part, [('Content-Range', place), *generation])

  def do_POST(self):
    url = urllib.parse.urlsplit(self.path)
    query = dict(urllib.parse.parse_qsl(url.query))
    body = self.rfile.read(int(self.headers.get('Content-Length', 0)))
    name = query.get('name')
    if query.get('uploadType') == 'resumable':  # the content comes by PUT
      host, port = self.server.server_address[:2]
      place = f'http://{host}:{port}{url.path}?name={urllib.parse.quote(name)}'
      self._send(200, b'', [('Location', place)])
      return
    if query.get('uploadType') == 'multipart':  # facts, then content
      kind = self.headers['Content-Type']
      boundary = re.search('boundary="?([^";]+)', kind).group(1).encode()
      facts, body = (
        re.split(rb'\r?\n\r?\n', part, maxsplit=1)[1]
        for part in body.split(b'--' + boundary)[1:3]
      )
      name, body = json.loads(facts)['name'], body.removesuffix(b'\n')
    self._keep(name, body)

  def do_PUT(self):
    query = urllib.parse.urlsplit(self.path).query
    body = self.rfile.read(int(self.headers.get('Content-Length', 0)))
    self._keep(dict(urllib.parse.parse_qsl(query))['name'], body)

  def _keep(self, name, body):
    path = self._root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    self._send_json(self._facts(name))


class _Server(http.server.ThreadingHTTPServer):
  daemon_threads = True

  def handle_error(self, request, client_address):
    """Clients close connections as they like."""


@contextlib.contextmanager
def served(root: pathlib.Path, monkeypatch):
  """gs://bucket/ is `root` while the block runs; gives the requests made."""
  server = _Server(('127.0.0.1', 0), _Handler)
  server.root, server.requests = root, []  # type: ignore[attr-defined]
  threading.Thread(target=server.serve_forever, daemon=True).start()
  url = f'http://127.0.0.1:{server.server_address[1]}'
  monkeypatch.setenv('STORAGE_EMULATOR_HOST', url)  # gcsfs
  monkeypatch.setenv('TENSORSTORE_GCS_HTTP_URL', url)
  monkeypatch.setenv('GOOGLE_AUTH_TOKEN_FOR_TESTING', 'token')  # tensorstore
  monkeypatch.setenv('NO_GCE_CHECK', 'true')  # or gcsfs waits for a server
  try:
    yield server.requests
  finally:
    server.shutdown()
    server.server_close()
