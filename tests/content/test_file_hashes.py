"""Files are known by their bytes, and read again only if they were written since."""

import hashlib
import os

from recbole_perpeft.content import file_hashes
from recbole_perpeft.content.file_hashes import hash_files


def test_a_file_is_its_bytes_and_is_read_once(tmp_path, monkeypatch):
    files = [tmp_path / "pictures" / name for name in ("a", "b", "missing")]
    files[0].parent.mkdir()
    for file in files[:2]:
        file.write_bytes(file.name.encode() * 9)
    expected = [hashlib.sha256(letter * 9).hexdigest() for letter in (b"a", b"b")]
    read, hash_file = [], file_hashes._hash_file
    monkeypatch.setattr(file_hashes, "_hash_file", lambda path: read.append(path.name) or hash_file(path))
    asked = [files[0], None, *files[1:]]
    found = hash_files(asked, tmp_path / "notes")
    assert found == [expected[0], None, expected[1], "unreadable: No such file or directory"]
    assert hash_files(asked, tmp_path / "notes") == found
    assert read.count("a") == 2  # written just now: a change would not show
    monkeypatch.setattr(file_hashes, "_SETTLED", -(10**12))
    for _ in range(3):
        assert hash_files(asked, tmp_path / "notes") == found
    assert read.count("a") == 3
    before = files[0].stat()
    files[0].write_bytes(b"c" * 9)
    os.utime(files[0], ns=(before.st_atime_ns, before.st_mtime_ns))
    assert hash_files(asked, tmp_path / "notes")[0] == hashlib.sha256(b"c" * 9).hexdigest()
    (next((tmp_path / "notes").iterdir())).write_text("half a fi")
    assert hash_files(asked, tmp_path / "notes")[2] == expected[1]
