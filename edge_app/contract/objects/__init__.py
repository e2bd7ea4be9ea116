"""The site's store of objects, as the edge and the trainer reach it: a folder, S3, or another store that fsspec knows.

    store = open_store(settings, stop)            # settings: `ObjectStoreSettings`; nobody is asked yet
    store.put(name, path, sha256)                 # whole or not at all, and confirmed; True when it was sent
    store.confirm(name, sha256)                   # raises unless the other end has exactly these bytes
    store.list("berlin/crops/")                   # [Stored(name, size)], sorted
    store.get(name, path, sha256)                 # into a file, whole or not at all
    store.delete(name)                            # also when it is not there
    etag = store.create(name, content)            # fails where the name exists; a lock begins so
    content, etag = store.read(name)
    etag = store.replace(name, content, etag)     # fails when somebody was faster
    store.sweep("berlin/crops")                   # what interrupted writers left behind, a day and older

An existing name is never overwritten by `put`: the same digest is done already, another one is `ObjectTakenError`.
Whatever the libraries below raise becomes one of the `ObjectStoreError`s of `edge_app.contract.errors` here; the local
file's own troubles stay `OSError`.

| | folder | S3 | other |
|---|---|---|---|
| `put` | `.part`, fsync, rename; digest while copying | one conditional PutObject with SHA-256 | `.part`, move |
| `confirm` | reads the object | one HeadObject, reads nothing | reads the object |
| `create`, `replace` | under the folder's guard | `If-None-Match`, `If-Match` | refused |
| tested with | local disk | SeaweedFS | fsspec's `memory`; others are untested |

Cost law on S3: `put` is 2 HeadObject and 1 PutObject, `confirm` 1 HeadObject, `list` 1 request a 1,000 names, every
other call 1 request. A folder is listed below the last `/` of the prefix only. Memory is constant but for `create`,
`read` and `replace`, whose objects are at most 1 MiB.

Every wait on S3 is bounded by `silent_s` without a byte moving, and ends within 0.2 s once `stop` is set. A folder on a
network that hangs holds its caller as long as the system does.
"""

from edge_app.contract.objects.opening import open_store
from edge_app.contract.objects.settings import ObjectStoreSettings
from edge_app.contract.objects.store import ObjectStore, Pace, Stored, sha256_of

__all__ = ["ObjectStore", "ObjectStoreSettings", "Pace", "Stored", "open_store", "sha256_of"]
